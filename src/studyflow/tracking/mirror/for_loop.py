"""A mirror as the runner's loop uses it: it asks, goes on, and finds the answer in a later turn."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from studyflow.tracking.logged import LoggedRuns
from studyflow.tracking.memory import MemoryTracker
from studyflow.tracking.mirror.calls import AWAITED, Awaited, Calls, Question
from studyflow.tracking.mirror.sender import Sender
from studyflow.tracking.optional import read_running
from studyflow.trial import MetricPoint, TrackingRef
from studyflow.trial.record import TrialRecord

if TYPE_CHECKING:
    from studyflow.tracking.mirror.mirror import Mirror

_T = TypeVar("_T")

OPEN_SECONDS: Final = 5.0
"""How long a trial that is about to start waits for its run."""
READ_SECONDS: Final = 10.0
"""How long a read may take: of what one script logged, or of all running trials at once."""
FIRST_PAUSE_SECONDS: Final = 0.01
LONGEST_PAUSE_SECONDS: Final = 0.25
"""Pauses of the loop while it awaits an answer; they double from the first to the longest."""


class LoopMirror:
    """Asks a mirror's tracker without waiting. Made for one thread, the runner's.

    An answer is `AWAITED` until it is there, and then the same each time it is asked for, until
    `drop`. One that could not be had is asked for anew by the next call.

    Args:
        mirror: Takes what is only to be sent.
        calls: Makes the calls.
        sender: Opens runs.
    """

    def __init__(self, mirror: Mirror, calls: Calls, sender: Sender) -> None:
        self._mirror = mirror
        self._calls = calls
        self._sender = sender
        self._is_local = isinstance(mirror.tracker, MemoryTracker)
        self._questions: dict[tuple[Hashable, ...], Question[Any]] = {}
        self._answers: dict[tuple[Hashable, ...], object] = {}
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._seen: set[tuple[Hashable, ...]] = set()
        """Answers that were there when the loop last asked how long it may sleep."""

    # What is only sent

    def points(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        """Have metrics sent soon."""
        self._mirror.points(record, points)

    def lose_attempt(self, record: TrialRecord) -> None:
        """Have it noted soon that a trial's newest attempt was lost."""
        self.drop(record)
        self._mirror.lose_attempt(record)

    def finish_trial(self, record: TrialRecord) -> None:
        """Have a finished trial brought up to date soon."""
        self.drop(record)
        self._mirror.finish_trial(record)

    # What is answered

    def open_trial(self, record: TrialRecord) -> TrackingRef | Awaited | None:
        """Return the run where this attempt logs; `None` when the tracker gives none in time."""
        if self._is_local:
            return self._mirror.open_trial(record)
        key = _opening_of(record)
        ref = self._find(
            key, lambda: self._sender.reserve_trial(record), OPEN_SECONDS, record.number
        )
        if ref is None:
            self._mirror.open_trial_later(record)
        return ref

    def is_opening(self, record: TrialRecord) -> bool:
        """Return whether the run of this attempt is awaited at this moment."""
        return self._is_awaited(_opening_of(record))

    def read_points(self, record: TrialRecord, metric: str) -> tuple[MetricPoint, ...] | Awaited:
        """Return one metric of a trial by step; empty when it cannot be read."""
        tracker = self._mirror.tracker
        found = self._read(
            (record.number, record.attempt, metric), lambda: tracker.read_points(record, metric)
        )
        return () if found is None else found

    def read_runs(
        self, record: TrialRecord, metrics: Sequence[str], began_at: float | None
    ) -> LoggedRuns | Awaited:
        """Return what a trial's script logged by itself, or why that is not known."""
        tracker, names = self._mirror.tracker, tuple(metrics)
        found = self._read(
            (record.number, record.attempt, names),
            lambda: tracker.read_runs(record, names, began_at),
        )
        return self._mirror.unread_runs() if found is None else found

    def read_running(
        self, records: Sequence[TrialRecord], metric: str
    ) -> Mapping[int, tuple[MetricPoint, ...]] | Awaited:
        """Return one metric of running trials, by trial and step: of those that have news.

        Whoever calls it again while the answer is awaited gets the answer to the first call.
        """
        tracker, asked = self._mirror.tracker, tuple(records)
        key = ("running", metric)
        found = self._read(key, lambda: read_running(tracker, asked, metric))
        self._answers.pop(key, None)
        return {} if found is None else found

    def drop(self, record: TrialRecord) -> None:
        """Forget what was asked about a trial; a run whose opening has not begun stays closed."""
        for key in [key for key in self._questions if key[0] == record.number]:
            self._questions.pop(key).future.cancel()
        for key in [key for key in self._answers if key[0] == record.number]:
            del self._answers[key]

    def seconds_to_answer(self) -> float | None:
        """Return for how long the loop may sleep before it looks for answers; `None` for any time.

        Longer each time that nothing came.
        """
        there = {key for key in self._questions if not self._is_awaited(key)}
        is_new, self._seen = not there <= self._seen, there
        if is_new:
            self._pause_seconds = FIRST_PAUSE_SECONDS
            return 0.0
        if len(there) == len(self._questions):
            return None  # nothing is asked, or nobody takes the answers for now
        pause = self._pause_seconds
        self._pause_seconds = min(2 * pause, LONGEST_PAUSE_SECONDS)
        return pause

    def _is_awaited(self, key: tuple[Hashable, ...]) -> bool:
        question = self._questions.get(key)
        return question is not None and self._calls.is_awaited(question)

    def _read(self, key: tuple[Hashable, ...], call: Callable[[], _T]) -> _T | Awaited | None:
        found = self._find(key, call, READ_SECONDS)
        if found is None:
            self._calls.probe_by(call)
        return found

    def _find(
        self,
        key: tuple[Hashable, ...],
        call: Callable[[], _T],
        patience_seconds: float,
        subject: int | None = None,
    ) -> _T | Awaited | None:
        """Return an answer that is there; else ask for it."""
        if key in self._answers:
            return cast(_T, self._answers[key])
        question = self._questions.get(key)
        if question is None:
            self._pause_seconds = FIRST_PAUSE_SECONDS
            question = self._calls.ask(call, patience_seconds, subject)
        found = self._calls.answer(question)
        if found is AWAITED:
            self._questions[key] = question
            return AWAITED
        self._questions.pop(key, None)
        if found is not None:
            self._answers[key] = found
        return cast("_T | None", found)


def _opening_of(record: TrialRecord) -> tuple[Hashable, ...]:
    return (record.number, record.attempt)
