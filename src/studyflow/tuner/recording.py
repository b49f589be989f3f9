"""Records how attempts end: what that means for the trial, and when it is attempted again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Final

from studyflow.executors import AttemptId, AttemptStatus
from studyflow.observers.observer import Observer
from studyflow.reasons import Code, Reason
from studyflow.study import Study, Verdict, apply_curve, judge
from studyflow.study.attempt_count import AttemptCount, count_attempts
from studyflow.tracking.mirror import AWAITED
from studyflow.trial import Cause, Consequence, Outcome
from studyflow.trial.record import (
    NO_STEPS,
    AttemptSteps,
    LostAttempt,
    TrialRecord,
    TrialState,
)
from studyflow.tuner.first_failures import FirstFailures
from studyflow.tuner.metering import Meter
from studyflow.tuner.mirror import TrialMirror
from studyflow.tuner.nodes import Nodes
from studyflow.tuner.pausing import Pausing
from studyflow.tuner.progress import Notes
from studyflow.tuner.reconcile import CANCELLED
from studyflow.tuner.reports import Reports
from studyflow.tuner.silent import SilentScripts

_log = logging.getLogger(__name__)

MAX_BACKOFF_SECONDS: Final = 300.0
"""Longest pause before an attempt is repeated."""

NOT_TAKEN_UP: Final = "The study came to its end before the trial was taken up again."

_CANCELLED: Final = Verdict(Cause.CANCELLED, TrialState.FAILED, CANCELLED)


class Recorder:
    """Writes the ends of attempts and trials, and tells everybody of them.

    Args:
        study: The study.
        mirror: The study's mirror in MLflow.
        observer: Hears of every end.
        reports: What the attempts have reported.
        pausing: Knows why attempts were paused.
        meter: Measures what the attempts cost.
        nodes: Told of nodes without which there was no room.
        notes: Told what keeps an end from being recorded.
        first_failures: Failures before any success.
        patience_seconds: How long an end waits for an MLflow that is away.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        study: Study,
        mirror: TrialMirror,
        observer: Observer,
        *,
        reports: Reports,
        pausing: Pausing,
        meter: Meter,
        nodes: Nodes,
        notes: Notes,
        first_failures: FirstFailures,
        patience_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._study = study
        self._spec = study.spec
        self._mirror = mirror
        self._observer = observer
        self._reports = reports
        self._pausing = pausing
        self._meter = meter
        self._nodes = nodes
        self._notes = notes
        self._first_failures = first_failures
        self._silent = SilentScripts(
            study.spec,
            mirror,
            reports=reports,
            notes=notes,
            patience_seconds=patience_seconds,
            clock=clock,
        )
        self._clock = clock
        self._retry_at: dict[int, float] = {}

    @property
    def retry_at(self) -> Mapping[int, float]:
        """By trial, when the pause before its next attempt is over."""
        return self._retry_at

    def end_pause(self, number: int) -> None:
        """Take in that a trial's next attempt was launched."""
        self._retry_at.pop(number, None)

    def keep_only(self, alive: Collection[AttemptId]) -> None:
        """Forget all attempts but these: the others have ended."""
        self._silent.keep_only(alive)
        numbers = {attempt.number for attempt in alive}
        self._retry_at = {n: at for n, at in self._retry_at.items() if n in numbers}

    def record_end(
        self, record: TrialRecord, status: AttemptStatus, *, is_cancelling: bool
    ) -> bool:
        """Judge an ended attempt and record it; return whether that could be done now.

        Args:
            record: The trial, whose newest attempt it is.
            status: The attempt.
            is_cancelling: Whether its trial gets no other attempt, and nothing is waited for.
        """
        self._meter.look(record, status)
        is_named = record.run_id is not None or is_cancelling
        if not is_named and self._mirror.open_trial(record) is AWAITED:
            return False  # see `_note_run`
        if not self._reports.read_last(record, status):
            return False
        outcome = self._silent.outcome(record, status, is_cancelling=is_cancelling)
        if outcome is None:
            return False
        curve = self._reports.curve(record)
        if record.attempt > 1:
            curve = curve.begun_at(self._study.first_step(record.number))
        outcome = apply_curve(self._spec, outcome, curve)
        steps = self._steps(record, outcome, is_seen=True, may_ask=not is_cancelling)
        if steps is None:
            return False
        count = _count(record, outcome, steps)
        verdict = judge(self._spec, outcome, count)
        if status.missed_nodes:
            self._nodes.reset(status.missed_nodes)
        if status.blocks_study:
            self.block(record, outcome.reason)
        elif verdict.cause is Cause.PAUSED:
            self._pause(record, verdict, steps, status)
        elif verdict.state is None and is_cancelling:
            self.record(record, _CANCELLED, status=status)
        elif verdict.state is None:
            self._retry(record, verdict, steps, count, status)
        else:
            self.record(record, verdict, outcome.metrics, status)
        return True

    def record_loss(self, record: TrialRecord, message: str) -> None:
        """Record the newest attempt of a trial as lost: the executor does not know it.

        Left to a later turn while MLflow's answer is awaited.
        """
        lost = Outcome(self._spec.name, record.number, record.attempt, Cause.LOST, {}, message)
        steps = self._steps(record, lost, is_seen=False, may_ask=True)
        if steps is None:
            return
        count = _count(record, lost, steps)
        verdict = judge(self._spec, lost, count)
        if verdict.state is None:
            self._retry(record, verdict, steps, count)
        else:
            self.record(record, verdict)

    def cancel(self, record: TrialRecord) -> None:
        """End a trial whose study is cancelled."""
        self.record(record, _CANCELLED)

    def end_paused(self, record: TrialRecord, why: str = "") -> None:
        """End a paused trial as pruned, with the values that it has reported.

        Args:
            record: The trial.
            why: Why it is not taken up again, a sentence; empty if the study just ends.
        """
        paused = record.pauses[-1]
        message = f"{paused.message} {why or NOT_TAKEN_UP}".strip()
        self.record(record, Verdict(Cause.PRUNED, TrialState.PRUNED, message))

    def block(self, record: TrialRecord, reason: Reason) -> None:
        """Withdraw a trial that could not start, and start no other: each would fail alike.

        Nothing of it ran, so it costs no budget.
        """
        self._notes.blocked = reason
        message = f"No trial of the study can start: {reason.message}"
        why = replace(reason, code=Code.COULD_NOT_START, message=message)
        self.record(record, Verdict.because(Cause.CANCELLED, TrialState.FAILED, why))

    def record(
        self,
        record: TrialRecord,
        verdict: Verdict,
        metrics: Mapping[str, float] | None = None,
        status: AttemptStatus | None = None,
    ) -> None:
        """Finish a trial, unless another runner has gone on with it.

        Args:
            record: The trial, as it was when that was decided.
            verdict: What becomes of it; its state is final.
            metrics: Every metric that it finished with.
            status: Its newest attempt; `None` if the executor does not know it.
        """
        self._note_run(record, verdict)
        if self._first_failures.is_free(verdict):
            verdict = replace(verdict, is_first_failure=True)
        node, seconds = None if status is None else status.node, _seconds(status)
        if record.is_paused:
            node, seconds = record.pauses[-1].node, record.pauses[-1].trained_seconds
        cost = self._meter.row(record, verdict.cause, self._reports.times(record), status)
        told = self._study.tell(record.number, verdict, metrics or {}, seconds, node, record, cost)
        self._drop(record)
        self._retry_at.pop(told.number, None)
        if not told.state.is_finished:
            _log.info("trial=%d attempt=%d was replaced", told.number, record.attempt)
            return
        _log.info(
            "trial=%d state=%s cause=%s values=%s", told.number, told.state, told.cause, told.values
        )
        self._mirror.finish_trial(told)
        self._observer.recorded(told)

    def _drop(self, record: TrialRecord) -> None:
        """Forget what was seen of the newest attempt of a trial: it is recorded."""
        self._reports.drop(record)
        self._meter.forget(record)

    def _note_run(self, record: TrialRecord, verdict: Verdict) -> None:
        """Have the end name the trial's run, if a runner launched it that has died since."""
        if record.has_attempt and record.run_id is None and verdict.cause is not Cause.CANCELLED:
            tracking = self._mirror.open_trial(record)
            if tracking is not None and tracking is not AWAITED:
                self._study.set_run_id(record.number, tracking.run_id)

    def _steps(
        self, record: TrialRecord, outcome: Outcome, *, is_seen: bool, may_ask: bool
    ) -> AttemptSteps | None:
        """Return how far an attempt came that another may follow; else nothing is needed.

        `None` while MLflow's answer is awaited.
        """
        if outcome.cause.consequence not in (Consequence.RETRY, Consequence.PAUSE):
            return NO_STEPS
        return self._reports.steps(record, is_seen=is_seen, may_ask=may_ask)

    def _pause(
        self,
        record: TrialRecord,
        verdict: Verdict,
        steps: AttemptSteps,
        status: AttemptStatus,
    ) -> None:
        """Record an attempt as paused; its trial waits until it is taken up again."""
        why = self._pausing.why(record)
        is_noted = self._end_attempt(
            record, verdict, steps, status, {} if why is None else why.numbers
        )
        if is_noted:
            self._drop(record)
            self._mirror.lose_attempt(record)
            _log.info("trial=%d attempt=%d paused: %s", record.number, record.attempt, why)
            self._observer.paused(self._study.known_trials().record(record.number))

    def _end_attempt(
        self,
        record: TrialRecord,
        verdict: Verdict,
        steps: AttemptSteps,
        status: AttemptStatus | None,
        numbers: Mapping[str, Any],
    ) -> bool:
        """Note an attempt that another may follow; return whether no other runner has gone on."""
        is_noted = self._study.end_attempt(
            record.number,
            record.attempt,
            verdict,
            trained_seconds=_seconds(status),
            node=None if status is None else status.node,
            ended_at=None if status is None else status.ended_at,
            seen=record,
            steps=steps,
            cost=self._meter.row(record, verdict.cause, self._reports.times(record), status),
            numbers=numbers,
        )
        if not is_noted:
            _log.info("trial=%d attempt=%d was replaced", record.number, record.attempt)
        return is_noted

    def _retry(
        self,
        record: TrialRecord,
        verdict: Verdict,
        steps: AttemptSteps,
        count: AttemptCount,
        status: AttemptStatus | None = None,
    ) -> None:
        """Record an attempt as lost; the same trial is attempted again after a pause."""
        if not self._end_attempt(record, verdict, steps, status, {}):
            return
        # By attempt numbers: one that found no room is waited for longer each time, too.
        exponent = min(record.attempt - count.since, 64)
        backoff = self._spec.retry.backoff_seconds * 2.0**exponent
        pause = min(backoff, MAX_BACKOFF_SECONDS)
        self._retry_at[record.number] = self._clock() + pause
        self._drop(record)
        self._mirror.lose_attempt(record)
        _log.info(
            "trial=%d attempt=%d lost cause=%s: %s",
            record.number,
            record.attempt,
            verdict.cause,
            verdict.reason,
        )
        self._observer.attempt_lost(
            record,
            f"{verdict.cause}: {verdict.reason}{_given_back(record, count)} "
            f"Attempt {record.attempt + 1} in {pause:.3g} s.",
        )


def _count(record: TrialRecord, outcome: Outcome, steps: AttemptSteps) -> AttemptCount:
    """Return what counts of a trial's attempts, with the one that has just ended."""
    newest = LostAttempt(
        record.attempt,
        outcome.cause,
        checkpoint_step=steps.checkpoint,
        first_step=steps.first,
        last_step=steps.last,
    )
    return count_attempts((*record.followed_attempts, newest))


def _given_back(record: TrialRecord, count: AttemptCount) -> str:
    """Return in a sentence that an attempt makes the count begin anew; empty if it does not."""
    if count.step is None or count.since != record.attempt:
        return ""
    return f" It brought the trial to step {count.step}, so retry.max_attempts counts from it."


def _seconds(status: AttemptStatus | None) -> float | None:
    """Return how long an ended attempt's script ran."""
    if status is None or status.started_at is None or status.ended_at is None:
        return None
    return max(status.ended_at - status.started_at, 0.0)
