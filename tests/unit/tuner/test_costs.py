"""What a turn of the loop asks of the storage: it does not grow with the study."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import optuna
import pytest
import sqlalchemy
from tests.unit.study.test_index import add_finished
from tests.unit.tuner.rig import Rig, parallel

from studyflow.executors import AttemptId
from studyflow.storage import ForwardingStorage, open_storage
from studyflow.tuner import Tuner

N_FINISHED = 300


class Calls(ForwardingStorage):
    """Counts the calls of a storage by name."""

    def __init__(self, storage: optuna.storages.BaseStorage) -> None:
        super().__init__(storage)
        self.counts: Counter[str] = Counter()

    def _pass(self, method: str, call: Callable[[], Any]) -> Any:
        self.counts[method] += 1
        return call()

    def during(self, act: Callable[[], object]) -> dict[str, int]:
        """Return the calls that are made meanwhile."""
        self.counts.clear()
        act()
        return dict(self.counts)


def begun(rig: Rig, n_finished: int) -> Tuner:
    add_finished(rig.study(), n_finished)
    tuner = rig.tuner()
    rig.turns(tuner, 2)
    return tuner


def end_one(rig: Rig, tuner: Tuner) -> None:
    rig.executor.finish(rig.machine.running()[0], 0.5)
    assert tuner.turn() is None


@pytest.mark.parametrize(("n_finished", "n_running"), [(0, 3), (N_FINISHED, 3), (N_FINISHED, 40)])
def test_a_turn_reads_the_trials_once_whatever_has_run(n_finished: int, n_running: int) -> None:
    rig = Rig(parallel(n_running, n_trials=2 * N_FINISHED), objective=None)
    calls = rig.storage = Calls(rig.storage)
    tuner = begun(rig, n_finished)

    idle = calls.during(tuner.turn)
    assert idle == {"get_all_trials": 1, "get_study_user_attrs": 1}
    ended = calls.during(lambda: end_one(rig, tuner))
    assert ended == {
        "get_all_trials": 3,  # a turn begins; told; asked for
        "get_study_user_attrs": 1,
        "make_trial": 1,  # with its parameters and its attempt
        "change_trial": 1,  # the end, and its MLflow run
        "get_trial_id_from_study_id_trial_number": 2,  # kept in memory
    }


def test_a_suggestion_of_many_parameters_is_one_write() -> None:
    space = {f"x{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(12)}
    rig = Rig(parallel(2, search_space=space), objective=lambda params: float(params["x0"]))
    calls = rig.storage = Calls(rig.storage)
    study = rig.study()

    written = calls.during(lambda: study.ask("here"))

    assert written["make_trial"] == 1
    assert "change_trial" not in written
    record = study.record(0)
    assert (len(record.params), record.holder, record.attempt) == (12, "here", 0)


def test_statements_of_a_database_do_not_grow_with_the_study(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path / 'studies.db'}")
    assert isinstance(storage, optuna.storages.RDBStorage)
    rig = Rig(parallel(10, n_trials=200), objective=None)
    rig.storage = storage
    sent: list[str] = []
    tuner = begun(rig, 0)
    sqlalchemy.event.listen(
        storage.engine, "before_cursor_execute", lambda *given: sent.append(given[2])
    )

    counts = []
    for _ in range(12):
        sent.clear()
        tuner.turn()
        idle = len(sent)
        end_one(rig, tuner)
        rig.turns(tuner, 1)
        counts.append((idle, len(sent) - 2 * idle))

    assert {idle for idle, _ in counts} == {2}
    assert max(ended for _, ended in counts) <= 13
    assert AttemptId(21, 1) in rig.machine.attempts


def test_a_trial_is_two_fsyncs_of_a_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(parallel(4, n_trials=200), objective=None)
    rig.storage = open_storage(f"journal:///{tmp_path / 'studies.journal'}")
    tuner = begun(rig, 0)
    synced = mock.Mock(wraps=os.fsync)
    monkeypatch.setattr(os, "fsync", synced)

    for _ in range(5):
        synced.reset_mock()
        end_one(rig, tuner)
        assert synced.call_count == 2, "its end; the next one with its parameters and its attempt"
        assert tuner.turn() is None
    assert len(rig.machine.running()) == 4
