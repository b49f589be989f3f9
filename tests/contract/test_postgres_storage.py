"""A study lives in PostgreSQL as it does in a file. Started here, where its programs are found."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from optuna.storages import RDBStorage
from tests.postgres import create_database, running_postgres

from studyflow.errors import StorageUnavailable
from studyflow.samplers import make_pruner, make_sampler
from studyflow.spec import StudySpec
from studyflow.storage import open_storage
from studyflow.study import Study, Verdict
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

N_TRIALS = 12

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


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Give the URL of a PostgreSQL of our own."""
    with running_postgres() as postgres:
        yield postgres.url


@pytest.fixture
def url(server: str, request: pytest.FixtureRequest) -> str:
    """Give the URL of an empty database."""
    return create_database(server, request.node.name)


def test_a_study_is_kept_and_continued(url: str) -> None:
    with open_study(url) as first:
        assert [finish(first) for _ in range(5)] == [True] * 5

    with open_study(url) as second:
        while finish(second):
            pass
        records, best = second.records(), second.trials().best

    assert [record.state for record in records] == [TrialState.COMPLETE] * N_TRIALS
    assert len({_x(record) for record in records}) == N_TRIALS
    assert best[0].values == (min(_x(record) for record in records),)


@pytest.mark.fault("F24")
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
