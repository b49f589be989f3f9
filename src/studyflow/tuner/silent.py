"""Outcomes of scripts that ended in order and said nothing: what they logged stands in for them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from studyflow.executors import AttemptId, AttemptStatus
from studyflow.reasons import Reason
from studyflow.spec import StudySpec
from studyflow.tracking.logged import LoggedRuns, read_metrics, why_no_value
from studyflow.tracking.mirror import AWAITED
from studyflow.trial import Cause, Outcome
from studyflow.trial.record import TrialRecord
from studyflow.tuner.mirror import TrialMirror
from studyflow.tuner.progress import Notes
from studyflow.tuner.reconcile import CANCELLED
from studyflow.tuner.reports import Reports
from studyflow.tuner.snapshot import newest_attempt


class SilentScripts:
    """Looks for the values of scripts that gave none.

    Args:
        spec: The study.
        mirror: The study's mirror in MLflow.
        reports: What the attempts have reported.
        notes: Told what keeps an end from being recorded.
        patience_seconds: How long an end waits for an MLflow that is away.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        spec: StudySpec,
        mirror: TrialMirror,
        *,
        reports: Reports,
        notes: Notes,
        patience_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._spec = spec
        self._mirror = mirror
        self._reports = reports
        self._notes = notes
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._unread_since: dict[AttemptId, float] = {}
        """Ended attempts whose runs could not be read yet, and when that was first found."""

    def keep_only(self, alive: Collection[AttemptId]) -> None:
        """Forget all attempts but these: the others have ended."""
        self._unread_since = {a: since for a, since in self._unread_since.items() if a in alive}

    def outcome(
        self, record: TrialRecord, status: AttemptStatus, *, is_cancelling: bool
    ) -> Outcome | None:
        """Let what a script logged by itself stand in for the outcome it did not give.

        What was said and refused is never replaced: the script may have meant any other value.

        Returns:
            The outcome; `None` when the tracker is to be asked again: it is away, or its answer
            is awaited.
        """
        outcome = status.outcome
        assert outcome is not None, "an ended attempt has an outcome"
        if not outcome.is_silent:
            return outcome
        attempt, names = newest_attempt(record), self._spec.metrics
        reported, logged = self._reports.latest(record), LoggedRuns()
        if not all(name in reported for name in names):
            found_runs = self._mirror.read_runs(record, names, status.started_at)
            if found_runs is AWAITED:
                return None
            logged = found_runs
        if logged.is_retryable and is_cancelling:
            return outcome.because(Cause.CANCELLED, Reason(Cause.CANCELLED, CANCELLED))
        if logged.is_retryable:
            since = self._unread_since.setdefault(attempt, self._clock())
            if self._clock() - since < self._patience_seconds:
                self._notes.add(
                    f"Trial {record.number} has ended. What it logged is in MLflow, which does "
                    "not answer."
                )
                return None
        self._unread_since.pop(attempt, None)
        readings = read_metrics(names, logged, reported)
        found = {r.name: r.value for r in readings if r.value is not None}
        if len(found) < len(names):
            why = why_no_value(outcome.reason, record.number, readings, logged)
            return outcome.because(outcome.cause, why)
        told = "The script called no finish(); the last logged values were taken."
        return replace(outcome, metrics=found).because(Cause.OK, Reason(Cause.OK, told))
