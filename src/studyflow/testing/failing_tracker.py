"""A tracker that fails, refuses or hangs on command."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from studyflow.errors import TrackingError, TrackingUnavailable
from studyflow.tracking.logged import LoggedRuns
from studyflow.tracking.optional import read_running, reserve_trial
from studyflow.tracking.protocol import StudyCard, StudySummary, Tracker
from studyflow.trial import MetricPoint, TrackingRef
from studyflow.trial.record import TrialRecord

_T = TypeVar("_T")


class FailingTracker:
    """Passes calls on to `inner`, unless told otherwise.

    Args:
        inner: The tracker that works.
        before: Called with a method's name and the trial's number (`None` for the study) before
            the call is passed on. It may wait or raise: a slow tracker is one line in a test.
    """

    def __init__(
        self, inner: Tracker, before: Callable[[str, int | None], None] | None = None
    ) -> None:
        self.inner = inner
        self.before = before
        self.calls: Counter[str] = Counter()
        """How often each method was called, whatever came of it."""
        self.is_away = False
        """While true every call raises `TrackingUnavailable`."""
        self.lost_answers: set[str] = set()
        """Methods that do their work once more and then raise, as when an answer is lost."""
        self.refused_trials: dict[int, TrackingError] = {}
        """Errors raised by every write about one trial."""
        self.release = threading.Event()
        """Set it to let `hang`ing calls go on."""
        self._planned: deque[TrackingError] = deque()
        self._hanging: set[str] = set()

    def fail_next(self, times: int = 1, error: TrackingError | None = None) -> None:
        """Have the next calls raise; `TrackingUnavailable` unless told."""
        planned = error or TrackingUnavailable("MLflow at http://test does not answer: planned")
        self._planned.extend([planned] * times)

    def hang(self, *methods: str) -> None:
        """Have these methods wait until `release` is set."""
        self.release.clear()
        self._hanging = set(methods)

    @property
    def uri(self) -> str:
        return self.inner.uri

    def open_study(self, card: StudyCard) -> TrackingRef:
        return self._pass("open_study", None, lambda: self.inner.open_study(card))

    def open_trial(self, record: TrialRecord) -> TrackingRef:
        return self._pass("open_trial", record, lambda: self.inner.open_trial(record))

    def log_points(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        self._pass("log_points", record, lambda: self.inner.log_points(record, points))

    def lose_attempt(self, record: TrialRecord) -> None:
        self._pass("lose_attempt", record, lambda: self.inner.lose_attempt(record))

    def close_trial(
        self, record: TrialRecord, *, log: Path | None = None, artifacts: Sequence[Path] = ()
    ) -> None:
        self._pass(
            "close_trial",
            record,
            lambda: self.inner.close_trial(record, log=log, artifacts=artifacts),
        )

    def close_study(self, summary: StudySummary) -> None:
        self._pass("close_study", None, lambda: self.inner.close_study(summary))

    def read_points(self, record: TrialRecord, metric: str) -> tuple[MetricPoint, ...]:
        return self._pass("read_points", record, lambda: self.inner.read_points(record, metric))

    def reserve_trial(self, record: TrialRecord) -> TrackingRef | None:
        return self._pass("reserve_trial", record, lambda: reserve_trial(self.inner, record))

    def read_running(
        self, records: Sequence[TrialRecord], metric: str
    ) -> Mapping[int, tuple[MetricPoint, ...]]:
        return self._pass("read_running", None, lambda: read_running(self.inner, records, metric))

    def read_latest(self, record: TrialRecord) -> Mapping[str, float]:
        return self._pass("read_latest", record, lambda: self.inner.read_latest(record))

    def read_runs(
        self, record: TrialRecord, metrics: Sequence[str], began_at: float | None
    ) -> LoggedRuns:
        return self._pass(
            "read_runs", record, lambda: self.inner.read_runs(record, metrics, began_at)
        )

    def finished_trials(self) -> frozenset[int]:
        return self._pass("finished_trials", None, self.inner.finished_trials)

    def run_url(
        self, record: TrialRecord | None = None, *, artifact: str | None = None
    ) -> str | None:
        return self.inner.run_url(record, artifact=artifact)

    def close(self) -> None:
        self.calls["close"] += 1
        self.inner.close()

    def _pass(self, method: str, record: TrialRecord | None, call: Callable[[], _T]) -> _T:
        self.calls[method] += 1
        number = None if record is None else record.number
        if self.before is not None:
            self.before(method, number)
        if method in self._hanging:
            self.release.wait()
        if self.is_away:
            raise TrackingUnavailable("MLflow at http://test does not answer: away")
        if self._planned:
            raise self._planned.popleft()
        if number in self.refused_trials and not method.startswith("read"):
            raise self.refused_trials[number]
        result = call()
        if method in self.lost_answers:
            self.lost_answers.discard(method)
            raise TrackingUnavailable("MLflow at http://test does not answer: answer lost")
        return result
