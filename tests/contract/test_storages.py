"""Optuna's own storage contract, kept by ours: whole, and while calls fail all the time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.testing.pytest_storages import StorageTestCase
from tests.unit.study.studies import make_spec, open_study, run_all

from studyflow.storage import PatientStorage, default_storage_url, open_storage
from studyflow.testing.failing_storage import FailingStorage, StorageFault
from studyflow.trial.record import TrialRecord

pytestmark = pytest.mark.slow


def no_time(seconds: float) -> None:
    """Stand in for `time.sleep`."""


class TestJournal(StorageTestCase):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> BaseStorage:
        return open_storage(default_storage_url(tmp_path))


class TestSqlite(StorageTestCase):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[BaseStorage]:
        storage = open_storage(f"sqlite:///{tmp_path}/studies.db")
        assert isinstance(storage, optuna.storages.RDBStorage)
        yield PatientStorage(storage)
        storage.remove_session()
        storage.engine.dispose()


class TestWhileCallsFail(StorageTestCase):
    """A third of all calls, before and after their commit, in all ways."""

    @pytest.fixture(params=["memory", "journal"])
    def storage(self, tmp_path: Path, request: pytest.FixtureRequest) -> BaseStorage:
        failing = FailingStorage(
            optuna.storages.InMemoryStorage()
            if request.param == "memory"
            else open_storage(default_storage_url(tmp_path)),
            slow_seconds=0.0,
        )
        for fault in StorageFault:
            failing.fail(fault, rate=0.08)
        return PatientStorage(failing, sleep=no_time)


def finished(storage: BaseStorage) -> list[tuple[object, ...]]:
    """Return what a whole study left in a storage, apart from times."""
    spec = make_spec(
        budget={"n_trials": 12},
        sampler={"type": "tpe", "seed": 3},
        enqueue=[{"x": 0.25}, {"x": 0.75}],
        search_space={"x": {"type": "float", "low": 0, "high": 1}},
    )

    def told(trial: TrialRecord) -> tuple[float]:
        x = trial.params["x"]
        assert isinstance(x, float)
        return ((x - 0.4) ** 2,)

    run_all(open_study(spec, storage), told)
    return [(t.number, t.state, t.params, t.values, t.user_attrs) for t in stored(storage)]


def stored(storage: BaseStorage) -> list[optuna.trial.FrozenTrial]:
    (study,) = storage.get_all_studies()
    return storage.get_all_trials(storage.get_study_id_from_name(study.study_name))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fault", StorageFault)
@pytest.mark.fault("F26", "F28", "F29")
def test_a_study_comes_out_the_same_whatever_fails(fault: StorageFault, seed: int) -> None:
    failing = FailingStorage(optuna.storages.InMemoryStorage(), seed=seed, slow_seconds=0.0)
    failing.fail(fault, rate=0.4)

    result = finished(PatientStorage(failing, sleep=no_time))

    assert result == finished(optuna.storages.InMemoryStorage())
    assert failing.failures.total() > 50 or fault is StorageFault.SLOW
