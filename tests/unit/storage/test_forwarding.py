"""A storage that passes calls on leaves none of Optuna's out, and changes none."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from studyflow.storage.changes import TrialChange
from studyflow.storage.forwarding import ForwardingStorage

X: Final = FloatDistribution(0.0, 1.0)


class Recording(ForwardingStorage):
    """Writes down which calls pass, and what they return."""

    def __init__(self, storage: BaseStorage) -> None:
        super().__init__(storage)
        self.passed: list[str] = []

    def _pass(self, method: str, call: Callable[[], Any]) -> Any:
        self.passed.append(method)
        return call()


@pytest.fixture
def storage() -> Recording:
    return Recording(InMemoryStorage())


CALLS: Final[Mapping[str, Callable[[BaseStorage, int, int], object]]] = {
    "create_new_study": lambda s, study, trial: s.create_new_study([StudyDirection.MAXIMIZE], "b"),
    "delete_study": lambda s, study, trial: s.delete_study(study),
    "set_study_user_attr": lambda s, study, trial: s.set_study_user_attr(study, "k", 1),
    "set_study_system_attr": lambda s, study, trial: s.set_study_system_attr(study, "k", 1),
    "get_study_id_from_name": lambda s, study, trial: s.get_study_id_from_name("a"),
    "get_study_name_from_id": lambda s, study, trial: s.get_study_name_from_id(study),
    "get_study_directions": lambda s, study, trial: s.get_study_directions(study),
    "get_study_user_attrs": lambda s, study, trial: s.get_study_user_attrs(study),
    "get_study_system_attrs": lambda s, study, trial: s.get_study_system_attrs(study),
    "get_all_studies": lambda s, study, trial: len(s.get_all_studies()),
    "create_new_trial": lambda s, study, trial: s.create_new_trial(
        study, create_trial(value=1.0, params={"x": 0.5}, distributions={"x": X})
    ),
    "set_trial_param": lambda s, study, trial: s.set_trial_param(trial, "x", 0.25, X),
    "get_trial_id_from_study_id_trial_number": lambda s, study, trial: (
        s.get_trial_id_from_study_id_trial_number(study, 0)
    ),
    "set_trial_state_values": lambda s, study, trial: s.set_trial_state_values(
        trial, TrialState.COMPLETE, [0.5]
    ),
    "set_trial_intermediate_value": lambda s, study, trial: s.set_trial_intermediate_value(
        trial, 3, 0.5
    ),
    "set_trial_user_attr": lambda s, study, trial: s.set_trial_user_attr(trial, "k", 1),
    "set_trial_system_attr": lambda s, study, trial: s.set_trial_system_attr(trial, "k", 1),
    "get_trial": lambda s, study, trial: s.get_trial(trial).number,
    "get_all_trials": lambda s, study, trial: [
        t.number for t in s.get_all_trials(study, deepcopy=False, states=(TrialState.RUNNING,))
    ],
}
"""Every call that Optuna may make of a storage, with arguments that are not the usual ones."""


def made(storage: BaseStorage) -> tuple[int, int]:
    """Return the ids of a study "a" and of its running trial."""
    study = storage.create_new_study([StudyDirection.MINIMIZE], "a")
    return study, storage.create_new_trial(study)


def left(storage: BaseStorage) -> Iterator[object]:
    """Yield all that a storage holds, apart from times."""
    for study in storage.get_all_studies():
        yield (study.study_name, study.directions, study.user_attrs, study.system_attrs)
        for t in storage.get_all_trials(storage.get_study_id_from_name(study.study_name)):
            yield (t.number, t.state, t.values, t.params, t.intermediate_values, t.user_attrs)
            yield t.system_attrs


def test_every_method_of_optuna_s_interface_is_called_here() -> None:
    abstract = {
        name
        for name, member in inspect.getmembers(BaseStorage)
        if getattr(member, "__isabstractmethod__", False)
    }
    # Optuna has one more in terms of the others; a storage may know a shorter way.
    assert abstract | {"get_trial_id_from_study_id_trial_number"} == set(CALLS)


@pytest.mark.parametrize("method", sorted(CALLS))
def test_a_call_passes_once_and_does_what_it_does_without(storage: Recording, method: str) -> None:
    plain = InMemoryStorage()
    ours, theirs = made(storage), made(plain)
    storage.passed.clear()

    assert CALLS[method](storage, *ours) == CALLS[method](plain, *theirs)

    assert storage.passed == [method]
    assert list(left(storage)) == list(left(plain))


def test_a_change_passes_as_one_call(storage: Recording) -> None:
    _, trial = made(storage)
    storage.passed.clear()

    assert storage.change_trial(trial, {}, TrialChange({"k": 1}, state=TrialState.FAIL))

    assert storage.passed == ["change_trial"]
    assert storage.get_trial(trial).user_attrs == {"k": 1}
