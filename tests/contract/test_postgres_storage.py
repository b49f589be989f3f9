"""A study lives in PostgreSQL as it does in a file. Started here, where its programs are found."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from optuna.storages import RDBStorage

from studyflow.errors import StorageUnavailable
from studyflow.record import TrialRecord, TrialState
from studyflow.samplers import make_pruner, make_sampler
from studyflow.spec import StudySpec
from studyflow.storage import open_storage
from studyflow.study import Study, Verdict
from studyflow.trial import Cause

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

N_TRIALS = 12
USER = "studyflow"

RUNNER = """
import sys
from tests.contract.test_postgres_storage import finish, open_study
with open_study(sys.argv[1]) as study:
    sys.stdin.readline()
    while study.room() > 0:
        finish(study)
"""


def finish(study: Study) -> bool:
    """Run one trial, if there is room."""
    trial = study.ask()
    if trial is None:
        return False
    value = _x(trial)
    study.tell(
        trial.number, Verdict(Cause.OK, TrialState.COMPLETE, values=(value,)), {"loss": value}
    )
    return True


def _x(trial: TrialRecord) -> float:
    value = trial.params["x"]
    assert isinstance(value, float)
    return value


@contextmanager
def open_study(url: str) -> Iterator[Study]:
    """Give the study in a database, with no connection left open after it."""
    spec = StudySpec.from_mapping(
        {
            "name": "学习 'one' [two]",
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "search_space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
            "sampler": {"type": "random", "seed": 0},
            "budget": {"n_trials": N_TRIALS},
            "trial": {"command": ["python", "train.py"]},
        }
    )
    storage = open_storage(url)
    assert isinstance(storage, RDBStorage)
    try:
        yield Study.open(
            spec,
            storage,
            make_sampler=lambda seed, n_trials: make_sampler(spec, seed, n_trials),
            pruner=make_pruner(spec),
        )
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _programs() -> Path | None:
    """Return the folder that holds initdb and pg_ctl."""
    on_path = shutil.which("initdb")
    places = [Path(on_path).parent] if on_path else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((p for p in places if (p / "pg_ctl").exists() and (p / "initdb").exists()), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Give the URL of a PostgreSQL of our own; initdb refuses root, so root is another user."""
    pytest.importorskip("psycopg", reason="needs the extra 'postgres'")
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL here: initdb and pg_ctl are not installed")
    name = None
    if os.geteuid() == 0:
        users = {entry.pw_name for entry in pwd.getpwall()}
        name = next((user for user in ("postgres", "nobody") if user in users), None)
        if name is None:
            pytest.skip("PostgreSQL refuses root, and there is no user postgres or nobody")

    def call(*command: object) -> None:
        words = [str(word) for word in command]
        done = subprocess.run(
            words, user=name, capture_output=True, text=True, cwd="/", timeout=60, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stderr}{done.stdout}"

    # Not tmp_path: only its owner may enter that, and a socket's path has 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="studyflow-pg-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        if name is not None:
            shutil.chown(folder, name)
        port = _free_port()
        data = folder / "data"
        call(programs / "initdb", "-D", data, "-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8")
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -F"
        control: Sequence[object] = (programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log")
        call(*control, "-o", options, "start")
        try:
            yield f"postgresql://{USER}:secret@127.0.0.1:{port}"
        finally:
            call(*control, "-m", "immediate", "stop")


@pytest.fixture
def url(server: str, request: pytest.FixtureRequest) -> str:
    """Give the URL of an empty database."""
    psycopg = pytest.importorskip("psycopg")
    name = f"db_{abs(hash(request.node.name))}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server}/{name}"


def test_a_study_is_kept_and_continued(url: str) -> None:
    with open_study(url) as first:
        assert [finish(first) for _ in range(5)] == [True] * 5

    with open_study(url) as second:
        while finish(second):
            pass
        records, best = second.records(), second.best()

    assert [record.state for record in records] == [TrialState.COMPLETE] * N_TRIALS
    assert len({_x(record) for record in records}) == N_TRIALS
    assert best[0].values == (min(_x(record) for record in records),)


def test_two_racing_runners_share_the_count_and_no_point(url: str) -> None:
    root = Path(__file__).parents[2]
    runners = [
        subprocess.Popen(
            [sys.executable, "-c", RUNNER, url], stdin=subprocess.PIPE, cwd=root, text=True
        )
        for _ in range(2)
    ]
    for runner in runners:
        runner.communicate("go\n", timeout=90)

    assert [runner.returncode for runner in runners] == [0, 0]
    with open_study(url) as study:
        records = study.records()
    assert Counter(r.cause for r in records if r.cause is not Cause.CANCELLED) == {
        Cause.OK: N_TRIALS
    }
    finished = [_x(r) for r in records if r.cause is Cause.OK]
    assert len(set(finished)) == N_TRIALS


def test_a_database_that_is_missing_is_told_without_its_password(server: str) -> None:
    with pytest.raises(StorageUnavailable, match="does not exist") as caught:
        open_storage(f"{server}/missing")

    assert "secret" not in str(caught.value)
