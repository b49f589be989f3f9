"""Pauses running trials and takes paused ones up again, as the study's policy says."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from studyflow.executors import AttemptId
from studyflow.spec import StudySpec
from studyflow.study import Study, TrialIndex
from studyflow.study.pausing import (
    Decision,
    Move,
    PausePolicy,
    Standing,
    Standings,
    TakeUpAll,
    pause_policy,
)
from studyflow.trial import Cause
from studyflow.trial.cost import Why
from studyflow.trial.record import TrialRecord
from studyflow.tuner.progress import Notes, TunerResult
from studyflow.tuner.reconcile import Stop
from studyflow.tuner.snapshot import Limits, newest_attempt

MOST_LOOKS: Final = 5
"""How often a trial that is to be paused is looked at for a checkpoint of its newest step. Then one
of the step that was decided by is enough, and up to a step is trained again."""

WITHOUT_CHECKPOINTS: Final = (
    "Trials publish no checkpoints, so none is paused: one that is not among the best of its rung "
    "ends. Hint: save within `with sdk.checkpoint(step) as folder:`, or use variant: stopping."
)


CURVE_WITHOUT_CHECKPOINTS: Final = (
    "Trials publish no checkpoints, so one that would be paused ends. Hint: save within "
    "`with sdk.checkpoint(step) as folder:`, so that it can go on later."
)


@dataclass(frozen=True, slots=True)
class Published:
    """Which checkpoints an attempt has published, as far as that is known."""

    step: int | None
    """Highest step; `None` without any."""
    is_current: bool = True
    """Whether that holds now; else an answer of MLflow's is awaited, or an older one stands."""


@dataclass(slots=True)
class _Leaving:
    """An attempt that is to be paused once it has saved what it has reported."""

    decision: Decision
    step: int
    """The last step that it had reported when that was decided."""
    n_looks: int = 0


class Pausing:
    """What one runner has decided of running trials. A new runner needs none of it.

    Args:
        study: The study.
        notes: Told once if trials publish no checkpoints.
    """

    def __init__(self, study: Study, notes: Notes) -> None:
        self._study = study
        self._notes = notes
        self._policy = _policy_of(study.spec)
        self._standings = Standings()
        self._cleared: dict[int, int] = {}
        """By running trial, up to which step it was let go on."""
        self._leaving: dict[AttemptId, _Leaving] = {}
        self._told: dict[AttemptId, Why] = {}
        """Why attempts were told to pause."""
        self._has_checkpoints: bool | None = None
        """Whether the study's script publishes any; `None` before that is known."""

    @property
    def is_deciding(self) -> bool:
        """Whether a policy judges running trials, in place of the pruner."""
        return self._policy is not None

    def is_leaving(self, record: TrialRecord) -> bool:
        """Return whether a trial is to be paused and has not saved yet."""
        return newest_attempt(record) in self._leaving

    def why(self, record: TrialRecord) -> Why | None:
        """Return why the newest attempt was told to pause; `None` if another runner did that."""
        return self._told.get(newest_attempt(record))

    def drop(self, record: TrialRecord) -> None:
        """Forget the newest attempt of a trial: it is recorded."""
        self._leaving.pop(newest_attempt(record), None)
        self._told.pop(newest_attempt(record), None)
        self._cleared.pop(record.number, None)

    def keep_only(self, alive: Collection[AttemptId]) -> None:
        """Forget all attempts but these: the others have ended."""
        self._leaving = {a: leaving for a, leaving in self._leaving.items() if a in alive}
        self._told = {a: why for a, why in self._told.items() if a in alive}
        numbers = {attempt.number for attempt in alive}
        self._cleared = {n: step for n, step in self._cleared.items() if n in numbers}

    # ---- running trials ---------------------------------------------------------------------

    def stop(
        self, record: TrialRecord, last_step: int | None, published: Callable[[], Published]
    ) -> Stop | None:
        """Return the stop of a running attempt that is paused now, or ended for good.

        Args:
            record: The trial, which has reported something that is finite since it was begun.
            last_step: The step from which a trial is left to finish; `None` while unknown.
            published: Says which checkpoints the attempt has published.
        """
        attempt = newest_attempt(record)
        newest = self._study.known_trials().record(record.number)
        reported = max(newest.intermediate, default=-1)
        if last_step is not None and reported >= last_step:
            self._leaving.pop(attempt, None)  # its result comes next
            return None
        if attempt not in self._leaving:
            decision = self._judge(newest, last_step)
            if decision.move is Move.STOP:
                return Stop(attempt, Cause.PRUNED, decision.why.message)
            if decision.move is not Move.PAUSE:
                self._cleared[record.number] = reported
                return None
            self._leaving[attempt] = _Leaving(decision, reported)
        return self._stop_leaving(newest, reported, published())

    def _judge(self, record: TrialRecord, last_step: int | None) -> Decision:
        assert self._policy is not None, "asked only where a policy decides"
        trials = self._study.known_trials()
        standing = self._standing(trials, trials.room > 0, last_step=last_step)
        return self._policy.judge(standing, record.number)

    def _stop_leaving(
        self, record: TrialRecord, reported: int, published: Published
    ) -> Stop | None:
        attempt = newest_attempt(record)
        leaving = self._leaving[attempt]
        if published.step is not None:
            self._has_checkpoints = True
        if self._is_without(leaving, reported, published):
            del self._leaving[attempt]
            if self._policy is not None and self._policy.stops_without_checkpoints:
                return Stop(attempt, Cause.PRUNED, leaving.decision.why.message)
            return self._stop_for_good(record, reported)
        if published.step is None or published.step < leaving.step:
            return None
        leaving.n_looks += 1
        if published.step < reported and leaving.n_looks < MOST_LOOKS:
            return None
        self._told[attempt] = leaving.decision.why
        return Stop(attempt, Cause.PAUSED, leaving.decision.why.message)

    def _is_without(self, leaving: _Leaving, reported: int, published: Published) -> bool:
        """Return whether the script publishes no checkpoints, as far as can be known."""
        if self._has_checkpoints is None:
            known = self._study.known_trials().running
            followed = (one for other in known for one in other.followed_attempts)
            if any(one.checkpoint_step is not None for one in followed):
                self._has_checkpoints = True
        if self._has_checkpoints is False:
            return True
        if self._has_checkpoints or reported <= leaving.step or not published.is_current:
            return False
        # It has gone on with the next step and saved nothing of the one before.
        self._has_checkpoints = False
        of_curves = self._policy is not None and self._policy.stops_without_checkpoints
        self._notes.add(CURVE_WITHOUT_CHECKPOINTS if of_curves else WITHOUT_CHECKPOINTS)
        return True

    def _stop_for_good(self, record: TrialRecord, reported: int) -> Stop | None:
        """Return the stop by the pruner itself: what a pause would lose is lost then as well."""
        if not self._study.should_prune(record.number):
            self._cleared[record.number] = reported
            return None
        return Stop(newest_attempt(record), Cause.PRUNED, why_pruned(self._study, record))

    # ---- free slots -------------------------------------------------------------------------

    def choice(
        self,
        trials: TrialIndex,
        awake: Collection[TrialRecord],
        limits: Limits,
        out_of_reach: Collection[int],
    ) -> Decision | None:
        """Return what the next free slot goes to; `None` if nothing is paused by anybody.

        Args:
            trials: The study's trials.
            awake: The running trials without those whose attempts rest.
            limits: How much may run at once.
            out_of_reach: Trials that this runner cannot take up now.
        """
        has_paused = any(record.is_paused for record in awake)
        policy = self._policy or (TakeUpAll() if has_paused else None)
        if policy is None:
            return None
        n_begun = sum(record.has_attempt for record in trials.running)
        standing = self._standing(
            trials,
            trials.room > 0,
            n_free_slots=max(limits.max_parallel_trials - n_begun, 0),
            out_of_reach=out_of_reach,
        )
        return policy.choose(standing)

    def _standing(
        self,
        trials: TrialIndex,
        may_start: bool,
        *,
        n_free_slots: int = 0,
        last_step: int | None = None,
        out_of_reach: Collection[int] = (),
    ) -> Standing:
        made = self._standings.of(trials.records, self._cleared, out_of_reach)
        return Standing(made, n_free_slots, may_start, last_step)


def has_use_for_paused(choice: Decision | None, ending: TunerResult | None) -> bool:
    """Return whether a paused trial may be taken up again, in this run or in a later one.

    Args:
        choice: What the next free slot goes to.
        ending: Why no further trial is asked for.
    """
    if ending is not None:
        return not ending.is_finished
    return choice is None or choice.move is not Move.WAIT


def why_pruned(study: Study, record: TrialRecord) -> str:
    """Return in a sentence by what its pruner gives a trial up."""
    step, metric = max(record.intermediate), study.spec.objectives[0].metric
    value = record.intermediate[step]
    return f"Pruned by {study.spec.pruner.type} at step {step} with {metric}={value:g}."


def is_finite(record: TrialRecord) -> bool:
    """Return whether a trial's newest report is a finite number."""
    step = max(record.intermediate, default=None)
    return step is not None and math.isfinite(record.intermediate[step])


def _policy_of(spec: StudySpec) -> PausePolicy | None:
    """Return the policy that a study file's pruner asks for; `None` if it pauses nothing."""
    if spec.pruner.type != "curve":
        return pause_policy(spec)
    # The sampler's packages, which no other study's loop needs.
    from studyflow.tuner.curve_policy import CurvePolicy

    return CurvePolicy(spec)
