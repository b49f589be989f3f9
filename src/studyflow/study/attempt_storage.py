"""A storage that shows one attempt of each trial, and refuses writes about trials of other runners.

Optuna's samplers, pruners and `tell` use it like any other storage. What they read of a trial
belongs to one attempt. What they write is kept until all of it is known and then written by one
write, which is refused once another runner has taken the trial over.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from studyflow.errors import TrialTaken
from studyflow.storage import ForwardingStorage, TrialChange
from studyflow.storage.database_trials import own_copy
from studyflow.study import storage_form as form
from studyflow.study.drafts import NOTHING, Draft

_T = TypeVar("_T")


@dataclass(slots=True)
class Asked:
    """A trial that is asked for. Made by `AttemptStorage.asking`."""

    holder: str | None
    """Site that claims it."""
    has_queue: bool
    """Whether enqueued points may wait to be tried; else none is looked for."""
    n_trials: int | None
    """How many trials the study has, if the new one is made whole; `None` to claim it first."""
    begin: Mapping[str, Any]
    """What one made whole says of its first attempt; empty while that has not begun."""
    trial_ids: set[int] = field(default_factory=set)
    is_refused: bool = False
    """Whether it was not made, as another trial was made meanwhile."""

    @property
    def held(self) -> dict[str, Any]:
        """What the trial says of its holder."""
        return {} if self.holder is None else {form.HOLDER: self.holder}


class AttemptStorage(ForwardingStorage):
    """See the module's text. One thread of one runner asks and writes; others may read.

    Args:
        storage: The storage behind it.
    """

    def __init__(self, storage: BaseStorage) -> None:
        super().__init__(storage)
        self._drafts: dict[int, Draft] = {}
        """By Optuna's id, or by a number below 0 for a trial that is not stored yet."""
        self._new_ids = itertools.count(-1, -1)
        self._asked: Asked | None = None
        """What is being asked for."""
        self.n_writes = 0
        """How many writes of trials were begun here so far."""
        self._written: set[int] | None = set()
        """Optuna's ids of the trials that were written since the last read; `None` if some were
        written without being noted."""
        self._shown: dict[int, tuple[FrozenTrial, FrozenTrial]] = {}
        """By trial: what the storage gave, and what is shown of it."""

    def _pass(self, method: str, call: Callable[[], _T]) -> _T:
        if method.startswith(("create_new_trial", "make_trial", "set_trial_", "change_trial")):
            self.n_writes += 1
        if method.startswith("set_trial_"):
            self._written = None
        return super()._pass(method, call)

    def change_trial(self, trial_id: int, expected: Mapping[str, Any], change: TrialChange) -> bool:
        if self._written is not None:
            self._written.add(trial_id)  # also if it is refused: somebody else has changed it
        return super().change_trial(trial_id, expected, change)

    # ---- writing ----------------------------------------------------------------------------

    @contextmanager
    def fenced(self, frozen: FrozenTrial, end: TrialChange = NOTHING) -> Iterator[None]:
        """Write what is written about a trial at the end, or with its state.

        Args:
            frozen: The trial as the writer saw it.
            end: What is written together with its state.

        Raises:
            TrialTaken: Others have gone on with it. The write has not happened.
        """
        trial_id = frozen._trial_id
        self._drafts[trial_id] = Draft.of(frozen, end)
        try:
            yield
            self._write(trial_id)
        finally:
            self._drafts.pop(trial_id, None)

    @contextmanager
    def asking(
        self,
        holder: str | None,
        *,
        has_queue: bool = True,
        n_trials: int | None = None,
        begin: Mapping[str, Any] = MappingProxyType({}),
    ) -> Iterator[Asked]:
        """Claim the trial that is asked for, and write all of it once its parameters are chosen.

        With `n_trials` nothing is written before, and what is asked for is refused if another trial
        was made meanwhile. Without it a trial is made first, so that its number is sure.

        Args:
            holder: Site that claims it.
            has_queue: Whether enqueued points may wait to be tried; else none is looked for.
            n_trials: How many trials the study has, as the asker saw it.
            begin: What one made whole says of its first attempt; empty while that has not begun.

        Raises:
            TrialTaken: Another runner has taken it meanwhile.
        """
        asked = self._asked = Asked(holder, has_queue, n_trials, begin)
        try:
            yield asked
            for trial_id in asked.trial_ids:
                if trial_id < 0:
                    self._make(asked, self._drafts[trial_id])
                else:
                    self._write(trial_id)
        finally:
            self._asked = None
            for trial_id in asked.trial_ids:
                self._drafts.pop(trial_id, None)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        asked = self._asked
        if asked is None or template_trial is not None:
            return super().create_new_trial(study_id, template_trial)
        if asked.n_trials is not None:
            return self._draft(asked, study_id, asked.n_trials)
        held = asked.held
        template = create_trial(state=TrialState.RUNNING, user_attrs=held) if held else None
        trial_id = super().create_new_trial(study_id, template)
        self._begin(asked, trial_id)
        return trial_id

    def _draft(self, asked: Asked, study_id: int, n_trials: int) -> int:
        attrs = {**asked.held, **asked.begin}
        template = create_trial(state=TrialState.RUNNING, user_attrs=attrs)
        template.number, template._trial_id = n_trials, next(self._new_ids)
        self._drafts[template._trial_id] = Draft.new(template, n_trials, study_id)
        asked.trial_ids.add(template._trial_id)
        return template._trial_id

    def _make(self, asked: Asked, draft: Draft) -> None:
        assert draft.n_trials is not None
        made = self.make_trial(draft.study_id, draft.n_trials, draft.shown)
        asked.is_refused = made is None

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        draft = self._draft_of(trial_id)
        if draft is not None:
            change = draft.with_state(state, values)
            draft.change = NOTHING
            self._change(trial_id, draft, change)
            return True
        is_set = super().set_trial_state_values(trial_id, state, values)
        if self._asked is not None and is_set and state is TrialState.RUNNING:
            return self._claim(self._asked, trial_id)
        return is_set

    def _claim(self, asked: Asked, trial_id: int) -> bool:
        """Return whether a trial that nobody held is this runner's now."""
        held = asked.held
        if held and not self.change_trial(trial_id, form.ownership({}), TrialChange(held)):
            return False
        self._begin(asked, trial_id)
        return True

    def _begin(self, asked: Asked, trial_id: int) -> None:
        """Begin to ask for a stored trial."""
        draft = Draft.of(super().get_trial(trial_id))
        draft.expected = {**form.ownership({}), **asked.held}
        self._drafts[trial_id] = draft
        asked.trial_ids.add(trial_id)

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        draft = self._draft_of(trial_id)
        if draft is None:
            super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        else:
            draft.set_param(param_name, param_value_internal, distribution)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        draft = self._draft_of(trial_id)
        if draft is None:
            super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        else:
            draft.set_intermediate_value(step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        draft = self._draft_of(trial_id)
        if draft is None:
            super().set_trial_user_attr(trial_id, key, value)
        else:
            draft.set_user_attr(key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        draft = self._draft_of(trial_id)
        if draft is None:
            super().set_trial_system_attr(trial_id, key, value)
        else:
            draft.set_system_attr(key, value)

    def _draft_of(self, trial_id: int) -> Draft | None:
        """Return what is to be written of a trial; `None` for one that is written at once.

        Raises:
            TrialTaken: The trial was never stored, and is not asked for any more: its sampler was
                given up.
        """
        draft = self._drafts.get(trial_id)
        if draft is None and trial_id < 0:
            raise TrialTaken("This trial is not asked for any more.")
        return draft

    def _write(self, trial_id: int) -> None:
        """Write what is to be written of a stored trial, if anything is."""
        draft = self._drafts[trial_id]
        if draft.has_changed:
            self._change(trial_id, draft, draft.change)

    def _change(self, trial_id: int, draft: Draft, change: TrialChange) -> None:
        if not self.change_trial(trial_id, draft.expected, change):
            raise TrialTaken(f"Another runner looks after the trial of id {trial_id} now.")

    # ---- reading ----------------------------------------------------------------------------

    def get_trial(self, trial_id: int) -> FrozenTrial:
        draft = self._draft_of(trial_id)
        if draft is not None:
            return own_copy(draft.shown)
        # Optuna writes parameters into the trial that it is given before they are stored.
        return own_copy(form.of_one_attempt(super().get_trial(trial_id)))

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        asked = self._asked
        if states == (TrialState.WAITING,) and asked is not None and not asked.has_queue:
            return []
        # A paused trial is shown in another state than it has, so all are looked through for it.
        may_be_paused = (
            states is None or TrialState.PRUNED in states or TrialState.RUNNING in states
        )
        found = super().get_all_trials(study_id, False, None if may_be_paused else states)
        shown = [t for t in map(self._show, found) if states is None or t.state in states]
        new = [own_copy(draft.shown) for i, draft in list(self._drafts.items()) if i < 0]
        shown += [trial for trial in new if states is None or trial.state in states]
        return copy.deepcopy(shown) if deepcopy else shown

    def stored_trials(self, study_id: int) -> list[FrozenTrial]:
        """Return all trials with whatever is stored of them."""
        found = super().get_all_trials(study_id, deepcopy=False)
        self._written = set()
        return found

    def stored_after_writes(self, study_id: int, trial_ids: Collection[int]) -> list[FrozenTrial]:
        """Return the same, read anew only as far as that is needed after writes of this runner.

        Args:
            study_id: Optuna's id of the study.
            trial_ids: Optuna's ids of further trials to read anew.
        """
        if self._written is None:
            return self.stored_trials(study_id)
        found = self.read_trials(study_id, {*self._written, *trial_ids})
        self._written = set()
        return found

    def _show(self, given: FrozenTrial) -> FrozenTrial:
        draft = self._drafts.get(given._trial_id)
        if draft is not None and draft.has_changed:
            return own_copy(draft.shown)
        known = self._shown.get(given._trial_id)
        if known is None or known[0] is not given:
            known = self._shown[given._trial_id] = (given, form.as_sampled(given))
        return known[1]


class StoredTrials:
    """The trials of one study, as an index reads them.

    Args:
        storage: Where the study is.
        study_id: Optuna's id of it.
    """

    def __init__(self, storage: AttemptStorage, study_id: int) -> None:
        self._storage = storage
        self._study_id = study_id

    def read(self) -> list[FrozenTrial]:
        """Return all trials by number, as the storage has them now."""
        return self._storage.stored_trials(self._study_id)

    def read_written(self, trial_ids: Collection[int] = ()) -> list[FrozenTrial]:
        """Return the same; others than those that this runner has written may be as read last.

        Args:
            trial_ids: Optuna's ids of further trials to read anew.
        """
        return self._storage.stored_after_writes(self._study_id, trial_ids)

    @property
    def n_writes(self) -> int:
        """How many writes of trials this runner has begun so far."""
        return self._storage.n_writes
