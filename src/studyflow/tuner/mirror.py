"""What the loop needs of the study's mirror in MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from studyflow.tracking.logged import LoggedRuns
from studyflow.tracking.mirror import Awaited
from studyflow.trial import MetricPoint, TrackingRef
from studyflow.trial.record import TrialRecord


class TrialMirror(Protocol):
    """The study's mirror in MLflow; no method raises or blocks.

    An answer that is not there yet is `AWAITED`: asked for again in a later turn, it will be.
    """

    def open_trial(self, record: TrialRecord) -> TrackingRef | Awaited | None:
        """Return the trial's run, or `None` while MLflow is away."""

    def is_opening(self, record: TrialRecord) -> bool:
        """Return whether the run of a trial's newest attempt is awaited at this moment."""

    def points(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        """Pass on reported metrics."""

    def lose_attempt(self, record: TrialRecord) -> None:
        """Pass on that a trial's newest attempt was lost."""

    def finish_trial(self, record: TrialRecord) -> None:
        """Pass on that a trial is finished."""

    def read_points(self, record: TrialRecord, metric: str) -> tuple[MetricPoint, ...] | Awaited:
        """Return what a script logged by plain MLflow; empty when there is nothing."""

    def read_running(
        self, records: Sequence[TrialRecord], metric: str
    ) -> Mapping[int, tuple[MetricPoint, ...]] | Awaited:
        """Return the same of all these running trials at once, by number: of those with news."""

    def read_runs(
        self, record: TrialRecord, metrics: Sequence[str], began_at: float | None
    ) -> LoggedRuns | Awaited:
        """Return what the newest attempt's script logged by itself, or why that is not known."""

    def drop(self, record: TrialRecord) -> None:
        """Forget what was asked about the newest attempt of a trial: it is recorded."""

    def seconds_to_answer(self) -> float | None:
        """Return for how long to sleep before answers are looked for; `None` for any time."""
