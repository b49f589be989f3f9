"""What running attempts have reported, and which of them are stopped for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from studyflow.executors import AttemptStatus
from studyflow.executors.protocol import AttemptId
from studyflow.ledger.measuring import Times
from studyflow.observers.observer import Observer
from studyflow.study import Curve, Study, last_step_of, why_diverged
from studyflow.tracking.mirror import AWAITED
from studyflow.trial import Cause, MetricPoint
from studyflow.trial.checkpoint_folders import CHECKPOINT_METRIC
from studyflow.trial.record import AttemptSteps, TrialRecord
from studyflow.tuner.mirror import TrialMirror
from studyflow.tuner.pausing import Pausing, Published, is_finite, why_pruned
from studyflow.tuner.reconcile import Stop
from studyflow.tuner.snapshot import newest_attempt

JUDGED_AT_ONCE: Final = 32
"""How many trials one turn has the pruner judge once more for what others have reported: in a large
study each judgement goes through all trials and takes milliseconds."""


class Reports:
    """Keeps what attempts report: for the pruner, for the stop of a diverged one, for their end.

    A new runner is given all reports of a running attempt again.

    Args:
        study: The study.
        mirror: The study's mirror in MLflow.
        observer: Hears every report.
        pausing: Decides which trials are paused.
        brings_points: Whether the executor brings what trials report.
        poll_seconds: Pause between two reads of MLflow, each for all running trials.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        study: Study,
        mirror: TrialMirror,
        observer: Observer,
        *,
        pausing: Pausing,
        brings_points: bool,
        poll_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._study = study
        self._spec = study.spec
        self._mirror = mirror
        self._observer = observer
        self._pausing = pausing
        self._brings_points = brings_points
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._latest: dict[AttemptId, dict[str, float]] = {}
        self._curves: dict[AttemptId, Curve] = {}
        self._published: dict[AttemptId, int] = {}
        """Highest step of the checkpoints that an attempt has published."""
        self._times: dict[AttemptId, Times] = {}
        self._n_checkpoints: dict[AttemptId, int] = {}
        self._checkpoints_read_at: dict[int, float] = {}
        self._watched: dict[AttemptId, TrialRecord] = {}
        """Running attempts that may log straight to MLflow, as they were when last looked at."""
        self._read: dict[int, Sequence[MetricPoint]] = {}
        """By trial, what was found there and is still to be taken in."""
        self._judged: dict[int, int] = {}
        """By trial that the pruner has judged, how many changes of trials it knew of; in the order
        of these judgements."""
        self._read_at = clock() + poll_seconds
        """When MLflow is to be read next."""

    def take(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        """Keep what the newest attempt of a trial has reported since the last poll."""
        self._take_checkpoints(record, points)
        self._take_metrics(record, [p for p in points if p.name != CHECKPOINT_METRIC])

    def _take_checkpoints(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        published = [point for point in points if point.name == CHECKPOINT_METRIC]
        self._note_checkpoints(record, published)
        self._note_published(record, published)
        if published:
            self._mirror.points(record, published)

    def _note_published(self, record: TrialRecord, published: Sequence[MetricPoint]) -> None:
        step = _highest_published(record, published)
        if step is not None:
            known = self._published.get(newest_attempt(record), step)
            self._published[newest_attempt(record)] = max(known, step)

    def _take_metrics(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        if not points:
            return
        self._note_reports(record, points)
        latest = self._latest.setdefault(newest_attempt(record), {})
        latest.update((point.name, point.value) for point in points)
        self._curves[newest_attempt(record)] = self.curve(record).extended(points, self._spec)
        self._study.report(record.number, points, record)
        self._mirror.points(record, points)
        self._observer.reported(record, points)

    def curve(self, record: TrialRecord) -> Curve:
        """Return what the newest attempt of a trial has reported of the first objective."""
        return self._curves.get(newest_attempt(record), Curve())

    def latest(self, record: TrialRecord) -> Mapping[str, float]:
        """Return the last reported value of each metric, empty for a script without the SDK."""
        return self._latest.get(newest_attempt(record), {})

    def steps(self, record: TrialRecord, *, is_seen: bool, may_ask: bool) -> AttemptSteps | None:
        """Return how far the newest attempt of a trial came, by what it told.

        `None` while MLflow's answer is awaited.

        Args:
            record: The trial.
            is_seen: Whether the executor has seen its end. What it brought is then all there is.
            may_ask: Whether MLflow may be asked, which can take seconds.
        """
        published = self._published.get(newest_attempt(record))
        is_all_here = is_seen and self._brings_points
        is_older = not self._brings_points  # what was read while it ran
        if (published is None or is_older) and may_ask and not is_all_here:
            points = self._mirror.read_points(record, CHECKPOINT_METRIC)
            if points is AWAITED:
                return None
            self._note_checkpoints(record, points)
            published = _highest_published(record, points)
        curve = self.curve(record)
        return AttemptSteps(published, curve.first_step, curve.last_step)

    def times(self, record: TrialRecord) -> Times:
        """Return when the newest attempt of a trial reported, by the clock of its machine."""
        return self._times.get(newest_attempt(record), Times())

    def n_checkpoints(self, record: TrialRecord) -> int:
        """Return how many checkpoints the newest attempt of a trial has published.

        Of an executor that brings no points, MLflow is asked once in a while.
        """
        self._read_checkpoints(record)
        return self._known_checkpoints(record)

    def _read_checkpoints(self, record: TrialRecord) -> bool:
        """Read at times which checkpoints MLflow knows of; return whether all are known now."""
        now = self._clock()
        if self._brings_points:
            return True
        if now < self._checkpoints_read_at.get(record.number, now):
            return False
        points = self._mirror.read_points(record, CHECKPOINT_METRIC)
        if points is AWAITED:
            return False
        self._checkpoints_read_at[record.number] = now + self._poll_seconds
        self._note_checkpoints(record, points)
        self._note_published(record, points)
        self._mirror.drop(record)  # the next answer is to be a new one
        return True

    def _checkpoint(self, record: TrialRecord) -> Published:
        """Return which checkpoints the newest attempt of a trial has published."""
        is_current = self._read_checkpoints(record)
        return Published(self._published.get(newest_attempt(record)), is_current)

    def _known_checkpoints(self, record: TrialRecord) -> int:
        return self._n_checkpoints.get(newest_attempt(record), 0)

    def _note_reports(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        stamps = [point.timestamp_ms / 1000 for point in points]
        known = self.times(record)
        first = min([*stamps, math.inf if known.first_report_at is None else known.first_report_at])
        last = max([*stamps, -math.inf if known.last_report_at is None else known.last_report_at])
        if stamps:
            noted = replace(known, first_report_at=first, last_report_at=last)
            self._times[newest_attempt(record)] = noted

    def _note_checkpoints(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        stamps = [point.timestamp_ms / 1000 for point in points if point.value == record.attempt]
        known = self.times(record)
        if stamps:
            newer = [s for s in stamps if known.checkpoint_at is None or s > known.checkpoint_at]
            self._n_checkpoints[newest_attempt(record)] = self._known_checkpoints(record) + len(
                newer
            )
            latest = max([*stamps, known.checkpoint_at or 0.0])
            self._times[newest_attempt(record)] = replace(known, checkpoint_at=latest)

    def drop(self, record: TrialRecord) -> None:
        """Forget what the newest attempt of a trial has reported: it is recorded."""
        self._pausing.drop(record)
        self._published.pop(newest_attempt(record), None)
        self._times.pop(newest_attempt(record), None)
        self._n_checkpoints.pop(newest_attempt(record), None)
        self._latest.pop(newest_attempt(record), None)
        self._curves.pop(newest_attempt(record), None)
        self._watched.pop(newest_attempt(record), None)
        self._checkpoints_read_at.pop(record.number, None)
        self._judged.pop(record.number, None)
        self._mirror.drop(record)

    def keep_only(self, alive: Collection[AttemptId]) -> None:
        """Forget all attempts but these: the others have ended."""
        self._latest = {a: latest for a, latest in self._latest.items() if a in alive}
        self._curves = {a: curve for a, curve in self._curves.items() if a in alive}
        self._published = {a: step for a, step in self._published.items() if a in alive}
        self._times = {a: times for a, times in self._times.items() if a in alive}
        self._n_checkpoints = {a: n for a, n in self._n_checkpoints.items() if a in alive}
        self._watched = {a: record for a, record in self._watched.items() if a in alive}
        numbers = {attempt.number for attempt in alive}
        self._read = {n: points for n, points in self._read.items() if n in numbers}
        self._judged = {n: known for n, known in self._judged.items() if n in numbers}
        read_at = self._checkpoints_read_at
        self._checkpoints_read_at = {n: at for n, at in read_at.items() if n in numbers}

    def read_last(self, record: TrialRecord, status: AttemptStatus) -> bool:
        """Take in what an ended attempt logged straight to MLflow after the last read.

        Returns:
            Whether that is done; False while MLflow's answer is awaited.
        """
        self._watched.pop(newest_attempt(record), None)
        if status.started_at is None:
            return True
        if not self._brings_points or (self._has_pruner and not self.latest(record)):
            points = self._mirror.read_points(record, self._spec.objectives[0].metric)
            if points is AWAITED:
                return False
            self._take_logged(record, status, points)
        return True

    def read_running(self) -> None:
        """Read at times what running attempts log straight to MLflow: all of them at once."""
        now = self._clock()
        if now < self._read_at or not self._watched:
            return
        records = [r for a, r in self._watched.items() if not self._latest.get(a)]
        found = self._mirror.read_running(records, self._spec.objectives[0].metric)
        if found is not AWAITED:
            self._read_at = now + self._poll_seconds
            self._read.update(found)

    def due(self) -> set[int]:
        """Return the trials to look at though nothing of their attempts has changed.

        Those of which MLflow had something, and the few that the pruner has judged longest ago, if
        any trial has changed since. One that reports is judged at once, as in Optuna.
        """
        n_changes = self._study.known_trials().n_changes
        longest_ago = islice(self._judged.items(), JUDGED_AT_ONCE)
        again = (number for number, judged_after in longest_ago if judged_after != n_changes)
        return {*self._read, *again}

    def reason_to_stop(self, record: TrialRecord, status: AttemptStatus) -> Stop | None:
        """Return the stop of an attempt that has diverged, or that the pruner gives up."""
        attempt = newest_attempt(record)
        if self._has_pruner:
            self._watched[attempt] = record
            if (points := self._read.pop(record.number, None)) is not None:
                self._take_logged(record, status, points)
        if self.curve(record).has_diverged(self._spec):
            return Stop(attempt, Cause.NAN, str(why_diverged(self._spec, self.curve(record))))
        if self._pausing.is_deciding:
            return self._reason_to_pause(record)
        if not self._has_pruner or not self._should_prune(record.number):
            return None
        newest = self._study.known_trials().record(record.number)
        if self._has_last_step(newest):
            return None
        return Stop(attempt, Cause.PRUNED, why_pruned(self._study, newest))

    def _reason_to_pause(self, record: TrialRecord) -> Stop | None:
        """Return the stop of an attempt that is paused now, or given up for good."""
        self._judged.pop(record.number, None)
        trials = self._study.known_trials()
        newest = trials.record(record.number)
        if self.curve(record).last_step is None or not is_finite(newest):
            return None
        last = last_step_of(self._spec, trials.last_step)
        return self._pausing.stop(record, last, lambda: self._checkpoint(record))

    def _should_prune(self, number: int) -> bool:
        self._judged.pop(number, None)
        should_prune = self._study.should_prune(number)
        trials = self._study.known_trials()
        if trials.record(number).intermediate:
            self._judged[number] = trials.n_changes
        return should_prune

    @property
    def _has_pruner(self) -> bool:
        return self._spec.pruner.type != "none"

    def _has_last_step(self, record: TrialRecord) -> bool:
        """Return whether a running trial has reported its last step: its result comes next."""
        reported = (*record.intermediate, self.curve(record).last_step or 0)
        last = last_step_of(self._spec, self._study.known_trials().last_step)
        return last is not None and max(reported) >= last

    def _take_logged(
        self, record: TrialRecord, status: AttemptStatus, points: Sequence[MetricPoint]
    ) -> None:
        """Take in all points of the first objective that are in MLflow; none while it is away."""
        points = _of_newest_attempt(record, status, points)
        self._note_reports(record, points)
        if points:  # all of them, so nothing is added up
            self._curves[newest_attempt(record)] = Curve().extended(points, self._spec)
        self._study.report(record.number, points, record)


def _of_newest_attempt(
    record: TrialRecord, status: AttemptStatus, points: Sequence[MetricPoint]
) -> Sequence[MetricPoint]:
    """Return which points the newest attempt of a trial logged: all attempts share its run.

    The points and the start are of one machine's clock: where the script ran.
    """
    if record.attempt <= 1:
        return points
    began_ms = math.inf if status.started_at is None else math.floor(1000 * status.started_at)
    return [point for point in points if point.timestamp_ms >= began_ms]


def _highest_published(record: TrialRecord, points: Sequence[MetricPoint]) -> int | None:
    """Return the highest step that the newest attempt of a trial has published; `None` if none.

    Attempts share a run in MLflow; each point says of which it is.
    """
    steps = [point.step for point in points if point.value == record.attempt and point.step >= 0]
    return max(steps, default=None)
