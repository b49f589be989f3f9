"""A runner that stands still before, inside or after a write of PostgreSQL, at every statement."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from tests.faults.place import ROOT
from tests.postgres import create_database, running_postgres
from tests.stopped_runner import (
    SCENES,
    begun,
    check_invariants,
    clear,
    finish,
    make_spec,
    open_study,
    take_over,
    tell,
)

from studyflow.storage import PatientStorage, TransactionLimits, open_storage
from studyflow.study import Study, Verdict
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

LIMITS = TransactionLimits(lock_seconds=0.05, idle_seconds=0.12)


class Killed(BaseException):
    """The runner dies here, and its connection with it."""


SENT = "sent"
"""What comes after a transaction of one text, which needs no commit."""


class Brake:
    """Stops whoever is about to send a statement, or a commit, to a database, or has sent one.

    Args:
        storage: The database as one runner sees it.
    """

    def __init__(self, storage: RDBStorage) -> None:
        import sqlalchemy

        self._n_left: int | None = None
        self._kills = False
        self._transactions: list[list[str]] | None = None
        self.is_stopped = threading.Event()
        self._may_go_on = threading.Event()
        for event, arrive in (
            ("before_cursor_execute", lambda *arguments: self._arrive(arguments[2])),
            ("commit", lambda _: self._arrive("COMMIT")),
            ("rollback", lambda _: self._arrive(SENT)),
        ):
            sqlalchemy.event.listen(storage.engine, event, arrive)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Take down what is sent, transaction by transaction."""
        self._transactions = [[]]
        try:
            yield
        finally:
            self._recorded, self._transactions = self._transactions, None

    @property
    def moments(self) -> list[int]:
        """How many statements come before each one of a transaction that writes.

        Stopped in one that only reads, a runner holds nothing, and what it has read is as old as
        what it knows at the first statement of the next one.
        """
        moments: list[int] = []
        n = 0
        for statements in self._recorded:
            if any("INSERT" in statement or "UPDATE" in statement for statement in statements):
                moments += range(n, n + len(statements))
            n += len(statements)
        assert len(moments) >= 2
        return moments

    def arm(self, n_passed: int, *, kills: bool = False) -> None:
        self._n_left, self._kills = n_passed, kills
        self.is_stopped.clear()
        self._may_go_on.clear()

    def release(self) -> None:
        self._n_left = None
        self._may_go_on.set()

    def _arrive(self, statement: str) -> None:
        if self._transactions is not None:
            self._transactions[-1].append(statement)
            if statement in ("COMMIT", SENT):
                self._transactions.append([])
        if self._n_left is None:
            return
        self._n_left -= 1
        if self._n_left < 0:
            self._n_left = None
            self.is_stopped.set()
            if self._kills:
                raise Killed
            assert self._may_go_on.wait(20)


@dataclass(frozen=True)
class Runners:
    """Two runners' connections to one database."""

    url: str
    a: PatientStorage
    b: PatientStorage
    brake: Brake


@pytest.fixture(scope="module")
def runners() -> Iterator[Runners]:
    with running_postgres() as postgres:
        url = create_database(postgres.url, "stopped writes")
        opened = [open_storage(url, limits=LIMITS) for _ in range(2)]
        a, b = (PatientStorage(s, 20.0, sleep=lambda _: time.sleep(0.02)) for s in opened)
        assert isinstance(opened[0], RDBStorage)
        yield Runners(url, a, b, Brake(opened[0]))
        for storage in opened:
            assert isinstance(storage, RDBStorage)
            storage.remove_session()
            storage.engine.dispose()


@pytest.mark.fault("F25", "F63")
@pytest.mark.parametrize(
    ("scene", "is_alone"),
    [("ask", True), ("ask", False), ("begin", True), ("report", True), ("tell", True)],
)
def test_a_runner_stopped_at_any_statement_holds_nobody_up_and_its_late_write_is_refused(
    scene: str, is_alone: bool, runners: Runners
) -> None:
    spec = make_spec(name=f"{scene} {is_alone}", budget={"n_trials": 1000})
    second = open_study(spec, runners.b)
    prepare, act = SCENES[scene].prepare, SCENES[scene].act

    def prepared() -> tuple[Study, TrialRecord | None]:
        clear(second)
        first = open_study(spec, runners.a)
        if not is_alone:  # a runner claims its trials first where others have asked since
            asked = second.ask("a")
            assert asked is not None
            clear(second)
            first.trials()
        return first, prepare(first)

    first, seen = prepared()
    with runners.brake.recording():
        act(first, seen)
    with ThreadPoolExecutor(1) as thread:
        for n_passed in runners.brake.moments:
            first, seen = prepared()
            runners.brake.arm(n_passed)
            acting = thread.submit(act, first, seen)
            try:
                assert runners.brake.is_stopped.wait(20)
                launched = take_over(second)
            finally:
                runners.brake.release()
            acting.result(20)  # refused without an error
            if launched is not None and not launched.state.is_finished:
                finish(second, launched)
            check_invariants(second)


@pytest.mark.fault("F62")
def test_a_runner_killed_at_any_statement_of_an_end_leaves_nothing_to_the_next_attempt(
    runners: Runners,
) -> None:
    spec = make_spec(name="killed", budget={"n_trials": 1000})
    first, second = open_study(spec, runners.a), open_study(spec, runners.b)
    seen = begun(first)
    with runners.brake.recording():
        tell(first, seen)
    for n_passed in runners.brake.moments:
        seen = begun(first)
        runners.brake.arm(n_passed, kills=True)
        with pytest.raises(Killed):
            tell(first, seen)
        launched = take_over(second)
        assert launched is not None
        finish(second, launched)
        check_invariants(second)


RUNNER = """
import sys
from studyflow.storage import PatientStorage, open_storage
from tests.stopped_runner import begun, make_spec, open_study, tell
study = open_study(make_spec(name="real"), PatientStorage(open_storage(sys.argv[1])))
record = begun(study)
print("begun", flush=True)
sys.stdin.readline()
tell(study, record)
print(study.record(0).attempt, study.record(0).state, flush=True)
"""


@pytest.mark.fault("F25", "F63")
def test_a_process_stopped_while_its_end_is_written_holds_nobody_up(runners: Runners) -> None:
    """The server has all of a write, and goes on to its end without the runner."""
    psycopg = pytest.importorskip("psycopg")
    runner = subprocess.Popen(
        [sys.executable, "-c", RUNNER, runners.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    try:
        assert runner.stdin is not None
        assert runner.stdout is not None
        assert runner.stdout.readline() == "begun\n"
        with psycopg.connect(runners.url, autocommit=True) as connection:
            # The runner's update takes a while on the server, so that it is stopped within.
            connection.execute(
                "create function wait_a_while() returns trigger as "
                "$$ begin perform pg_sleep(1); return new; end $$ language plpgsql"
            )
            connection.execute(
                "create trigger slow before update of state on trials for each row "
                "when (new.state = 'COMPLETE') execute function wait_a_while()"
            )
            runner.stdin.write("go\n")
            runner.stdin.flush()
            sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
            while not connection.execute(sleeping).fetchone()[0]:
                assert runner.poll() is None
                time.sleep(0.01)
            runner.send_signal(signal.SIGSTOP)
            study = open_study(make_spec(name="real"), runners.b)
            (record,) = study.running()
            lost = Verdict(Cause.LOST, None, "Nothing more was heard of a.")
            assert not study.end_attempt(0, 1, lost, seen=record), "it has ended meanwhile"
            told = study.record(0)
            assert (told.attempt, told.state) == (1, TrialState.COMPLETE)
            runner.send_signal(signal.SIGCONT)
            said = runner.stdout.readline()
            connection.execute("drop trigger slow on trials")
        assert said == "1 complete\n"
        assert runner.wait(60) == 0
        check_invariants(study)
    finally:
        runner.kill()
        runner.communicate()


@pytest.mark.fault("F62")
@pytest.mark.parametrize("act", ["ask", "tell"])
def test_a_write_that_the_server_breaks_off_at_any_of_its_statements_leaves_nothing(
    act: str, runners: Runners
) -> None:
    psycopg = pytest.importorskip("psycopg")
    spec = make_spec(name=f"broken off {act}", budget={"n_trials": 1000})
    tables = ["trials", "trial_user_attributes"]
    tables += {"ask": ["trial_params"], "tell": ["trial_values", "trial_system_attributes"]}[act]
    study = open_study(spec, runners.b)
    seen = begun(study)
    before = study.record(seen.number)
    with psycopg.connect(runners.url, autocommit=True) as connection:
        connection.execute(
            "create or replace function refuse() returns trigger as "
            "$$ begin raise exception 'refused here'; end $$ language plpgsql"
        )
        for table in tables:
            connection.execute(
                f"create trigger refused after insert or update on {table} "
                "for each row execute function refuse()"
            )
            with pytest.raises(StorageInternalError):
                SCENES[act].act(study, seen)
            connection.execute(f"drop trigger refused on {table}")
            assert study.records() == (before,)
    SCENES[act].act(study, seen)
    assert study.records() != (before,)
    clear(study)
