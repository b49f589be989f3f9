"""A storage that passes every call on: the base of storages that add something to another one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from typing import Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from studyflow.storage.changes import TrialChange, change_trial
from studyflow.storage.creations import make_trial, makes_whole_trials
from studyflow.storage.database_trials import DatabaseTrials, read_trials

_T = TypeVar("_T")


class ForwardingStorage(BaseStorage):
    """Passes every call of Optuna's storage interface through `_pass`.

    Args:
        storage: The storage behind it. A plain database is given a cache, as in any study.
    """

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = (
            DatabaseTrials(storage) if isinstance(storage, optuna.storages.RDBStorage) else storage
        )

    def _pass(self, method: str, call: Callable[[], _T]) -> _T:  # noqa: ARG002 - for subclasses
        """Make one call of a method, and return what it returns."""
        return call()

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        return self._pass(
            "create_new_study", lambda: self._storage.create_new_study(directions, study_name)
        )

    def delete_study(self, study_id: int) -> None:
        self._pass("delete_study", lambda: self._storage.delete_study(study_id))

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._pass(
            "set_study_user_attr", lambda: self._storage.set_study_user_attr(study_id, key, value)
        )

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._pass(
            "set_study_system_attr",
            lambda: self._storage.set_study_system_attr(study_id, key, value),
        )

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._pass(
            "get_study_id_from_name", lambda: self._storage.get_study_id_from_name(study_name)
        )

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._pass(
            "get_study_name_from_id", lambda: self._storage.get_study_name_from_id(study_id)
        )

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._pass(
            "get_study_directions", lambda: self._storage.get_study_directions(study_id)
        )

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._pass(
            "get_study_user_attrs", lambda: self._storage.get_study_user_attrs(study_id)
        )

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._pass(
            "get_study_system_attrs", lambda: self._storage.get_study_system_attrs(study_id)
        )

    def get_all_studies(self) -> list[Any]:
        return self._pass("get_all_studies", self._storage.get_all_studies)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        return self._pass(
            "create_new_trial", lambda: self._storage.create_new_trial(study_id, template_trial)
        )

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        self._pass(
            "set_trial_param",
            lambda: self._storage.set_trial_param(
                trial_id, param_name, param_value_internal, distribution
            ),
        )

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        return self._pass(
            "get_trial_id_from_study_id_trial_number",
            lambda: self._storage.get_trial_id_from_study_id_trial_number(study_id, trial_number),
        )

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        return self._pass(
            "set_trial_state_values",
            lambda: self._storage.set_trial_state_values(trial_id, state, values),
        )

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        self._pass(
            "set_trial_intermediate_value",
            lambda: self._storage.set_trial_intermediate_value(trial_id, step, intermediate_value),
        )

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._pass(
            "set_trial_user_attr", lambda: self._storage.set_trial_user_attr(trial_id, key, value)
        )

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._pass(
            "set_trial_system_attr",
            lambda: self._storage.set_trial_system_attr(trial_id, key, value),
        )

    def change_trial(self, trial_id: int, expected: Mapping[str, Any], change: TrialChange) -> bool:
        """Return whether a change was made; see `studyflow.storage.changes`."""
        return self._pass(
            "change_trial", lambda: change_trial(self._storage, trial_id, expected, change)
        )

    @property
    def makes_whole_trials(self) -> bool:
        """Whether `make_trial` can be used; see `studyflow.storage.creations`."""
        return makes_whole_trials(self._storage)

    def make_trial(self, study_id: int, n_trials: int, template: FrozenTrial) -> int | None:
        """Return Optuna's id of a new trial; see `studyflow.storage.creations`."""
        return self._pass(
            "make_trial", lambda: make_trial(self._storage, study_id, n_trials, template)
        )

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._pass("get_trial", lambda: self._storage.get_trial(trial_id))

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        return self._pass(
            "get_all_trials", lambda: self._storage.get_all_trials(study_id, deepcopy, states)
        )

    def read_trials(self, study_id: int, trial_ids: Collection[int]) -> list[FrozenTrial]:
        """Return all trials, of which some are read anew; see `studyflow.storage.database_trials`.

        A read like that of all trials, to whoever counts, repeats or refuses those.
        """
        return self._pass("get_all_trials", lambda: read_trials(self._storage, study_id, trial_ids))

    def remove_session(self) -> None:
        self._storage.remove_session()
