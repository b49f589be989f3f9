"""What a runner calls to keep a tracker up to date."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from studyflow.errors import TrackingError
from studyflow.reasons import Code, Reason
from studyflow.tracking.logged import LoggedRuns
from studyflow.tracking.mirror.availability import Availability
from studyflow.tracking.mirror.backlog import STUDY, Backlog
from studyflow.tracking.mirror.calls import Calls
from studyflow.tracking.mirror.catch_up import CatchUp
from studyflow.tracking.mirror.for_loop import LoopMirror
from studyflow.tracking.mirror.sender import Sender
from studyflow.tracking.mirror.turns import Turns
from studyflow.tracking.protocol import StudyCard, StudySummary, Tracker
from studyflow.trial import MetricPoint, TrackingRef
from studyflow.trial.attempt_files import AttemptFiles
from studyflow.trial.record import TrialRecord

_log = logging.getLogger(__name__)

STOP_SECONDS: Final = 5.0
"""Longest wait for the last call of a mirror that has sent everything."""
IDLE_STOP_SECONDS: Final = 0.2
"""Longest wait for a thread that may hang in a call; one that is idle ends sooner."""


@dataclass(frozen=True, slots=True)
class MirrorStatus:
    """How far the tracker is behind."""

    pending: int
    """Trials of which something is unsent; the study itself counts too."""
    refused: tuple[int, ...]
    """Trials among them that are not tried again by this process; `studyflow sync` does."""
    last_failure: Reason | None
    """Why the tracker last failed; `None` when it never did."""
    unavailable_since: float | None
    """When it first did not answer, on the mirror's clock; `None` while it answers."""


class Mirror:
    """Keeps one tracker up to date from one runner.

    No method raises because of the tracker, and only those with `patience_seconds` or
    `timeout_seconds` wait for it. Methods may be called from any thread.

    Args:
        tracker: Where the study is shown.
        files: Returns a trial's log, artifacts and metrics file; called from the mirror's thread,
            so it touches nothing of the runner's.
        clock: Seconds that never go back; decides when to try again.
        retry_seconds: First and longest pause after a failure; it doubles from one to the other.
        max_buffered_points: Points kept in memory for all trials together; those of a trial
            beyond that are read from its metrics file later.
        is_threaded: False in tests that call `step` themselves; then nobody is ever waited for.
    """

    def __init__(
        self,
        tracker: Tracker,
        *,
        files: Callable[[TrialRecord], AttemptFiles],
        clock: Callable[[], float] = time.monotonic,
        retry_seconds: tuple[float, float] = (1.0, 60.0),
        max_buffered_points: int = 20_000,
        is_threaded: bool = True,
    ) -> None:
        self._tracker = tracker
        self._is_threaded = is_threaded
        self._is_closed = False
        self._changed = threading.Condition()
        """Guards the backlog, the availability and the turns; notified when one may have
        changed."""
        self._backlog = Backlog(max_buffered_points)
        self._availability = Availability(clock, retry_seconds)
        self._turns = Turns(self._changed)
        self._sender = Sender(
            tracker, files, self._backlog, self._availability, self._changed, clock
        )
        self._catch_up = CatchUp(
            self._sender, self._backlog, self._availability, self._turns, self._changed, clock
        )
        self._calls = Calls(
            self._availability,
            self._turns,
            self._backlog,
            self._changed,
            self._wake,
            is_threaded=is_threaded,
        )

    @property
    def tracker(self) -> Tracker:
        """The tracker that is kept up to date."""
        return self._tracker

    def for_loop(self) -> LoopMirror:
        """Return the mirror as the runner's loop uses it, which never waits."""
        return LoopMirror(self, self._calls, self._sender)

    @property
    def refusal(self) -> str | None:
        """Why the tracker refuses the whole study; `None` when it does not refuse."""
        with self._changed:
            return self._availability.refusal

    @property
    def status(self) -> MirrorStatus:
        """How far the tracker is behind."""
        with self._changed:
            return MirrorStatus(
                pending=self._backlog.n_pending,
                refused=self._backlog.refused,
                last_failure=self._availability.last_failure,
                unavailable_since=self._availability.unavailable_since,
            )

    def open_study(self, card: StudyCard, patience_seconds: float = 10.0) -> TrackingRef | None:
        """Return the study's run; `None` when the tracker did not give one in time."""
        ref = self._calls.make(lambda: self._sender.open_study(card), patience_seconds, STUDY)
        if ref is None:
            self.renew_study(card)
        return ref

    def renew_study(self, card: StudyCard) -> None:
        """Have the study shown by a new card soon. Never waits."""
        with self._changed:
            self._backlog.card = card
        self._wake()

    def open_trial(self, record: TrialRecord, patience_seconds: float = 5.0) -> TrackingRef | None:
        """Return the run where this attempt logs; `None` when the tracker gives none in time.

        Either way the trial gets its run as soon as the tracker can.
        """
        ref = self._calls.make(
            lambda: self._sender.open_trial(record), patience_seconds, record.number
        )
        if ref is None:
            self.open_trial_later(record)
        return ref

    def open_trial_later(self, record: TrialRecord) -> None:
        """Have a trial's run opened as soon as the tracker can. Never waits."""
        with self._changed:
            trial = self._backlog.of(record)
            trial.opening = record
            trial.is_refused = False
        self._wake()

    def points(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        """Have metrics sent soon. Never waits."""
        if not points:
            return
        with self._changed:
            self._backlog.add_points(self._backlog.of(record), points)
        self._wake()

    def lose_attempt(self, record: TrialRecord) -> None:
        """Have it noted soon that a trial's newest attempt was lost. Never waits."""
        with self._changed:
            trial = self._backlog.of(record)
            trial.lost = record
            trial.hurry()
        self._wake()

    def finish_trial(self, record: TrialRecord) -> None:
        """Have a finished trial brought up to date soon. Never waits."""
        with self._changed:
            trial = self._backlog.of(record)
            trial.ending = record
            trial.hurry()
        self._wake()

    def resume(self, records: Iterable[TrialRecord]) -> None:
        """Have those finished trials sent that the tracker lacks. Never waits.

        For a runner that takes up a study: what its predecessor could not send is found here.
        """
        finished = {record.number: record for record in records if record.state.is_finished}
        with self._changed:
            self._backlog.unchecked |= finished
        self._wake()

    def close_study(self, summary: StudySummary) -> None:
        """Have the study's end shown, after all its trials. Never waits; see `flush`."""
        with self._changed:
            self._backlog.summary = summary
            self._backlog.is_summary_refused = False
        self._wake()

    def unread_runs(self) -> LoggedRuns:
        """Return why what a script logged cannot be read."""
        with self._changed:
            return LoggedRuns(
                failure=self._availability.last_failure
                or Reason(Code.TRACKER_UNAVAILABLE, "it did not answer."),
                is_retryable=self._availability.is_unavailable,
            )

    def flush(self, timeout_seconds: float) -> int:
        """Wait until the tracker has everything it will take; return how much it still lacks.

        What was refused counts as lacking, and is not waited for.
        """
        with self._changed:
            self._availability.try_now()
            self._availability.n_hurried += 1
            self._backlog.try_all_now()
        try:
            self._wake()
            with self._changed:
                if self._is_threaded and not self._is_closed:
                    self._changed.wait_for(
                        lambda: self._catch_up.is_idle or self._availability.refusal is not None,
                        timeout_seconds,
                    )
                return self._backlog.n_pending
        finally:
            with self._changed:
                self._availability.n_hurried -= 1

    def close(self, timeout_seconds: float = 30.0) -> int:
        """Flush, stop, release the tracker; return how much it still lacks."""
        n_left = self.flush(timeout_seconds)
        self._is_closed = True
        has_stopped = self._catch_up.stop(IDLE_STOP_SECONDS if n_left else STOP_SECONDS)
        # A thread that hangs in a call keeps its tracker: it is a daemon and ends with the process.
        if self._calls.close(IDLE_STOP_SECONDS) and has_stopped:
            try:
                self._tracker.close()
            except TrackingError as error:
                _log.warning("The tracker did not close: %s", error)
        return n_left

    def step(self) -> float | None:
        """Do the next piece of work; return seconds until there is more, `None` when idle.

        For tests without threads.
        """
        return self._catch_up.step()

    def _wake(self) -> None:
        if self._is_threaded:
            self._catch_up.wake()
