"""Calls of the executor that take a while: several at a time, while the loop goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass
from typing import Final

from studyflow.background import DaemonPool
from studyflow.errors import ExecutorError
from studyflow.executors import AttemptId

_log = logging.getLogger(__name__)

CLOSE_SECONDS: Final = 5.0
"""How long a runner that leaves waits for calls that have begun. The next runner finds out what
came of the others: an attempt is recorded before it is launched, and its end before it goes."""

Then = Callable[[ExecutorError | None], object]
"""Takes what a call has raised, or `None`. Whatever else it raises is raised by the loop."""


@dataclass(frozen=True, slots=True)
class _Call:
    future: Future[object]
    then: Then
    is_launch: bool


class ExecutorCalls:
    """Makes calls of an executor, for one thread: each about another attempt.

    An attempt has at most one call at a time, so that none overtakes another.

    Args:
        n_at_once: How many launches, and how many other calls, are under way at once. With 1 a call
            is made at once, by the caller's thread.
    """

    def __init__(self, n_at_once: int) -> None:
        self._n_at_once = n_at_once
        self._calls: dict[AttemptId, _Call] = {}
        self._launches = DaemonPool("studyflow-launches", n_at_once)
        self._others = DaemonPool("studyflow-calls", n_at_once)
        """Apart from launches, which would wait behind a thousand attempts to be let go of."""

    @property
    def under_way(self) -> frozenset[AttemptId]:
        """The attempts with a call whose result nobody has taken yet."""
        return frozenset(self._calls)

    def make(
        self, attempt: AttemptId, call: Callable[[], object], then: Then, *, is_launch: bool = False
    ) -> object:
        """Make a call, now or soon.

        Args:
            attempt: The attempt that it is about; it has no other call under way.
            call: The call.
            then: Called with its result, by this thread: now, or by a later `take_results`.
            is_launch: Whether it launches the attempt.

        Returns:
            What `then` returned; `None` if the call is under way.
        """
        if self._n_at_once <= 1:
            try:
                call()
            except ExecutorError as error:
                return then(error)
            return then(None)
        assert attempt not in self._calls, f"attempt {attempt} has a call under way"
        pool = self._launches if is_launch else self._others
        self._calls[attempt] = _Call(pool.submit(call), then, is_launch)
        return None

    def take_results(self, patience_seconds: float = 0.0) -> None:
        """Pass on the results of calls that were made.

        Args:
            patience_seconds: How long to wait for one launch to end, if no further one could begin.
        """
        launches = [call.future for call in self._calls.values() if call.is_launch]
        if len(launches) >= self._n_at_once:
            wait(launches, max(patience_seconds, 0.0), return_when=FIRST_COMPLETED)
        for attempt in [a for a, call in self._calls.items() if call.future.done()]:
            call = self._calls.pop(attempt)
            error = _error_of(call.future)
            if error is not None and not isinstance(error, ExecutorError):
                raise error
            call.then(error)

    @property
    def can_launch(self) -> bool:
        """Whether another launch could begin at once."""
        if self._n_at_once <= 1:
            return True
        return sum(call.is_launch for call in self._calls.values()) < self._n_at_once

    def close(self) -> None:
        """Begin no further call, and wait a little for those under way. Their results are lost.

        Those that are not answered in time stay under way: a launch may still come to something,
        which a runner that is cancelled has to end.
        """
        begun = [c.future for c in self._calls.values() if not c.future.cancel()]
        if begun and (left := wait(begun, CLOSE_SECONDS).not_done):
            _log.info("%d calls of the executor were not answered in time", len(left))
        self._calls = {a: call for a, call in self._calls.items() if not call.future.done()}
        self._launches.close()
        self._others.close()


def _error_of(future: Future[object]) -> BaseException | None:
    try:
        return future.exception()
    except CancelledError as error:  # cancelled by nobody but `close`
        return error
