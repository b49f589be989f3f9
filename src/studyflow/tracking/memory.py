"""A tracker that keeps everything in this process: for tests, and for runs without MLflow."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from studyflow.errors import TrackingError
from studyflow.tracking import tables
from studyflow.tracking.logged import LoggedRun, LoggedRuns
from studyflow.tracking.protocol import StudyCard, StudySummary
from studyflow.trial import MetricPoint, TrackingRef
from studyflow.trial.record import TrialRecord

URI = "memory:"


@dataclass
class MemoryRun:
    """One run. Tests may read it freely, and change it to act as another process would."""

    run_id: str
    name: str
    status: str = "RUNNING"
    record: TrialRecord | None = None
    """The record it was last brought up to date with."""
    points: dict[tuple[str, int, int, float], MetricPoint] = field(default_factory=dict)
    """Metrics by step, each once."""
    log: bytes | None = None
    artifacts: dict[str, bytes] = field(default_factory=dict)
    lost_attempt: int = 0
    """Number of the newest attempt that was lost; 0 while none was."""
    opened: int = 0
    """How often it was opened: once for each attempt."""
    closed: int = 0

    @property
    def metrics(self) -> dict[str, float]:
        """Last value of each metric: final ones, else by step, then time."""
        latest = {
            point.name: point.value
            for point in sorted(self.points.values(), key=lambda p: (p.step, p.timestamp_ms))
        }
        if self.record is not None and self.record.state.is_finished:
            latest |= {n: v for n, v in self.record.metrics.items() if math.isfinite(v)}
        return latest


class MemoryTracker:
    """A `Tracker` that remembers; two made with the same `store` see the same runs.

    Args:
        store: Where runs are kept: trial number → run, and the study's own under -1.
    """

    def __init__(self, store: dict[int, MemoryRun] | None = None) -> None:
        self.runs: dict[int, MemoryRun] = {} if store is None else store
        """Runs by trial number; the study's own is `runs[-1]`."""
        self.card: StudyCard | None = None
        self.summary: StudySummary | None = None
        self.created = 0
        """How many runs were ever created here."""
        self._lock = threading.RLock()

    @property
    def uri(self) -> str:
        """`memory:`, which is no address."""
        return URI

    @property
    def study_run(self) -> MemoryRun:
        """The study's own run."""
        return self.runs[-1]

    def open_study(self, card: StudyCard) -> TrackingRef:
        """Create the study's run, or set it to running; return it."""
        with self._lock:
            self.card = card
            run = self._run(-1, card.name)
            run.status = "RUNNING"
            run.opened += 1
            run.artifacts["study.yaml"] = card.spec_yaml.encode()
            return TrackingRef(URI, run.run_id)

    def open_trial(self, record: TrialRecord) -> TrackingRef:
        """Create the trial's run, or set it to running; return it."""
        with self._lock:
            run = self._trial_run(record)
            run.opened += 1
            run.record = record
            run.status = tables.run_status(record.state, record.cause)
            return TrackingRef(URI, run.run_id)

    def log_points(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        """Store metrics by step, each once, and only numbers."""
        with self._lock:
            stored = self._trial_run(record).points
            for p in points:
                if math.isfinite(p.value):
                    stored[(p.name, p.step, p.timestamp_ms, p.value)] = p

    def lose_attempt(self, record: TrialRecord) -> None:
        """Note that an attempt was lost."""
        with self._lock:
            run = self._trial_run(record)
            run.lost_attempt = max(run.lost_attempt, record.attempt)

    def close_trial(
        self,
        record: TrialRecord,
        *,
        log: Path | None = None,
        artifacts: Sequence[Path] = (),
    ) -> None:
        """Bring the trial's run to the state of a finished record.

        Raises:
            TrackingError: The record is not finished, or an artifact cannot be read.
        """
        if not record.state.is_finished:
            raise TrackingError(f"Trial {record.number} is {record.state}, which is not final.")
        with self._lock:
            run = self._trial_run(record)
            run.record = record
            run.status = tables.run_status(record.state, record.cause)
            try:
                if log is not None and log.is_file():
                    run.log = log.read_bytes()
                for file in tables.artifact_files(artifacts).files:
                    run.artifacts[file.name] = file.path.read_bytes()
            except OSError as error:
                raise TrackingError(f"Trial {record.number}: artifact missing: {error}") from error
            run.closed += 1

    def close_study(self, summary: StudySummary) -> None:
        """Bring the study's run up to date.

        Raises:
            TrackingError: A file cannot be read.
        """
        with self._lock:
            self.summary = summary
            run = self._run(-1, "" if self.card is None else self.card.name)
            ended = "FINISHED" if summary.finished else "KILLED"
            run.status = "RUNNING" if summary.is_driven else ended
            run.closed += 1
            try:
                for name, path in summary.files.items():
                    run.artifacts[name] = path.read_bytes()
            except OSError as error:
                raise TrackingError(f"The study: file missing: {error}") from error

    def read_points(self, record: TrialRecord, metric: str) -> tuple[MetricPoint, ...]:
        """Return one metric of a trial's run by step, oldest first."""
        with self._lock:
            run = self.runs.get(record.number)
            found = [] if run is None else [p for p in run.points.values() if p.name == metric]
            return tuple(sorted(found, key=lambda p: (p.step, p.timestamp_ms)))

    def read_latest(self, record: TrialRecord) -> Mapping[str, float]:
        """Return the last value of every metric of a trial's run; empty when it has none."""
        with self._lock:
            run = self.runs.get(record.number)
            return {} if run is None else run.metrics

    def read_runs(
        self,
        record: TrialRecord,
        metrics: Sequence[str],  # noqa: ARG002
        began_at: float | None,
    ) -> LoggedRuns:
        """Return the trial's run; no script can log here, so there are no others."""
        with self._lock:
            run = self.runs.get(record.number)
            if run is None:
                return LoggedRuns()
            since_ms = 0 if began_at is None or record.attempt == 1 else began_at * 1000 - 1000
            latest: dict[str, MetricPoint] = {}
            for p in run.points.values():
                last = latest.get(p.name)
                if p.timestamp_ms >= since_ms and (
                    last is None or (p.step, p.timestamp_ms) >= (last.step, last.timestamp_ms)
                ):
                    latest[p.name] = p
            values = {name: p.value for name, p in latest.items()}
            outdated = frozenset(p.name for p in run.points.values()) - values.keys()
            return LoggedRuns(runs=(LoggedRun(run.run_id, run.name, values, outdated),))

    def finished_trials(self) -> frozenset[int]:
        """Return the numbers of the trials whose runs are completely up to date."""
        with self._lock:
            return frozenset(n for n, run in self.runs.items() if n >= 0 and run.closed)

    def run_url(
        self,
        record: TrialRecord | None = None,  # noqa: ARG002
        *,
        artifact: str | None = None,  # noqa: ARG002
    ) -> str | None:
        """Return `None`: there are no pages."""
        return None

    def close(self) -> None:
        """Do nothing; the runs can still be read."""

    def _trial_run(self, record: TrialRecord) -> MemoryRun:
        return self._run(record.number, f"trial-{record.number:04d}")

    def _run(self, number: int, name: str) -> MemoryRun:
        if number not in self.runs:
            self.created += 1
            self.runs[number] = MemoryRun(f"memory-{number}-{self.created}", name)
        return self.runs[number]
