"""What a runner calls to keep a tracker up to date."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from studyflow.background import DaemonWorker, NoAnswer, result_of
from studyflow.errors import TrackingError, TrackingUnavailable
from studyflow.reasons import Code, Reason
from studyflow.tracking.logged import LoggedRuns
from studyflow.tracking.mirror.availability import Availability
from studyflow.tracking.mirror.backlog import STUDY, Backlog
from studyflow.tracking.mirror.catch_up import CatchUp
from studyflow.tracking.mirror.sender import Sender
from studyflow.tracking.mirror.turns import Turns
from studyflow.tracking.protocol import StudyCard, StudySummary, Tracker
from studyflow.trial import MetricPoint, TrackingRef
from studyflow.trial.attempt_files import AttemptFiles
from studyflow.trial.record import TrialRecord

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

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
        self._sender = Sender(tracker, files, self._backlog, self._availability, self._changed)
        self._catch_up = CatchUp(
            self._sender, self._backlog, self._availability, self._turns, self._changed, clock
        )
        self._caller = DaemonWorker("studyflow-tracking-calls")

    @property
    def tracker(self) -> Tracker:
        """The tracker that is kept up to date."""
        return self._tracker

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
        ref = self._call(lambda: self._sender.open_study(card), patience_seconds, STUDY)
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
        ref = self._call(lambda: self._sender.open_trial(record), patience_seconds, record.number)
        if ref is None:
            with self._changed:
                trial = self._backlog.of(record)
                trial.opening = record
                trial.is_refused = False
            self._wake()
        return ref

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
            trial.is_refused = False
        self._wake()

    def finish_trial(self, record: TrialRecord) -> None:
        """Have a finished trial brought up to date soon. Never waits."""
        with self._changed:
            trial = self._backlog.of(record)
            trial.ending = record
            trial.is_refused = False
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

    def read_runs(
        self,
        record: TrialRecord,
        metrics: Sequence[str],
        began_at: float | None,
        patience_seconds: float = 10.0,
    ) -> LoggedRuns:
        """Return what a trial's script logged by itself, or why that is not known."""
        found = self._read(
            lambda: self._tracker.read_runs(record, metrics, began_at), patience_seconds
        )
        if found is not None:
            return found
        with self._changed:
            return LoggedRuns(
                failure=self._availability.last_failure
                or Reason(Code.TRACKER_UNAVAILABLE, "it did not answer."),
                is_retryable=self._availability.is_unavailable,
            )

    def read_points(
        self, record: TrialRecord, metric: str, patience_seconds: float = 2.0
    ) -> tuple[MetricPoint, ...]:
        """Return one metric of a running trial by step; empty when it cannot be read."""
        found = self._read(lambda: self._tracker.read_points(record, metric), patience_seconds)
        return () if found is None else found

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
        with self._changed:
            self._is_closed = True
        has_stopped = self._catch_up.stop(IDLE_STOP_SECONDS if n_left else STOP_SECONDS)
        # A thread that hangs in a call keeps its tracker: it is a daemon and ends with the process.
        if self._caller.stop(IDLE_STOP_SECONDS) and has_stopped:
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

    # The calls that somebody waits for

    def _call(
        self, call: Callable[[], _T], patience_seconds: float, subject: int | None = None
    ) -> _T | None:
        """Return what `call` gives in time; else leave the work to the other thread.

        Args:
            call: Reads from the tracker, or writes to it.
            patience_seconds: How long to wait.
            subject: The trial, or `STUDY`, that it writes about: while the other thread does too,
                this one waits for its turn.
        """
        began = time.monotonic()
        if not self._take_turn(subject, patience_seconds):
            self._wake()
            return None
        try:
            found = self._make(call, began + patience_seconds - time.monotonic(), subject)
        except NoAnswer:
            text = f"The tracker did not answer in {patience_seconds:g} s."
            with self._changed:
                self._availability.failed(TrackingUnavailable(text))
        except TrackingUnavailable as error:
            with self._changed:
                self._availability.failed(error)
        except TrackingError as error:
            with self._changed:
                self._availability.note(error.reason)
        else:
            with self._changed:
                self._availability.answered()
            return found
        self._wake()
        return None

    def _take_turn(self, subject: int | None, patience_seconds: float) -> bool:
        with self._changed:
            may_call = not (self._availability.is_unavailable or self._is_closed)
            return may_call and self._turns.take(subject, patience_seconds)

    def _make(self, call: Callable[[], _T], timeout_seconds: float, subject: int | None) -> _T:
        """Return what a call gives, and end its turn when it is over or will never begin.

        Raises:
            NoAnswer: It is not over in time. A call that had not begun never will; another goes on.
            TrackingUnavailable: The tracker does not answer.
            TrackingError: The tracker refuses.
        """

        def call_and_end_turn() -> _T:
            try:
                return call()
            finally:
                self._end_turn(subject)

        if not self._is_threaded:
            return call_and_end_turn()
        future = self._caller.submit(call_and_end_turn)
        try:
            return result_of(future, timeout_seconds)
        except NoAnswer:
            if future.cancel():
                self._end_turn(subject)
            raise

    def _end_turn(self, subject: int | None) -> None:
        with self._changed:
            if subject is not None:
                self._backlog.drop_if_empty(subject)
            self._turns.give_back(subject)
        self._wake()

    def _read(self, call: Callable[[], _T], patience_seconds: float) -> _T | None:
        found = self._call(call, patience_seconds)
        if found is None:
            with self._changed:
                if self._availability.is_unavailable and self._backlog.probe is None:
                    self._backlog.probe = call
            self._wake()
        return found

    def _wake(self) -> None:
        if self._is_threaded:
            self._catch_up.wake()
