"""What every tracker guarantees. `studyflow.testing.tracker_contract` tests it.

A tracker shows a study to people. The study's storage is the single source of truth; a tracker
mirrors it and catches up. Each method brings the runs of one study or trial up to date with what it
is given: calling it again with the same record changes nothing, and after an outage one call with
the newest record sends everything that was missed. Each method may block for some seconds, so the
runner's loop calls trackers only through `studyflow.tracking.mirror`. Several threads may use one
tracker at once, as long as they write about different trials.

Two further methods save a tracker requests; one without them is asked by the others, trial by trial
(`studyflow.tracking.optional`). `reserve_trial(record)` returns a run that was just created for a
trial that had none, or `None` for a trial that has one. `read_running(records, metric)` returns the
points of those running trials that have new ones, by number.

The study has one run, the parent, and each trial one child run, however many attempts it takes.
Runs are found again by tags, so no process has to remember an id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from studyflow.tracking.logged import LoggedRuns
from studyflow.trial import MetricPoint, TrackingRef
from studyflow.trial.record import TrialRecord


@dataclass(frozen=True, slots=True)
class StudyCard:
    """A study as a tracker shows it from the start."""

    name: str
    directions: tuple[str, ...]
    objectives: tuple[str, ...]
    """Metric of each objective, in the order of `directions`."""
    spec_yaml: str
    """The study file as it was read (or as the spec would be written)."""
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    n_trials: int | None = 0
    """Trials to finish; `None` for as many as another limit of the budget allows."""
    parameters: tuple[str, ...] = ()
    """Searched parameters, in the study file's order."""
    source: str = ""
    """What was run, such as the path of the study file; MLflow shows `studyflow` when empty."""


@dataclass(frozen=True, slots=True)
class StudySummary:
    """A study as a tracker shows it at its end, or at the end of one runner."""

    finished: bool
    """Whether the study spent its budget or stopped early; False when its runner was
    interrupted."""
    best: tuple[TrialRecord, ...]
    """The best trial, or the Pareto front; empty when nothing feasible finished."""
    records: tuple[TrialRecord, ...]
    note_markdown: str = ""
    """Becomes the description that MLflow shows on the parent run."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Artifact path within the parent run → local file: figures, report, best configuration."""
    is_driven: bool = False
    """Whether another runner goes on with the study, so that its run stays running."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Further tags of the parent run: what the study has spent, and how its budget stands."""


class Tracker(Protocol):
    """Mirrors one study. The module's docstring says what all trackers guarantee.

    Raises:
        TrackingUnavailable: By every method that calls the server, when it does not answer in time.
        TrackingError: By every method that calls the server, when it refuses for good.
    """

    @property
    def uri(self) -> str:
        """Tracking URI as this process reaches it."""

    def open_study(self, card: StudyCard) -> TrackingRef:
        """Create the parent run, or find it and set it to running; return it."""

    def open_trial(self, record: TrialRecord) -> TrackingRef:
        """Create the trial's child run, or find it and set it to running; return it.

        The run holds the parameters, and tags for state, attempt and number.
        """

    def log_points(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        """Store metrics by step. A point that is there already is not stored again."""

    def lose_attempt(self, record: TrialRecord) -> None:
        """Note on the trial's run that its newest attempt was lost, and others before it.

        Where scripts write with tokens, that attempt writes nothing from then on, even if its
        process lives on. Of a later attempt nothing changes, however late this is noted.
        """

    def close_trial(
        self,
        record: TrialRecord,
        *,
        log: Path | None = None,
        artifacts: Sequence[Path] = (),
    ) -> None:
        """Bring the child run to the state of a finished record: values, metrics, cause, duration.

        The run is created when it is missing. Its status follows the state: complete and pruned
        trials are FINISHED, cancelled ones KILLED, other failed ones FAILED.
        """

    def close_study(self, summary: StudySummary) -> None:
        """Bring the parent run up to date: best trial, configuration, table of trials, files."""

    def read_points(self, record: TrialRecord, metric: str) -> tuple[MetricPoint, ...]:
        """Return one metric of a trial by step, oldest first, whoever logged it."""

    def read_latest(self, record: TrialRecord) -> Mapping[str, float]:
        """Return the last value of every metric of a trial's run; empty when it has none."""

    def read_runs(
        self, record: TrialRecord, metrics: Sequence[str], began_at: float | None
    ) -> LoggedRuns:
        """Return the trial's run and those that the newest attempt's script started beside it.

        Args:
            record: The trial.
            metrics: Metrics that the study needs.
            began_at: When the attempt's script began, in seconds since the epoch; `None` when it is
                not known. Of a run that is older than the attempt, earlier values do not count.
        """

    def finished_trials(self) -> frozenset[int]:
        """Return the numbers of the trials whose child runs are completely up to date."""

    def run_url(
        self, record: TrialRecord | None = None, *, artifact: str | None = None
    ) -> str | None:
        """Return the web page of the study's or a trial's run, or of one of the run's artifacts.

        `None` without a web server.
        """

    def close(self) -> None:
        """Release connections."""
