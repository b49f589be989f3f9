"""Runners, trials, database and MLflow fail at random; in the end the study is whole.

What happens follows from a seed, which a failure prints: STUDYFLOW_FAULT_SEED=7 replays it, as far
as processes ever take the same time twice. The long form has a seed of its own each day.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from tests.faults.havoc import Fault, Havoc, seed_of
from tests.faults.place import Place
from tests.mlflow_server import MlflowServer
from tests.postgres import Postgres, create_database, running_postgres

from studyflow.study import is_counted
from studyflow.trial import Cause
from studyflow.trial.record import TrialState

N_SHORT, N_LONG = 8, 100
"""How many faults; two trials for each."""

IDLE_SECONDS = 1.0
LIMITS = f"-c lock_timeout=200 -c idle_in_transaction_session_timeout={1000 * IDLE_SECONDS:.0f}"
"""Shorter than ours, so that a runner is not stopped for long."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.fault("F23", "F63"),
]


@pytest.fixture
def server() -> Iterator[Postgres]:
    with running_postgres() as postgres:
        yield postgres


class LocalHavoc(Havoc):
    """Breaks things around a study of local trials.

    Args:
        place: The study.
        database: Its storage.
        mlflow: The server that it is shown on.
        seed: Decides what breaks when.
    """

    def __init__(self, place: Place, database: Postgres, mlflow: MlflowServer, seed: int) -> None:
        super().__init__(lambda: place.start(MLFLOW_TRACKING_URI=mlflow.uri), seed)
        self.place = place
        self.database = database
        self.mlflow = mlflow

    def faults(self) -> list[Fault]:
        return [
            self.kill_the_runner,
            self.end_the_runner,
            self.pause_the_runner,
            self.freeze_the_runner_in_a_transaction,
            self.kill_a_trial,
            self.start_another_runner,
            self.stop_the_database,
            self.kill_mlflow,
        ]

    def begun(self) -> set[str]:
        return {str(path) for path in self.place.trials_folder.glob("*/attempt-*")}

    def end_the_runner(self) -> None:
        self.runner.terminate()
        self.runner.wait(120)
        self.runner = self._start()

    def freeze_the_runner_in_a_transaction(self) -> None:
        """Stop it where it may hold locks, for longer than the database lets it stand still."""
        psycopg = pytest.importorskip("psycopg")
        stopped = (
            "select count(*) from pg_stat_activity "
            "where datname <> 'postgres' and state = 'idle in transaction'"
        )
        with psycopg.connect(f"{self.database.url}/postgres", autocommit=True) as connection:
            for _ in range(300):
                self.runner.send_signal(signal.SIGSTOP)
                if connection.execute(stopped).fetchone()[0]:
                    break
                self.runner.send_signal(signal.SIGCONT)
                time.sleep(self.random.uniform(0.0, 0.02))
        time.sleep(1.5 * IDLE_SECONDS)
        self.runner.send_signal(signal.SIGCONT)

    def kill_a_trial(self) -> None:
        """Kill a supervisor, and with it all of its attempt."""
        found = []
        for process in self.place.processes():
            try:
                if any("supervisor" in part for part in process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        if found:
            victim = self.random.choice(sorted(found, key=lambda process: process.pid))
            victim.kill()

    def stop_the_database(self) -> None:
        self.database.stop(self.random.choice(["fast", "immediate"]))
        time.sleep(self.random.uniform(0.0, 2.0))
        self.database.start()

    def kill_mlflow(self) -> None:
        """Kill it and start it again; the next fault may come before it answers."""
        self.mlflow.kill()
        time.sleep(self.random.uniform(0.0, 1.0))
        self.mlflow.launch()


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[MlflowServer]:
    folder = tmp_path / "home"
    folder.mkdir()
    server = MlflowServer(folder)
    server.start()
    yield server
    server.kill()


@pytest.mark.parametrize(
    "n_faults",
    [
        pytest.param(N_SHORT, marks=pytest.mark.timeout(600)),
        pytest.param(N_LONG, marks=[pytest.mark.long, pytest.mark.timeout(6600)]),
    ],
)
def test_whatever_fails_at_random_the_study_comes_out_whole(
    n_faults: int,
    server: Postgres,
    mlflow: MlflowServer,
    tmp_path: Path,
    new_place: Callable[..., Place],
    record_property: Callable[[str, object], None],
) -> None:
    seed = seed_of(n_faults == N_LONG)
    n_trials = 2 * n_faults
    record_property("did", f"{n_faults} faults over {n_trials} trials, seed {seed}")
    database = create_database(server.url, str(tmp_path))
    place = new_place(
        seconds=0.5,
        storage_url=f"{database}?options={quote(LIMITS)}",
        budget={"n_trials": n_trials, "max_parallel_trials": 3},
        retry={"max_attempts": 100, "backoff_seconds": 0.1},
    )
    havoc = LocalHavoc(place, server, mlflow, seed)
    try:
        havoc.wreak(n_faults)
        code = havoc.runner.wait(240 + 10 * n_faults)
    finally:
        print(f"STUDYFLOW_FAULT_SEED={seed} did: {', '.join(havoc.diary)}")

    assert code == 0, place.log
    place.storage_url = database  # whoever only reads is not patient, and may be slow
    mlflow.kill()  # what the last runner could not send, the next one does
    place.run_to_end()
    records = place.records()
    counted = [record for record in records if is_counted(record)]
    assert len(counted) == n_trials
    assert {(r.state, r.cause) for r in counted} == {(TrialState.COMPLETE, Cause.OK)}
    assert all(r.values == (r.params["x"],) for r in counted)
    assert {r.cause for r in records} <= {Cause.OK, Cause.CANCELLED}
    assert place.processes() == []
    assert place.mlflow_trials().keys() == {r.number for r in records}
    place.verify()
