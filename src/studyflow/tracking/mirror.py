"""Keeping a tracker up to date without ever making the runner wait for it.

The study's storage is the truth; a `Mirror` only remembers which trials the tracker has not heard
the newest about. What is sent is the record that the runner handed over and the trial's files, so
nothing is lost when the process dies: `sync_study`, or the next runner's `resume`, finds what is
missing by asking the tracker which trials it has completely.

Two daemon threads call the tracker. One works through what is behind, however long that takes. The
other serves the few calls somebody waits for, each for a bounded time; once the tracker was found
away, nobody waits again until the first thread finds it back. Both work on values: neither touches
the study, its storage or an observer, which belong to the runner's thread. And only one of them at
a time writes about one trial, so that a slow call of the one never undoes what the other has done.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from studyflow.errors import DocumentError, StudyflowError, TrackingError, TrackingUnavailable
from studyflow.tracking.logged import LoggedRuns
from studyflow.tracking.protocol import StudyCard, StudySummary, Tracker
from studyflow.trial import MetricPoint, TrackingRef
from studyflow.trial.record import TrialRecord, TrialState
from studyflow.trial.user_files import METRICS_LIMIT_BYTES, NotAFileError, open_file

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

POINTS_PER_CALL: Final = 1000
LONGEST_LINE_BYTES: Final = 4096
"""A line of a metrics file is far shorter: names have at most 250 characters."""
FAILURES_BEFORE_REFUSED: Final = 8
"""Failures of one trial, each after a success of something else, until only a later sync tries it.
With pauses doubling from 1 second to 60 that is about 3 minutes of, say, an artifact store away."""

_STUDY: Final = -1
"""Stands for the study itself among trial numbers."""

TrialFiles = tuple[Path | None, Sequence[Path], Path | None]
"""A trial's log, the files and folders that become artifacts, and its metrics file."""


@dataclass(frozen=True, slots=True)
class MirrorStatus:
    """How far the tracker is behind."""

    pending: int
    """Trials (and the study itself) that the tracker has not heard the newest about."""
    refused: tuple[int, ...]
    """Trials among them that are not tried again by this process; `studyflow sync` does."""
    last_error: str | None
    """What the tracker said when it last failed; `None` when it never did."""
    away_since: float | None
    """When it was found away, on the mirror's clock; `None` while it answers."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What `sync_study` did."""

    sent: tuple[int, ...]
    """Trials brought up to date."""
    failed: Mapping[int, str]
    """Trials that the tracker or their files refused, with the reason."""
    left: tuple[int, ...] = ()
    """Trials that the tracker did not answer about, or that were not reached any more."""
    error: str | None = None
    """What the tracker said when it did not answer, or when it refused the study's own summary."""
    is_away: bool = False
    """Whether it did not answer, so that the same may succeed later."""

    @property
    def is_complete(self) -> bool:
        """Whether the tracker now has everything."""
        return not self.failed and not self.left and self.error is None


@dataclass(slots=True)
class _Behind:
    """What one trial still has to be told."""

    record: TrialRecord
    """The newest of it."""
    opening: TrialRecord | None = None
    points: list[MetricPoint] = field(default_factory=list)
    resend: bool = False
    """Whether points were dropped here and have to be read from the metrics file."""
    ending: TrialRecord | None = None
    refused: bool = False
    failures: int = 0
    """How often it failed while the tracker answered others."""
    successes_seen: int = -1
    """Successes of the whole mirror when it last failed; -1 when it never did."""
    not_before: float = 0.0
    """When it may be tried again, on the mirror's clock."""

    def learn(self, record: TrialRecord) -> None:
        """Keep a record, unless it is older than the one that is known."""
        if not self.record.state.is_finished and record.attempt >= self.record.attempt:
            self.record = record

    @property
    def is_empty(self) -> bool:
        return not (self.opening or self.points or self.resend or self.ending)

    @property
    def is_waiting(self) -> bool:
        return not (self.is_empty or self.refused)


@dataclass(frozen=True, slots=True)
class _Work:
    """The next thing that the mirror's thread does."""

    act: Callable[[], object]
    writes_about: int | None = None
    """The trial, or `_STUDY`, that nobody else may write about meanwhile."""
    behind: _Behind | None = None
    """What its trial still has to be told; `None` for what is about no trial."""

    @property
    def number(self) -> int | None:
        """The trial's number."""
        return None if self.behind is None else self.behind.record.number


class _TooLate(Exception):
    """The tracker did not answer while somebody was waiting."""


class Mirror:
    """Keeps one tracker up to date from one runner.

    No method raises because of the tracker, and only those with `patience_seconds` or
    `timeout_seconds` wait for it. Methods may be called from any thread.

    Args:
        tracker: Where the study is shown.
        files: A trial's log, artifacts and metrics file; called from the mirror's thread, so it
            touches nothing of the runner's.
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
        files: Callable[[TrialRecord], TrialFiles],
        clock: Callable[[], float] = time.monotonic,
        retry_seconds: tuple[float, float] = (1.0, 60.0),
        max_buffered_points: int = 20_000,
        is_threaded: bool = True,
    ) -> None:
        self._tracker = tracker
        self._files = files
        self._clock = clock
        self._retry_seconds = retry_seconds
        self._max_buffered_points = max_buffered_points
        self._is_threaded = is_threaded
        self._changed = threading.Condition()
        self._card: StudyCard | None = None
        self._summary: StudySummary | None = None
        self._resumed: dict[int, TrialRecord] = {}
        self._summary_refused = False
        self._probe: Callable[[], object] | None = None
        self._trials: OrderedDict[int, _Behind] = OrderedDict()
        self._written: set[int] = set()
        """Trials, or `_STUDY`, that one of the threads writes about at this moment."""
        self._buffered = 0
        self._successes = 0
        self._last_error: str | None = None
        self._away_since: float | None = None
        self._refusal: str | None = None
        """Why the tracker refuses the whole study, as for an address that can be none."""
        self._pause = retry_seconds[0]
        self._next_at = 0.0
        self._flushing = 0
        self._is_working = False
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._desk = _Desk()

    @property
    def tracker(self) -> Tracker:
        """The tracker that is kept up to date."""
        return self._tracker

    @property
    def refusal(self) -> str | None:
        """Why the tracker refuses the whole study; `None` when it does not, or is only away."""
        with self._changed:
            return self._refusal

    @property
    def status(self) -> MirrorStatus:
        """How far the tracker is behind."""
        with self._changed:
            return MirrorStatus(
                pending=self._pending(),
                refused=tuple(sorted(n for n, b in self._trials.items() if b.refused)),
                last_error=self._last_error,
                away_since=self._away_since,
            )

    def open_study(self, card: StudyCard, patience_seconds: float = 10.0) -> TrackingRef | None:
        """Return the study's run; `None` when the tracker did not give one in time."""
        ref = self._wait_for(lambda: self._open_card(card), patience_seconds, _STUDY)
        if ref is None:
            with self._changed:
                self._card = card
            self._wake()
        return ref

    def renew_study(self, card: StudyCard) -> None:
        """Have the study shown by a new card soon. Never waits."""
        with self._changed:
            self._card = card
        self._wake()

    def open_trial(self, record: TrialRecord, patience_seconds: float = 5.0) -> TrackingRef | None:
        """Return the run where this attempt logs; `None` when the tracker is away or too slow.

        Either way the trial gets its run as soon as the tracker can.
        """
        ref = self._wait_for(lambda: self._open_trial(record), patience_seconds, record.number)
        if ref is None:
            with self._changed:
                behind = self._behind(record)
                behind.opening = record
                behind.refused = False
            self._wake()
        return ref

    def points(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        """Have metrics sent soon. Never waits."""
        if not points:
            return
        with self._changed:
            self._keep(self._behind(record), points, in_front=False)
        self._wake()

    def finish_trial(self, record: TrialRecord) -> None:
        """Have a finished trial brought up to date soon. Never waits."""
        with self._changed:
            behind = self._behind(record)
            behind.ending = record
            behind.refused = False
        self._wake()

    def resume(self, records: Iterable[TrialRecord]) -> None:
        """Have those finished trials sent that the tracker lacks. Never waits.

        For a runner that takes up a study: what its predecessor could not send is found here.
        """
        finished = {record.number: record for record in records if record.state.is_finished}
        with self._changed:
            self._resumed |= finished
        self._wake()

    def close_study(self, summary: StudySummary) -> None:
        """Have the study's end shown, after all its trials. Never waits; see `flush`."""
        with self._changed:
            self._summary = summary
            self._summary_refused = False
        self._wake()

    def read_runs(
        self,
        record: TrialRecord,
        metrics: Sequence[str],
        began_at: float | None,
        patience_seconds: float = 10.0,
    ) -> LoggedRuns:
        """Return what a trial's script logged by itself; on any trouble, what that is."""
        found = self._read(
            lambda: self._tracker.read_runs(record, metrics, began_at), patience_seconds
        )
        if found is not None:
            return found
        with self._changed:
            return LoggedRuns(
                trouble=self._last_error or "it did not answer.",
                is_away=self._away_since is not None,
            )

    def read_points(
        self, record: TrialRecord, metric: str, patience_seconds: float = 2.0
    ) -> tuple[MetricPoint, ...]:
        """Return one metric of a running trial by step; empty on any trouble."""
        found = self._read(lambda: self._tracker.read_points(record, metric), patience_seconds)
        return () if found is None else found

    def flush(self, timeout_seconds: float) -> int:
        """Wait until the tracker has everything it will take; return how much it still lacks.

        What was refused counts as lacking, and is not waited for.
        """
        with self._changed:
            self._next_at = self._clock()
            self._pause = self._retry_seconds[0]
            for behind in self._trials.values():
                behind.not_before = 0.0
            self._flushing += 1
            self._refusal = None  # one more try, and no more than that
        try:
            self._wake()
            with self._changed:
                if self._is_threaded and not self._is_closed:
                    self._changed.wait_for(
                        lambda: self._is_idle() or self._refusal is not None, timeout_seconds
                    )
                return self._pending()
        finally:
            with self._changed:
                self._flushing -= 1

    def close(self, timeout_seconds: float = 30.0) -> int:
        """Flush, stop, release the tracker; return how much it still lacks."""
        left = self.flush(timeout_seconds)
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._desk.close()
        thread = self._thread
        if thread is not None:
            thread.join(0.0 if left else 5.0)
        # A thread that hangs in a call keeps its tracker: it is a daemon and ends with the process.
        if not self._desk.is_working and (thread is None or not thread.is_alive()):
            try:
                self._tracker.close()
            except TrackingError as error:
                _log.warning("The tracker did not close: %s", error)
        return left

    # The thread that catches up

    def step(self) -> float | None:
        """Do the next piece of work; return seconds until there is more, `None` when idle.

        Called by the mirror's thread, or by a test in its place.
        """
        with self._changed:
            wait_seconds = self._seconds_to_wait()
            if wait_seconds is None or wait_seconds > 0:
                return wait_seconds
            work = self._next_work()
            if work.writes_about is not None:
                self._written.add(work.writes_about)
            self._is_working = True
        try:
            work.act()
        except TrackingUnavailable as error:
            self._went_away(error, work.number)
        except StudyflowError as error:
            if work.behind is None:
                self._went_away(error, None)
                self._refusal = None if error.retryable else str(error)
            elif error.retryable:  # something else is away, not the tracker
                self._postpone(work.behind)
            else:
                self._refuse(work.behind, str(error))
        except Exception as error:  # noqa: BLE001 - this thread outlives a broken callback
            self._refuse(work.behind, f"{type(error).__name__}: {error}")
        else:
            self._came_back()
        finally:
            with self._changed:
                self._is_working = False
                self._release(work.writes_about)
        with self._changed:
            return self._seconds_to_wait()

    def _seconds_to_wait(self) -> float | None:
        """Return seconds until something can be done; `None` when nothing is to do."""
        now = self._clock()
        waits = [
            behind.not_before - now
            for number, behind in self._trials.items()
            if behind.is_waiting and number not in self._written
        ]
        is_study_due = self._card or self._summary
        if self._resumed or self._probe or (is_study_due and _STUDY not in self._written):
            waits.append(0.0)
        if not waits:
            return None
        wait_seconds = min(waits)
        if self._away_since is not None:
            wait_seconds = max(wait_seconds, self._next_at - now)
        return max(wait_seconds, 0.0)

    def _next_work(self) -> _Work:
        now = self._clock()
        is_study_free = _STUDY not in self._written
        if self._card is not None and is_study_free:
            return _Work(partial(self._open_card, self._card), _STUDY)
        if self._resumed:
            return _Work(self._find_missing)
        for number, behind in self._trials.items():
            if behind.is_waiting and behind.not_before <= now and number not in self._written:
                return _Work(partial(self._send, behind), number, behind)
        if self._summary is not None and is_study_free:
            return _Work(partial(self._close_study, self._summary), _STUDY)
        assert self._probe is not None
        return _Work(partial(self._run_probe, self._probe))

    def _run(self) -> None:
        while True:
            self.step()
            with self._changed:
                if self._is_closed:
                    return
                wait_seconds = self._seconds_to_wait()
                if wait_seconds is None or wait_seconds > 0:
                    self._changed.wait(wait_seconds)

    def _wake(self) -> None:
        with self._changed:
            is_needed = self._is_threaded and not self._is_closed
            if is_needed and self._thread is None and self._seconds_to_wait() is not None:
                self._thread = threading.Thread(
                    target=self._run, name="studyflow-mirror", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    # What is done in either thread

    def _open_card(self, card: StudyCard) -> TrackingRef:
        ref = self._tracker.open_study(card)
        with self._changed:
            if self._card is card:
                self._card = None
        return ref

    def _open_trial(self, record: TrialRecord) -> TrackingRef:
        ref = self._tracker.open_trial(record)
        with self._changed:
            behind = self._trials.get(record.number)
            opening = None if behind is None else behind.opening
            if behind is not None and opening is not None and opening.attempt <= record.attempt:
                behind.opening = None  # not one of a later attempt
        return ref

    def _find_missing(self) -> None:
        with self._changed:
            wanted = dict(self._resumed)
        there = self._tracker.finished_trials()
        with self._changed:
            for number, record in sorted(wanted.items()):
                if self._resumed.get(number) is record:
                    del self._resumed[number]
                if number not in there:
                    behind = self._behind(record)
                    behind.ending = behind.ending or record

    def _close_study(self, summary: StudySummary) -> None:
        try:
            self._tracker.close_study(summary)
        except TrackingUnavailable:
            raise
        except TrackingError as error:
            # For good: shown, and left to `studyflow sync`.
            self._note(f"The study's summary was refused: {error}")
            with self._changed:
                self._summary_refused = True
        with self._changed:
            if self._summary is summary:
                self._summary = None

    def _run_probe(self, probe: Callable[[], object]) -> None:
        with self._changed:
            if self._probe is probe:
                self._probe = None
        try:
            probe()
        except TrackingUnavailable:
            with self._changed:
                self._probe = self._probe or probe
            raise

    def _send(self, behind: _Behind) -> None:
        """Bring one trial up to date: its run, then its points, then its end."""
        with self._changed:
            opening, ending = behind.opening, behind.ending
            record = ending or behind.record
        if opening is not None and ending is None:
            self._open_trial(opening)
        log, artifacts, metrics_file = self._files(record)
        with self._changed:
            points, behind.points = behind.points, []
            self._buffered -= len(points)
            resend, behind.resend = behind.resend, False
        try:
            while points:
                self._send_points(record, points[:POINTS_PER_CALL])
                del points[:POINTS_PER_CALL]
            # At a trial's end its file has the last word: it also holds what an earlier runner
            # could not send, and what a run that somebody deleted has lost.
            if (resend or ending is not None) and metrics_file is not None:
                for chunk in missing_points(self._tracker, record, metrics_file):
                    self._send_points(record, chunk)
        except BaseException:
            with self._changed:
                behind.resend = behind.resend or resend
                self._keep(behind, points, in_front=True)
            raise
        if ending is not None:
            self._tracker.close_trial(ending, log=log, artifacts=artifacts)
        with self._changed:
            if behind.ending is ending:
                behind.ending = None
                if ending is not None:
                    behind.opening = None

    def _send_points(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        try:
            self._tracker.log_points(record, points)
        except TrackingUnavailable:
            raise
        except TrackingError as error:
            # These points will never be taken; the trial's end may be.
            self._note(f"Trial {record.number}: {len(points)} metric values were refused: {error}")

    # Bookkeeping

    def _behind(self, record: TrialRecord) -> _Behind:
        """Return what a trial still has to be told, with its newest record."""
        behind = self._trials.setdefault(record.number, _Behind(record))
        behind.learn(record)
        return behind

    def _keep(self, behind: _Behind, points: Sequence[MetricPoint], *, in_front: bool) -> None:
        if self._buffered + len(points) > self._max_buffered_points:
            self._buffered -= len(behind.points)
            behind.points = []
            behind.resend = True
            return
        behind.points = [*points, *behind.points] if in_front else [*behind.points, *points]
        self._buffered += len(points)

    def _release(self, writes_about: int | None) -> None:
        """Let the other thread write about a trial, or the study, and forget one that is done."""
        with self._changed:
            if writes_about is not None:
                self._written.discard(writes_about)
                behind = self._trials.get(writes_about)
                if behind is not None and behind.is_empty:
                    del self._trials[writes_about]
        self._wake()

    def _pending(self) -> int:
        trials = sum(not behind.is_empty for behind in self._trials.values())
        others = (
            self._card is not None,
            bool(self._resumed),
            self._summary is not None or self._summary_refused,
        )
        return trials + sum(others)

    def _is_idle(self) -> bool:
        waits = any(behind.is_waiting for behind in self._trials.values())
        others = self._card is not None or self._resumed or self._summary is not None
        return not (waits or others or self._is_working)

    def _went_away(self, error: StudyflowError, number: int | None) -> None:
        with self._changed:
            behind = self._trials.get(number) if number is not None else None
            if behind is not None and number is not None:
                self._trials.move_to_end(number)
                others_succeeded = behind.successes_seen not in (-1, self._successes)
                behind.successes_seen = self._successes
                if others_succeeded:
                    # The tracker answers, only not about this trial.
                    self._postpone(behind)
                if behind.failures >= FAILURES_BEFORE_REFUSED:
                    self._refuse(behind, str(error))
                    return
            self._last_error = str(error)
            if self._away_since is None:
                self._away_since = self._clock()
                _log.warning("Tracking is away; the study goes on without it. %s", error)
            self._next_at = self._clock() + self._pause
            first, longest = self._retry_seconds
            self._pause = min(self._pause * 2, first if self._flushing else longest)

    def _postpone(self, behind: _Behind) -> None:
        with self._changed:
            first, longest = self._retry_seconds
            behind.not_before = self._clock() + min(first * 2**behind.failures, longest)
            behind.failures += 1
            self._trials.move_to_end(behind.record.number)

    def _came_back(self) -> None:
        with self._changed:
            self._successes += 1
            if self._away_since is not None:
                _log.info("Tracking is back after %.0f s.", self._clock() - self._away_since)
            self._away_since = None
            self._refusal = None
            self._pause = self._retry_seconds[0]

    def _refuse(self, behind: _Behind | None, text: str) -> None:
        with self._changed:
            if behind is not None:
                behind.refused = True
        self._note(f"{_who(behind)}: not tracked: {text}")

    def _note(self, text: str) -> None:
        with self._changed:
            is_news, self._last_error = self._last_error != text, text
        if is_news:  # one line for a trouble, not one for each time it is met
            _log.warning("%s", text)

    # The calls that somebody waits for

    def _wait_for(
        self,
        call: Callable[[], _T],
        patience_seconds: float,
        writes_about: int | None = None,
    ) -> _T | None:
        """Return what `call` gives in time; else leave the work to the other thread.

        Args:
            call: Reads from the tracker, or writes to it.
            patience_seconds: How long to wait.
            writes_about: The trial, or `_STUDY`, that it writes about: while the other thread does
                too, this one waits for its turn.
        """
        began = time.monotonic()
        if not self._takes_turn(patience_seconds, writes_about):
            self._wake()
            return None
        release = partial(self._release, writes_about)
        left_seconds = began + patience_seconds - time.monotonic()
        try:
            found = self._desk.ask(call, left_seconds, release) if self._is_threaded else call()
        except _TooLate:
            self._went_away(
                TrackingUnavailable(f"The tracker did not answer in {patience_seconds:g} s."), None
            )
        except TrackingUnavailable as error:
            self._went_away(error, None)
        except TrackingError as error:
            self._note(str(error))
        else:
            self._came_back()
            return found
        finally:
            if not self._is_threaded:
                release()
        self._wake()
        return None

    def _takes_turn(self, patience_seconds: float, writes_about: int | None) -> bool:
        """Return whether a call may begin; what it writes about is then its own."""
        with self._changed:
            if self._away_since is not None or self._is_closed:
                return False
            if writes_about is None:
                return True
            is_free = self._changed.wait_for(
                lambda: writes_about not in self._written, patience_seconds
            )
            if is_free:
                self._written.add(writes_about)
            return is_free

    def _read(self, call: Callable[[], _T], patience_seconds: float) -> _T | None:
        found = self._wait_for(call, patience_seconds)
        if found is None:
            with self._changed:
                if self._away_since is not None and self._probe is None:
                    self._probe = call
            self._wake()
        return found


class _Desk:
    """One daemon thread that makes calls somebody waits for, one after the other."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._n_working = 0

    @property
    def is_working(self) -> bool:
        """Whether a call is under way, be it that nobody waits for it any more."""
        with self._lock:
            return self._n_working > 0

    def ask(
        self, call: Callable[[], _T], timeout_seconds: float, release: Callable[[], None]
    ) -> _T:
        """Return the call's result or raise its error.

        Args:
            call: Made by the desk's thread.
            timeout_seconds: How long to wait for it.
            release: Called once, when the call is over or will never begin.

        Raises:
            _TooLate: No result in time. A call that had not begun never will; another goes on.
        """
        done = threading.Event()
        results: list[_T] = []
        errors: list[Exception] = []
        is_abandoned = has_begun = False

        def job() -> None:
            nonlocal has_begun
            with self._lock:
                if is_abandoned:
                    return
                has_begun = True
                self._n_working += 1
            try:
                results.append(call())
            except Exception as error:  # noqa: BLE001 - handed to whoever waits
                errors.append(error)
            finally:
                with self._lock:
                    self._n_working -= 1
                release()
                done.set()

        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="studyflow-tracking-desk", daemon=True
                )
                self._thread.start()
        self._jobs.put(job)
        if not done.wait(timeout_seconds):
            with self._lock:
                is_abandoned = not has_begun
            if is_abandoned:
                release()
            raise _TooLate
        if errors:
            raise errors[0]
        return results[0]

    def close(self) -> None:
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def read_metrics_file(path: Path) -> Iterator[list[MetricPoint]]:
    """Yield the points of a trial's metrics file, at most `POINTS_PER_CALL` at a time.

    Lines that are no points, such as one torn by a kill, are left out; a missing file has none, nor
    has what a script put in its place. Of an endless one, the first `METRICS_LIMIT_BYTES` count.
    """
    chunk: list[MetricPoint] = []
    try:
        with open_file(path) as file:
            while file.tell() < METRICS_LIMIT_BYTES and (line := file.readline(LONGEST_LINE_BYTES)):
                try:
                    chunk.append(MetricPoint.from_json(line.decode()))
                except (DocumentError, UnicodeDecodeError):
                    continue
                if len(chunk) == POINTS_PER_CALL:
                    yield chunk
                    chunk = []
    except (FileNotFoundError, NotAFileError):
        return
    if chunk:
        yield chunk


def missing_points(
    tracker: Tracker, record: TrialRecord, path: Path
) -> Iterator[list[MetricPoint]]:
    """Yield the points of a trial's metrics file that its run lacks.

    Trackers store no point twice anyway; but finding that out for 1000 points takes MLflow a
    second, and reading them back some milliseconds.

    Raises:
        TrackingUnavailable: The tracker does not answer.
        TrackingError: The tracker refuses.
    """
    there: dict[str, frozenset[MetricPoint]] = {}
    for chunk in read_metrics_file(path):
        for name in {point.name for point in chunk} - there.keys():
            there[name] = frozenset(tracker.read_points(record, name))
        missing = [point for point in chunk if point not in there[point.name]]
        if missing:
            yield missing


def sync_study(
    tracker: Tracker,
    card: StudyCard,
    records: Sequence[TrialRecord],
    files: Callable[[TrialRecord], TrialFiles],
    progress: Callable[[int, int], None] | None = None,
    *,
    summary: Callable[[], StudySummary] | None = None,
) -> SyncReport:
    """Bring a tracker up to date with a study: everything it lacks, and nothing twice.

    A trial that the tracker does not answer about is left; the others follow while it answers at
    all.

    Args:
        tracker: Where the study is shown.
        card: What is shown from the first moment.
        records: All trials of the study.
        files: A trial's log, artifacts and metrics file.
        progress: Told how many of how many trials are done.
        summary: Makes what is shown at the end, once the trials are sent; `None` leaves the study's
            own run open.

    Raises:
        TrackingUnavailable: The tracker does not answer at all.
        TrackingError: The tracker refuses the study.
    """
    tracker.open_study(card)
    there = tracker.finished_trials()
    todo = [r for r in records if r.number not in there and r.state is not TrialState.WAITING]
    todo = [record for record in todo if record.state.is_finished or record.attempt > 0]
    sent: list[int] = []
    failed: dict[int, str] = {}
    left: dict[int, str] = {}
    for index, record in enumerate(todo):
        try:
            _sync_trial(tracker, record, files(record))
            sent.append(record.number)
        except TrackingUnavailable as error:
            left[record.number] = str(error)
            if not _answers(tracker):
                left |= {other.number: str(error) for other in todo[index + 1 :]}
                return SyncReport(tuple(sent), failed, tuple(left), str(error), is_away=True)
        except (StudyflowError, OSError) as error:
            failed[record.number] = str(error)
        if progress is not None:
            progress(index + 1, len(todo))
    error_text = next(iter(left.values()), None)
    is_away = error_text is not None
    if summary is not None:
        try:
            tracker.close_study(summary())
        except TrackingError as error:
            error_text = error_text or str(error)
            is_away = is_away or error.retryable
    return SyncReport(tuple(sent), failed, tuple(left), error_text, is_away)


def _answers(tracker: Tracker) -> bool:
    """Return whether a tracker that did not answer about one trial answers at all."""
    try:
        tracker.finished_trials()
    except TrackingUnavailable:
        return False
    except TrackingError:
        pass
    return True


def _sync_trial(tracker: Tracker, record: TrialRecord, files: TrialFiles) -> None:
    log, artifacts, metrics_file = files
    if not record.state.is_finished:
        tracker.open_trial(record)
    if metrics_file is not None:
        for chunk in missing_points(tracker, record, metrics_file):
            tracker.log_points(record, chunk)
    if record.state.is_finished:
        tracker.close_trial(record, log=log, artifacts=artifacts)


def _who(behind: _Behind | None) -> str:
    return "The study" if behind is None else f"Trial {behind.record.number}"
