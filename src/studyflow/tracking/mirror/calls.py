"""The calls of a tracker whose answers somebody wants, in this turn of the loop or a later one."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, Generic, TypeVar

from studyflow.background import DaemonPool, NoAnswer, result_of
from studyflow.errors import TrackingError, TrackingUnavailable
from studyflow.tracking.mirror.availability import Availability
from studyflow.tracking.mirror.backlog import Backlog
from studyflow.tracking.mirror.turns import Turns

_T = TypeVar("_T")

CALLS_AT_ONCE: Final = 4
"""Calls that are made side by side: with a hundred new trials and a server that takes a second, the
last one has its run after half a minute."""


class Awaited(enum.Enum):
    """Stands for an answer that is not there yet."""

    AWAITED = "awaited"


AWAITED: Final = Awaited.AWAITED


class _NotMade(Exception):
    """A call was not made: the tracker is away, or another thread writes about the trial."""


class Question(Generic[_T]):
    """A call of the tracker that nobody waits for.

    Args:
        patience_seconds: How long the call may take, from when it is made.
    """

    def __init__(self, patience_seconds: float) -> None:
        self.patience_seconds = patience_seconds
        self.began_at: float | None = None
        """When the call was made, monotonic; `None` while it waits for a thread."""
        self.future: Future[_T]

    @property
    def is_overdue(self) -> bool:
        """Whether the call takes longer than it may."""
        began_at = self.began_at
        return began_at is not None and time.monotonic() - began_at > self.patience_seconds


class Calls:
    """Calls a tracker for somebody who wants the answer.

    Once the tracker did not answer in time, or is known to be away, everybody is told so at once
    until the thread that works through the backlog has reached it.

    Args:
        availability: Whether the tracker answers.
        turns: Who writes about which trial.
        backlog: What is unsent.
        changed: The mirror's lock.
        wake: Called when there may be something to do for the other thread.
        is_threaded: False in tests: every call is made at once, by the caller.
    """

    def __init__(
        self,
        availability: Availability,
        turns: Turns,
        backlog: Backlog,
        changed: threading.Condition,
        wake: Callable[[], None],
        *,
        is_threaded: bool,
    ) -> None:
        self._availability = availability
        self._turns = turns
        self._backlog = backlog
        self._changed = changed
        self._wake = wake
        self._is_threaded = is_threaded
        self._is_closed = False
        self._pool = DaemonPool("studyflow-tracking-calls", CALLS_AT_ONCE)

    def make(
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
        with self._changed:
            if not (self._may_call and self._turns.take(subject, patience_seconds)):
                self._wake()
                return None

        def call_and_end_turn() -> _T:
            try:
                return call()
            finally:
                self._end_turn(subject)

        def result() -> _T:
            if not self._is_threaded:
                return call_and_end_turn()
            future = self._pool.submit(call_and_end_turn)
            try:
                return result_of(future, began + patience_seconds - time.monotonic())
            except NoAnswer:
                if future.cancel():
                    self._end_turn(subject)
                raise

        return self._judged(result, patience_seconds)

    def ask(
        self, call: Callable[[], _T], patience_seconds: float, subject: int | None = None
    ) -> Question[_T]:
        """Return the question that a call answers; never waits.

        Args:
            call: Reads from the tracker, or writes to it.
            patience_seconds: How long the call may take.
            subject: The trial, or `STUDY`, that it writes about.
        """
        question: Question[_T] = Question(patience_seconds)

        def call_in_turn() -> _T:
            question.began_at = time.monotonic()
            with self._changed:
                if not (self._may_call and self._turns.take(subject, patience_seconds)):
                    raise _NotMade
            try:
                return call()
            finally:
                self._end_turn(subject)

        if self._is_threaded:
            question.future = self._pool.submit(call_in_turn)
        else:
            question.future = Future()
            try:
                question.future.set_result(call_in_turn())
            except (TrackingError, _NotMade) as error:
                question.future.set_exception(error)
        return question

    def is_awaited(self, question: Question[Any]) -> bool:
        """Return whether a question may still be answered in time.

        None is once the tracker is known to be away: those that wait for a thread wait for calls
        that are not answered.
        """
        if question.future.done() or question.is_overdue:
            return False
        with self._changed:
            return self._may_call

    def answer(self, question: Question[_T]) -> _T | Awaited | None:
        """Return the answer to a question; `None` when there is none and none will come."""
        if self.is_awaited(question):
            return AWAITED
        if not question.future.done():
            question.future.cancel()
            with self._changed:
                may_call = self._may_call
            if not may_call:
                self._wake()
                return None
        return self._judged(lambda: result_of(question.future, 0.0), question.patience_seconds)

    def close(self, timeout_seconds: float) -> bool:
        """Make no further call; return whether all have ended in time."""
        with self._changed:
            self._is_closed = True
        return self._pool.stop(timeout_seconds)

    @property
    def _may_call(self) -> bool:
        return not (self._availability.is_unavailable or self._is_closed)

    def _judged(self, result: Callable[[], _T], patience_seconds: float) -> _T | None:
        """Return a result, and take note of how the tracker answered."""
        try:
            found = result()
        except _NotMade:
            pass
        except NoAnswer:
            text = f"The tracker did not answer in {patience_seconds:g} s."
            with self._changed:
                if not self._is_closed:
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

    def probe_by(self, call: Callable[[], object]) -> None:
        """Have a call that only reads show when the tracker answers again, if it is away."""
        with self._changed:
            if self._availability.is_unavailable and self._backlog.probe is None:
                self._backlog.probe = call
        self._wake()

    def _end_turn(self, subject: int | None) -> None:
        with self._changed:
            if subject is not None:
                self._backlog.drop_if_empty(subject)
            self._turns.give_back(subject)
        self._wake()
