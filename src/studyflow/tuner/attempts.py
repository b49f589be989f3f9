"""The executor as one runner uses it: which attempts it launched, stopped and let go of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Final

from studyflow.errors import ExecutorBlocked, ExecutorError, ExecutorUnavailable
from studyflow.executors import AttemptId, AttemptStatus, Executor
from studyflow.trial import Trial
from studyflow.trial.record import TrialRecord
from studyflow.tuner.calls import ExecutorCalls, Then
from studyflow.tuner.progress import Notes
from studyflow.tuner.reconcile import Stop
from studyflow.tuner.snapshot import Snapshot, newest_attempt

STALE_SECONDS: Final = 30.0
"""How long a runner whose study is over waits for the end of attempts that no longer count."""


class Attempts:
    """What a runner remembers of the attempts at its site. A new runner needs none of it.

    Args:
        executor: Where attempts run.
        notes: Told what the executor could not do.
        clock: Seconds, monotonic.
    """

    def __init__(self, executor: Executor, notes: Notes, clock: Callable[[], float]) -> None:
        self._executor = executor
        self._notes = notes
        self._clock = clock
        self.calls = ExecutorCalls(executor.traits.calls_at_once)
        """Submits, stops and forgets under way."""
        self._launched: set[AttemptId] = set()
        self._stopping: set[AttemptId] = set()
        self._unforgotten: set[AttemptId] = set()
        """Ended attempts that the executor could not let go of yet."""
        self._left_behind: set[AttemptId] = set()
        """Ended attempts that the executor refuses to let go of."""
        self._forgotten: set[AttemptId] = set()
        """Attempts that the executor has let go of in this turn."""
        self._stale_since: float | None = None
        """Since when nothing but attempts that no longer count keeps this runner."""

    def poll(self) -> Mapping[AttemptId, AttemptStatus]:
        """Return every attempt that the executor knows, by one request.

        Raises:
            ExecutorUnavailable: The executor does not answer.
        """
        self._forgotten.clear()
        return self._executor.poll()

    def adopt(self, record: TrialRecord) -> bool:
        """Look after a trial's newest attempt from now on; return whether that is new."""
        attempt = newest_attempt(record)
        is_new = attempt not in self._launched
        self._launched.add(attempt)
        return is_new

    def submit(self, trial: Trial, avoid: Collection[str], then: Then) -> object:
        """Launch an attempt, now or soon.

        Args:
            trial: The attempt.
            avoid: Nodes where it must not run.
            then: Called with `None`, or with what the executor has raised: `ExecutorUnavailable` if
                the same call may succeed later, `ExecutorBlocked` if no attempt of the study can
                start, and `ExecutorError` if this one can never start.

        Returns:
            What `then` returned; `None` if the launch is under way.
        """
        attempt = AttemptId(trial.number, trial.attempt)
        self._launched.add(attempt)

        def launched(error: ExecutorError | None) -> object:
            if error is not None:
                self._launched.discard(attempt)
            return then(error)

        call = partial(self._executor.submit, trial, avoid=avoid)
        return self.calls.make(attempt, call, launched, is_launch=True)

    def stop(self, stop: Stop) -> None:
        """Tell an attempt to end; a later turn tries again if the executor does not answer."""
        if stop.attempt in self.calls.under_way:
            return  # a later turn finds it as it is then

        def stopped(error: ExecutorError | None) -> None:
            if isinstance(error, ExecutorUnavailable):
                self._notes.add(str(error))
                return
            if error is not None and not isinstance(error, ExecutorBlocked):
                raise error
            # Only now: a runner that is cancelled drops calls, and tells everything to end anew.
            self._stopping.add(stop.attempt)
            if error is not None:  # refused once is refused again
                self._notes.lose_right(error.reason)

        call = partial(self._executor.stop, stop.attempt, stop.cause, stop.reason)
        self.calls.make(stop.attempt, call, stopped)

    def forget(self, attempt: AttemptId) -> None:
        """Let go of an ended attempt; a later turn tries again if the executor does not answer."""
        if attempt in self._left_behind or attempt in self.calls.under_way:
            return

        def forgotten(error: ExecutorError | None) -> None:
            if error is None:
                self._forgotten.add(attempt)
                for known in (self._unforgotten, self._launched, self._stopping):
                    known.discard(attempt)
            elif isinstance(error, ExecutorUnavailable):
                self._notes.add(str(error))
            elif isinstance(error, ExecutorBlocked):
                self._unforgotten.discard(attempt)
                self._left_behind.add(attempt)
                self._notes.lose_right(error.reason)
            else:
                raise error

        self._unforgotten.add(attempt)
        self.calls.make(attempt, partial(self._executor.forget, attempt), forgotten)

    def keep_only(self, alive: Collection[AttemptId]) -> None:
        """Forget all attempts but these: the others have ended."""
        for known in (self._launched, self._stopping, self._left_behind):
            known.intersection_update(alive)

    def launched(self, running: Iterable[TrialRecord]) -> frozenset[AttemptId]:
        """Return the newest attempts of running trials that this runner launched or adopted."""
        return frozenset(
            self._launched.intersection(newest_attempt(r) for r in running if r.has_attempt)
        )

    def stopping(self, attempts: Collection[AttemptId]) -> frozenset[AttemptId]:
        """Return those of some attempts that were told to end."""
        return frozenset(self._stopping.intersection(attempts))

    def left_behind(self, attempts: Collection[AttemptId]) -> frozenset[AttemptId]:
        """Return those of some attempts that the executor refuses to let go of."""
        return frozenset(self._left_behind.intersection(attempts))

    def unforgotten(self, attempts: Collection[AttemptId]) -> frozenset[AttemptId]:
        """Return those of some attempts that have ended and are to be let go of once more."""
        self._unforgotten.intersection_update(attempts)
        return frozenset(self._unforgotten)

    def stale(self, snapshot: Snapshot) -> frozenset[AttemptId]:
        """Return the attempts of this site that no longer count and are still to be ended.

        Others have taken over their trials while this runner stood still: a runner that
        leaves now leaves them running.
        """
        counting = {newest_attempt(r) for r in snapshot.running if r.has_attempt}
        stale = snapshot.attempts.keys() - counting - self._forgotten - self._left_behind
        if stale and self._stale_since is None:
            self._stale_since = self._clock()
        return frozenset(stale)

    @property
    def has_waited_for_stale(self) -> bool:
        """Whether attempts that no longer count have had their time to end."""
        since = self._stale_since
        return since is not None and self._clock() - since >= STALE_SECONDS
