"""A storage that shows one attempt of each trial, and refuses writes about trials of other runners.

Optuna's samplers, pruners and `tell` use it like any other storage. What they read of a trial
belongs to one attempt, and what they write is refused once another runner has taken the trial over.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from studyflow.errors import TrialTaken
from studyflow.storage import ForwardingStorage, TrialChange
from studyflow.storage.database_trials import own_copy
from studyflow.study import storage_form as form

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Fence:
    """On what condition a trial is written."""

    expected: Mapping[str, Any]
    """Its attributes, as they were when its writer decided."""
    end: TrialChange
    """What is written with its state."""
    shown: FrozenTrial | None = None
    """The trial as its writer sees it, until something is written; `None` to read it."""


_STATE_ALONE: Final = TrialChange()


class AttemptStorage(ForwardingStorage):
    """See the module's text. One thread of one runner asks and writes; others may read.

    Args:
        storage: The storage behind it.
    """

    def __init__(self, storage: BaseStorage) -> None:
        super().__init__(storage)
        self._fences: dict[int, _Fence] = {}
        """By Optuna's id of the trial."""
        self._asks = False
        """Whether a trial that is made or taken from the queue is to be claimed."""
        self._holder: str | None = None
        """Site that such a trial is claimed for."""
        self._has_queue = True
        """Whether enqueued points may wait to be tried."""
        self._params: dict[int, dict[str, tuple[float, BaseDistribution]]] = {}
        """By trial that is asked for, its parameters: written together once all are chosen."""
        self.n_writes = 0
        """How many writes of trials were begun here so far."""
        self._shown: dict[int, tuple[FrozenTrial, FrozenTrial]] = {}
        """By trial: what the storage gave, and what is shown of it."""

    def _pass(self, method: str, call: Callable[[], _T]) -> _T:
        if method.startswith(("create_new_trial", "set_trial_", "change_trial")):
            self.n_writes += 1
        return super()._pass(method, call)

    # ---- writing ----------------------------------------------------------------------------

    @contextmanager
    def fenced(self, frozen: FrozenTrial, end: TrialChange = _STATE_ALONE) -> Iterator[None]:
        """Refuse what is written about a trial, if others have gone on with it since.

        Args:
            frozen: The trial as the writer saw it.
            end: What is written together with its state.

        Raises:
            TrialTaken: Others have gone on with it. The write has not happened.
        """
        expected = form.ownership(frozen.user_attrs)
        self._fences[frozen._trial_id] = _Fence(expected, end, form.of_one_attempt(frozen))
        try:
            yield
        finally:
            del self._fences[frozen._trial_id]

    @contextmanager
    def asking(self, holder: str | None, *, has_queue: bool = True) -> Iterator[None]:
        """Claim the trial that is asked for, and write its parameters once all are chosen.

        Args:
            holder: Site that claims it.
            has_queue: Whether enqueued points may wait to be tried; else none is looked for.

        Raises:
            TrialTaken: Another runner has taken it meanwhile.
        """
        known = set(self._fences)
        self._asks, self._holder, self._has_queue = True, holder, has_queue
        try:
            yield
            for trial_id, params in self._params.items():
                self._change(trial_id, TrialChange(params=params))
        finally:
            self._asks, self._has_queue = False, True
            self._params.clear()
            for trial_id in self._fences.keys() - known:
                del self._fences[trial_id]

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        if not self._asks or template_trial is not None:
            return super().create_new_trial(study_id, template_trial)
        held = self._held
        template = create_trial(state=TrialState.RUNNING, user_attrs=held) if held else None
        trial_id = super().create_new_trial(study_id, template)
        self._begin_to_ask(trial_id)
        return trial_id

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        fence = self._fences.get(trial_id)
        if fence is not None:
            self._change(trial_id, replace(fence.end, state=state, values=values))
            return True
        is_set = super().set_trial_state_values(trial_id, state, values)
        if self._asks and is_set and state is TrialState.RUNNING:
            return self._claim(trial_id)
        return is_set

    def _claim(self, trial_id: int) -> bool:
        """Return whether a trial that nobody held is this runner's now."""
        held = self._held
        if held and not self.change_trial(trial_id, form.ownership({}), TrialChange(held)):
            return False
        self._begin_to_ask(trial_id)
        return True

    @property
    def _held(self) -> dict[str, Any]:
        """What a trial that is asked for says of its holder."""
        return {} if self._holder is None else {form.HOLDER: self._holder}

    def _begin_to_ask(self, trial_id: int) -> None:
        self._fences[trial_id] = _Fence({**form.ownership({}), **self._held}, _STATE_ALONE)
        self._params[trial_id] = {}

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        param = {param_name: (param_value_internal, distribution)}
        if trial_id in self._params:
            self._params[trial_id] |= param
        elif trial_id in self._fences:
            self._change(trial_id, TrialChange(params=param))
        else:
            super().set_trial_param(trial_id, param_name, param_value_internal, distribution)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        if trial_id in self._fences:
            self._change(trial_id, TrialChange(intermediate={step: intermediate_value}))
        else:
            super().set_trial_intermediate_value(trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        if trial_id in self._fences:
            self._change(trial_id, TrialChange({key: value}))
        else:
            super().set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if trial_id in self._fences:
            shown = (
                form.with_rung(super().get_trial(trial_id), key)
                if key.startswith(form.RUNG)
                else {}
            )
            self._change(trial_id, TrialChange(shown, {key: value}))
        else:
            super().set_trial_system_attr(trial_id, key, value)

    def _change(self, trial_id: int, change: TrialChange) -> None:
        fence = self._fences[trial_id]
        self._fences[trial_id] = replace(fence, shown=None)
        if not self.change_trial(trial_id, fence.expected, change):
            raise _taken(trial_id)

    # ---- reading ----------------------------------------------------------------------------

    def get_trial(self, trial_id: int) -> FrozenTrial:
        fence = self._fences.get(trial_id)
        if fence is not None and fence.shown is not None:
            return own_copy(fence.shown)
        # Optuna writes parameters into the trial that it is given before they are stored.
        return own_copy(form.of_one_attempt(super().get_trial(trial_id)))

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        if states == (TrialState.WAITING,) and not self._has_queue:
            return []
        shown = list(map(self._show, super().get_all_trials(study_id, False, states)))
        return copy.deepcopy(shown) if deepcopy else shown

    def stored_trials(self, study_id: int) -> list[FrozenTrial]:
        """Return all trials with whatever is stored of them."""
        return super().get_all_trials(study_id, deepcopy=False)

    def _show(self, given: FrozenTrial) -> FrozenTrial:
        known = self._shown.get(given._trial_id)
        if known is None or known[0] is not given:
            known = self._shown[given._trial_id] = (given, form.of_one_attempt(given))
        return known[1]


def _taken(trial_id: int) -> TrialTaken:
    return TrialTaken(f"Another runner looks after the trial of id {trial_id} now.")
