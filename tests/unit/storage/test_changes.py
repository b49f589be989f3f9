"""A change of a trial is whole or absent, and made only while the trial is as it was."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from studyflow.storage import default_storage_url, open_storage
from studyflow.storage.changes import TrialChange, change_trial

X: Final = FloatDistribution(0.0, 1.0)
NAN: Final = math.nan


class Plain(InMemoryStorage):
    """A storage of somebody else's, which has no lock of its own that is known here."""


def _journal(folder: Path) -> BaseStorage:
    return open_storage(default_storage_url(folder))


def _database(folder: Path) -> BaseStorage:
    return open_storage(f"sqlite:///{folder}/studies.db")


STORAGES: Final[dict[str, Callable[[Path], BaseStorage]]] = {
    "memory": lambda _: InMemoryStorage(),
    "journal": _journal,
    "database": _database,
}


@pytest.fixture(scope="module", params=sorted(STORAGES))
def storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    # One for all tests, each with a study of its own: a database takes a second to be made.
    opened = STORAGES[request.param](tmp_path_factory.mktemp("storage"))
    yield opened
    if isinstance(opened, RDBStorage):
        opened.remove_session()
        opened.engine.dispose()


def running(storage: BaseStorage, **attrs: Any) -> int:
    """Return the id of a new running trial with some user attributes."""
    study = storage.create_new_study([StudyDirection.MINIMIZE])
    trial = storage.create_new_trial(study)
    for key, value in attrs.items():
        storage.set_trial_user_attr(trial, key, value)
    return trial


def what_is_there(trial: FrozenTrial) -> tuple[Any, ...]:
    return (
        trial.user_attrs,
        {k: v for k, v in trial.system_attrs.items() if k == "s"},
        trial.params,
        trial.intermediate_values,
        trial.state,
        trial.values,
    )


def test_all_parts_of_a_change_are_made_together(storage: BaseStorage) -> None:
    trial = running(storage, holder="a", kept=1)
    change = TrialChange(
        user_attrs={"holder": "b", "lost": [1, {"cause": "evicted"}]},
        system_attrs={"s": 2},
        params={"x": (0.25, X)},
        intermediate={0: 1.5, 3: 0.5},
        state=TrialState.COMPLETE,
        values=[0.125],
    )

    assert change_trial(storage, trial, {"holder": "a"}, change)

    after = storage.get_trial(trial)
    assert what_is_there(after) == (
        {"holder": "b", "kept": 1, "lost": [1, {"cause": "evicted"}]},
        {"s": 2},
        {"x": 0.25},
        {0: 1.5, 3: 0.5},
        TrialState.COMPLETE,
        [0.125],
    )
    assert after.datetime_complete is not None
    assert change.is_made(after)


@pytest.mark.parametrize(
    ("attrs", "expected", "is_made"),
    [
        ({}, {}, True),
        ({"holder": "a"}, {"holder": "a"}, True),
        ({"holder": "a"}, {"holder": "b"}, False),
        ({"holder": "a"}, {"holder": None}, False),
        ({}, {"holder": None}, True),
        ({}, {"holder": "a"}, False),
        ({"holder": "a", "attempt": 2}, {"holder": "a", "attempt": 1}, False),
        ({"other": 1}, {"holder": None}, True),
        # As it is once stored: a tuple is a list, and an order of keys is none.
        ({"lost": [1, 2]}, {"lost": (1, 2)}, True),
        ({"lost": {"a": 1, "b": 2}}, {"lost": {"b": 2, "a": 1}}, True),
        ({"attempt": 1}, {"attempt": True}, False),
        ({"attempt": 1}, {"attempt": 1.0}, False),
    ],
)
def test_a_trial_that_is_not_as_expected_stays_as_it_is(
    storage: BaseStorage, attrs: dict[str, Any], expected: dict[str, Any], is_made: bool
) -> None:
    trial = running(storage, **attrs)
    before = what_is_there(storage.get_trial(trial))

    change = TrialChange(user_attrs={"mark": "new"}, intermediate={0: 1.0})
    assert change_trial(storage, trial, expected, change) is is_made

    assert (what_is_there(storage.get_trial(trial)) == before) is not is_made


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED])
def test_a_finished_trial_is_never_changed(storage: BaseStorage, state: TrialState) -> None:
    trial = running(storage)
    values = [1.0] if state is TrialState.COMPLETE else None
    assert change_trial(storage, trial, {}, TrialChange(state=state, values=values))
    before = what_is_there(storage.get_trial(trial))

    change = TrialChange({"mark": 1}, {"s": 1}, state=TrialState.FAIL)
    assert not change_trial(storage, trial, {}, change)

    assert what_is_there(storage.get_trial(trial)) == before


def test_a_parameter_that_is_there_is_not_replaced_and_nothing_else_is_written(
    storage: BaseStorage,
) -> None:
    trial = running(storage)
    assert change_trial(storage, trial, {}, TrialChange(params={"x": (0.25, X)}))

    change = TrialChange({"mark": 1}, params={"y": (0.5, X), "x": (0.75, X)})
    assert not change_trial(storage, trial, {}, change)

    after = storage.get_trial(trial)
    assert (after.params, after.user_attrs) == ({"x": 0.25}, {})


def test_a_reported_value_is_replaced_and_need_not_be_finite(storage: BaseStorage) -> None:
    trial = running(storage)
    assert change_trial(storage, trial, {}, TrialChange(intermediate={0: 1.0, 1: math.inf}))
    change = TrialChange(intermediate={0: 2.0, 2: NAN})
    assert change_trial(storage, trial, {}, change)

    after = storage.get_trial(trial)
    assert after.intermediate_values[0] == 2.0
    assert after.intermediate_values[1] == math.inf
    assert math.isnan(after.intermediate_values[2])
    assert change.is_made(after)


def test_an_empty_change_of_a_running_trial_is_made(storage: BaseStorage) -> None:
    trial = running(storage)
    before = what_is_there(storage.get_trial(trial))
    assert change_trial(storage, trial, {}, TrialChange())
    assert what_is_there(storage.get_trial(trial)) == before


def test_of_two_writers_that_saw_the_same_trial_one_is_refused(storage: BaseStorage) -> None:
    trial = running(storage, attempt=1)
    made = [
        change_trial(storage, trial, {"attempt": 1}, TrialChange({"attempt": 2, "holder": site}))
        for site in ("a", "b")
    ]
    assert made == [True, False]
    assert storage.get_trial(trial).user_attrs == {"attempt": 2, "holder": "a"}


@pytest.mark.parametrize("kind", ["journal", "database"])
def test_another_process_sees_the_whole_change(kind: str, tmp_path: Path) -> None:
    first, second = STORAGES[kind](tmp_path), STORAGES[kind](tmp_path)
    trial = running(first, attempt=1)
    assert change_trial(second, trial, {"attempt": 1}, TrialChange({"attempt": 2}))
    assert not change_trial(first, trial, {"attempt": 1}, TrialChange({"attempt": 3}))
    assert first.get_trial(trial).user_attrs == {"attempt": 2}
    for opened in (first, second):
        if isinstance(opened, RDBStorage):
            opened.remove_session()
            opened.engine.dispose()


def test_a_storage_of_another_kind_is_written_step_by_step_the_state_last() -> None:
    calls: list[str] = []

    class Other(Plain):
        def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
            calls.append(key)
            super().set_trial_user_attr(trial_id, key, value)

        def set_trial_state_values(self, *arguments: Any, **named: Any) -> bool:
            calls.append("state")
            return super().set_trial_state_values(*arguments, **named)

    storage = Other()
    trial = running(storage)
    change = TrialChange({"cause": "ok"}, state=TrialState.COMPLETE, values=[1.0])
    assert change_trial(storage, trial, {}, change)
    assert calls == ["cause", "state"]


def test_a_storage_may_change_trials_in_its_own_way() -> None:
    class Own(InMemoryStorage):
        def change_trial(self, trial_id: int, expected: Any, change: TrialChange) -> bool:
            return bool(change.user_attrs)

    assert change_trial(Own(), 0, {}, TrialChange({"a": 1}))
    assert not change_trial(Own(), 0, {}, TrialChange())


def test_a_journal_that_is_not_ours_is_written_step_by_step(tmp_path: Path) -> None:
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "log"))
    storage = JournalStorage(backend)
    trial = running(storage)
    assert change_trial(storage, trial, {}, TrialChange({"a": 1}))
    assert storage.get_trial(trial).user_attrs == {"a": 1}


@pytest.mark.parametrize(
    ("change", "is_made"),
    [
        (TrialChange(), True),
        (TrialChange({"a": 1}), True),
        (TrialChange({"a": 2}), False),
        (TrialChange({"b": None}), False),
        (TrialChange(system_attrs={"s": 1}), False),
        (TrialChange(params={"x": (0.25, X)}), True),
        (TrialChange(params={"x": (0.5, X)}), False),
        (TrialChange(params={"y": (0.25, X)}), False),
        (TrialChange(intermediate={0: NAN}), True),
        (TrialChange(intermediate={0: 1.0}), False),
        (TrialChange(intermediate={1: NAN}), False),
        (TrialChange(state=TrialState.RUNNING), True),
        (TrialChange(state=TrialState.COMPLETE), False),
        (TrialChange(values=[1.0]), False),
    ],
)
def test_a_trial_tells_whether_a_change_was_made(change: TrialChange, is_made: bool) -> None:
    storage = InMemoryStorage()
    trial = running(storage, a=1)
    change_trial(storage, trial, {}, TrialChange(params={"x": (0.25, X)}, intermediate={0: NAN}))
    assert change.is_made(storage.get_trial(trial)) is is_made
