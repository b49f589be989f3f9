"""What the loop needs of the study's mirror in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from studyflow.tracking.logged import LoggedRuns
from studyflow.trial import MetricPoint, TrackingRef
from studyflow.trial.record import TrialRecord


class TrialMirror(Protocol):
    """The study's mirror in MLflow; no method raises or blocks."""

    def open_trial(self, record: TrialRecord) -> TrackingRef | None:
        """Return the trial's run, or `None` while MLflow is away."""

    def points(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        """Pass on reported metrics."""

    def lose_attempt(self, record: TrialRecord) -> None:
        """Pass on that a trial's newest attempt was lost."""

    def finish_trial(self, record: TrialRecord) -> None:
        """Pass on that a trial is finished."""

    def read_points(self, record: TrialRecord, metric: str) -> tuple[MetricPoint, ...]:
        """Return what a script logged by plain MLflow; empty when there is nothing."""

    def read_runs(
        self, record: TrialRecord, metrics: Sequence[str], began_at: float | None
    ) -> LoggedRuns:
        """Return what the newest attempt's script logged by itself, or why that is not known."""
