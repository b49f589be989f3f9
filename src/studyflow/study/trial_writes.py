"""Writes what becomes of a study's trials, each on a condition.

The condition is that the trial's attempt, its holder and its lost attempts are still those that the
writer saw. A runner that stood still, for however long and wherever, finds its late write refused
when another has taken the trial over.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from studyflow.errors import TrialTaken
from studyflow.spec import StudySpec
from studyflow.storage import TrialChange
from studyflow.study import storage_form as form
from studyflow.study.attempt_storage import AttemptStorage
from studyflow.study.index import TrialIndex
from studyflow.study.lost_form import FollowedAttempt, followed_attempts, with_followed
from studyflow.study.verdict import Verdict
from studyflow.trial import Cause, MetricPoint
from studyflow.trial.cost import AttemptCost, Begin
from studyflow.trial.cost_form import attribute_of, begin_attribute
from studyflow.trial.record import (
    NO_STEPS,
    AttemptSteps,
    LostAttempt,
    PausedAttempt,
    TrialRecord,
)

_log = logging.getLogger(__name__)

MAX_INTERMEDIATE_VALUES: Final = 1000
"""Most reported values kept per trial in the study's storage; MLflow has all of them. A pruner and
a plot need no more, and each one is a write."""

MAX_STEP: Final = 2**31 - 1
"""Largest step kept: Optuna's column for it has 32 bits, and PostgreSQL refuses more."""

NO_NUMBERS: Final[Mapping[str, Any]] = MappingProxyType({})

_MOST_TRIES: Final = 8
"""How often a write is decided anew because another runner has changed its trial meanwhile. Each
time that one has gone on, so two in a row are rare."""


class TrialWrites:
    """Begins, ends and tells attempts and trials. Each write can be repeated after a crash.

    Args:
        spec: The study file.
        optuna_study: The stored study.
        storage: Where it is.
        index: The trials that are known.
    """

    def __init__(
        self,
        spec: StudySpec,
        optuna_study: optuna.Study,
        storage: AttemptStorage,
        index: TrialIndex,
    ) -> None:
        self.spec = spec
        self.optuna_study = optuna_study
        self._storage = storage
        self._index = index

    def begin_attempt(
        self,
        number: int,
        attempt: int,
        holder: str | None = None,
        seen: TrialRecord | None = None,
        known: Begin | None = None,
    ) -> TrialRecord:
        """Note that an attempt is about to be launched; repeating it changes nothing.

        Args:
            number: Number of the trial.
            attempt: Number of the attempt.
            holder: Site where it is launched.
            seen: The trial as it was when that was decided; as it is now by default.
            known: What is known of budget and time; what an attempt was first begun by stays.

        Returns:
            The trial as it is then: of another attempt or holder if another runner was first.
        """

        def begin(frozen: FrozenTrial) -> TrialChange | None:
            begun, held = frozen.user_attrs.get(form.ATTEMPT, 0), frozen.user_attrs.get(form.HOLDER)
            is_anothers = begun == attempt and None not in (held, holder) and held != holder
            if begun > attempt or is_anothers:
                return None
            held_now = {} if holder is None else {form.HOLDER: holder}
            noted = begin_attribute(known) if begun < attempt else {}
            return TrialChange({form.ATTEMPT: attempt, **held_now, **noted})

        self.change(number, begin, seen)
        return self._record(number)

    def withdraw_attempt(self, number: int, attempt: int, seen: TrialRecord | None = None) -> None:
        """Note that an attempt, the newest of its trial, is not launched after all.

        Args:
            number: Number of the trial.
            attempt: Number of the attempt.
            seen: The trial as it was when that was decided; as it is now by default.
        """

        def withdraw(frozen: FrozenTrial) -> TrialChange | None:
            is_newest = frozen.user_attrs.get(form.ATTEMPT) == attempt
            return TrialChange({form.ATTEMPT: attempt - 1}) if is_newest else None

        self.change(number, withdraw, seen)

    def end_attempt(
        self,
        number: int,
        attempt: int,
        verdict: Verdict,
        trained_seconds: float | None = None,
        node: str | None = None,
        ended_at: float | None = None,
        seen: TrialRecord | None = None,
        steps: AttemptSteps = NO_STEPS,
        cost: AttemptCost | None = None,
        numbers: Mapping[str, Any] = NO_NUMBERS,
    ) -> bool:
        """Note an attempt that was lost or paused and may be followed by another; return if it was.

        It is noted once, and only while it is the newest: else another runner has gone on.

        Args:
            number: Number of the trial.
            attempt: Number of the attempt.
            verdict: What ended it.
            trained_seconds: How long its script ran, if that is known.
            node: Node that ran it or was to, if there are several.
            ended_at: When it ended, in seconds since the epoch, if that is known.
            seen: The trial as it was when that was judged; as it is now by default.
            steps: How far it came.
            cost: What it cost.
            numbers: What a pause was decided by.
        """
        known = (trained_seconds, node, ended_at, steps.checkpoint, steps.first, steps.last)
        ended: FollowedAttempt
        if verdict.cause is Cause.PAUSED:
            ended = PausedAttempt(attempt, verdict.message, *known, numbers)
        else:
            ended = LostAttempt(attempt, verdict.cause, verdict.message, verdict.hint, *known)

        def end(frozen: FrozenTrial) -> TrialChange | None:
            followed = followed_attempts(frozen.user_attrs)
            is_newest = frozen.user_attrs.get(form.ATTEMPT, 0) == attempt
            if not is_newest or any(other.attempt == attempt for other in followed):
                return None
            return TrialChange(with_followed(frozen.user_attrs, ended) | attribute_of(cost))

        return self.change(number, end, seen)

    def set_run_id(self, number: int, run_id: str) -> None:
        """Note which MLflow run shows a trial: its next write stores that.

        A runner that dies before has lost nothing: MLflow's runs are found by their tags.

        Args:
            number: Number of the trial.
            run_id: MLflow's id of the run.
        """
        self._index.note_run_id(number, run_id)

    def _with_run_id(self, frozen: FrozenTrial) -> dict[str, Any]:
        """Return the user attributes that say which run a trial has, if they are not stored."""
        run_id = self._index.run_id(frozen.number)
        return {} if run_id in (None, frozen.user_attrs.get(form.RUN_ID)) else {form.RUN_ID: run_id}

    def report(
        self, number: int, points: Sequence[MetricPoint], seen: TrialRecord | None = None
    ) -> None:
        """Keep the reported values of the first objective, for pruners and plots.

        Other metrics are ignored, and steps that this attempt has reported already. What an earlier
        attempt reported for a step is replaced.

        Args:
            number: Number of the trial.
            points: What was reported.
            seen: The trial of the attempt that reported it; one that has gone on ignores it.
        """
        metric = self.spec.objectives[0].metric
        wanted: dict[int, float] = {}
        for point in points:
            if point.name == metric and 0 <= point.step <= MAX_STEP:
                wanted.setdefault(point.step, point.value)
        if not wanted:
            return

        def keep(frozen: FrozenTrial) -> TrialChange | None:
            if frozen.state is not OptunaState.RUNNING:
                return None
            new, attrs = form.with_points(frozen, wanted, MAX_INTERMEDIATE_VALUES)
            return TrialChange(attrs, intermediate=new) if new else None

        self.change(number, keep, seen)

    def first_step(self, number: int) -> int | None:
        """Return the lowest step that any attempt of a trial reported; `None` without one."""
        return min(self._stored(number).intermediate_values, default=None)

    def should_prune(self, number: int) -> bool:
        """Return whether the pruner gives up a running trial after its newest reported value.

        An attempt that has reported nothing yet is not judged by what an earlier one reported.
        """
        stored = self._stored(number)
        if stored.state is not OptunaState.RUNNING or not form.has_reported(stored):
            return False
        frozen = form.of_one_attempt(stored)
        try:
            with self._storage.fenced(stored):
                return self.optuna_study.pruner.prune(self.optuna_study, frozen)
        except TrialTaken:
            return False

    def tell(
        self,
        number: int,
        verdict: Verdict,
        metrics: Mapping[str, float] | None = None,
        trained_seconds: float | None = None,
        node: str | None = None,
        seen: TrialRecord | None = None,
        cost: AttemptCost | None = None,
    ) -> TrialRecord:
        """Finish a trial and return it; a trial that is finished already is left as it is.

        Args:
            number: Number of the trial.
            verdict: What became of it; its state must be final.
            metrics: Every metric that the trial finished with.
            trained_seconds: How long the script of the last attempt ran, if that is known.
            node: Node that the last attempt ran on, if there are several.
            seen: The trial as it was when that was judged; when it has come to another attempt,
                holder or loss since, by another runner, it goes on.
            cost: What the last attempt cost.

        Raises:
            ValueError: The verdict's state is not final.
        """
        if verdict.state is None:
            raise ValueError("A trial between two attempts cannot be told.")
        end = {
            form.CAUSE: verdict.cause.value,
            form.MESSAGE: verdict.message,
            form.HINT: verdict.hint,
            form.CODE: verdict.code,
            form.METRICS: {k: v for k, v in (metrics or {}).items() if math.isfinite(v)},
            form.SECONDS: trained_seconds,
            form.NODE: node,
        }
        for _ in range(_MOST_TRIES):
            frozen = self._stored(number)
            if frozen.state.is_finished() or (seen is not None and form.has_gone_on(frozen, seen)):
                break
            attrs = form.end_of_attempt(frozen.user_attrs, verdict.constraints, **end)
            if verdict.is_first_failure:
                attrs[form.FIRST_FAILURE] = True
            change = TrialChange(
                {**self._with_run_id(frozen), **attrs, **attribute_of(cost)},
                {f"{form.CONSTRAINT}{name}": v for name, v in verdict.constraints.items()},
            )
            try:
                with self._storage.fenced(frozen, end=change):
                    self.optuna_study.tell(
                        number,
                        verdict.values,
                        state=form.OPTUNA_STATES[verdict.state],
                        skip_if_finished=True,
                    )
            except TrialTaken:
                _log.info("trial=%d was changed by another runner", number)
            else:
                break
        return self._record(number)

    def change(
        self,
        number: int,
        decide: Callable[[FrozenTrial], TrialChange | None],
        seen: TrialRecord | None = None,
    ) -> bool:
        """Write what is decided about a trial; return whether anything was.

        When another runner changes the trial between the read and the write, both are done again.

        Args:
            number: Number of the trial.
            decide: Returns what to write about a trial that is not finished, if anything.
            seen: The trial when its writer decided to write; once it has gone on, nothing is.
        """
        for _ in range(_MOST_TRIES):
            frozen = self._stored(number)
            if frozen.state.is_finished() or (seen is not None and form.has_gone_on(frozen, seen)):
                return False
            change = decide(frozen)
            if change is None:
                return False
            change = replace(change, user_attrs={**self._with_run_id(frozen), **change.user_attrs})
            expected = form.ownership(frozen.user_attrs)
            if self._storage.change_trial(frozen._trial_id, expected, change):
                return True
        return False

    def _stored(self, number: int) -> FrozenTrial:
        """Return a trial with whatever is stored of it as of this runner's last read or write.

        A refused write counts as well: the trial is read again after it.
        """
        index = self._index.current()
        if number >= len(index.frozen_trials):
            index = index.refresh()
        return index.frozen(number)

    def _record(self, number: int) -> TrialRecord:
        return self._index.renewed(number).record(number)


def first_attempt(known: Begin) -> dict[str, Any]:
    """Return the user attributes of a trial whose first attempt has begun.

    Args:
        known: What is known of budget and time.
    """
    return {form.ATTEMPT: known.attempt, **begin_attribute(known)}
