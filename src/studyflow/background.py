"""Calls that may hang, made by daemon threads that nobody has to wait for.

Results are futures of `concurrent.futures`. Its executors are not used: the interpreter joins their
threads when it exits, so one call that hangs would keep the whole process alive.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")
A = TypeVar("A")


class NoAnswer(Exception):
    """A call took longer than it was given."""


class Background(Generic[T]):
    """A call in a daemon thread of its own, which nobody waits for beyond a limit.

    Args:
        name: Name of the thread.
        call: What is called, at once.
    """

    def __init__(self, name: str, call: Callable[[], T]) -> None:
        self._future: Future[T] = Future()
        self._began = time.monotonic()
        settle = partial(_settle, self._future, call)
        threading.Thread(target=settle, name=name, daemon=True).start()

    @property
    def is_running(self) -> bool:
        """Whether the call has neither returned nor raised yet."""
        return not self._future.done()

    def result(self, patience_seconds: float) -> T:
        """Return what the call returned, or raise what it raised.

        Args:
            patience_seconds: Longest that the call may have taken since it began.

        Raises:
            NoAnswer: It took longer.
        """
        left_seconds = self._began + patience_seconds - time.monotonic()
        try:
            return result_of(self._future, left_seconds)
        except NoAnswer:
            raise NoAnswer(f"no answer within {patience_seconds:g} s") from None


class DaemonWorker:
    """One daemon thread that makes calls one after the other; the first call starts it.

    Args:
        name: Name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Return the future of a call. Cancelling it succeeds as long as it has not begun."""
        future: Future[T] = Future()
        with self._lock:
            self._calls.put(partial(_settle, future, call))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        return future

    def stop(self, timeout_seconds: float) -> bool:
        """Return whether the thread has ended in time, after the calls that it was given.

        It ends later otherwise, or with the process.
        """
        with self._lock:
            thread = self._thread
        if thread is None:
            return True
        self._calls.put(None)
        thread.join(max(timeout_seconds, 0.0))
        return not thread.is_alive()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


_Calls = queue.SimpleQueue[Callable[[], None] | None]
"""Calls to be made; each `None` ends one thread."""


class DaemonPool:
    """Some daemon threads that make calls side by side; they start when first needed.

    Args:
        name: Name of the threads.
        n_threads: How many calls are made at once.
    """

    def __init__(self, name: str, n_threads: int) -> None:
        self._name = name
        self.n_threads = n_threads
        self._calls = _Calls()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Return the future of a call. Cancelling it succeeds as long as it has not begun."""
        future: Future[T] = Future()
        with self._lock:
            self._calls.put(partial(_settle, future, call))
            if len(self._threads) < self.n_threads:
                run = partial(_make_all, self._calls)
                thread = threading.Thread(target=run, name=self._name, daemon=True)
                self._threads.append(thread)
                thread.start()
        return future

    def map(self, call: Callable[[A], T], arguments: Iterable[A]) -> list[T]:
        """Return what a call returns for each argument, in their order, once all are made.

        For one thread at a time. The first error in this order is raised; the other calls are made
        all the same.
        """
        futures = [self.submit(partial(call, argument)) for argument in arguments]
        wait(futures)
        return [future.result() for future in futures]

    def close(self) -> None:
        """Let the threads end; no further call is made."""
        self.stop(0.0)

    def stop(self, timeout_seconds: float) -> bool:
        """Return whether the threads have ended in time, after the calls that they were given.

        They end later otherwise, or with the process. A call that is submitted after that has new
        threads, and waits for none of these.
        """
        deadline = time.monotonic() + timeout_seconds
        with self._lock:
            threads, self._threads = self._threads, []
            calls, self._calls = self._calls, _Calls()
            for _ in threads:
                calls.put(None)
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in threads)


def _make_all(calls: _Calls) -> None:
    while (call := calls.get()) is not None:
        call()


def settled(call: Callable[[], T]) -> Future[T]:
    """Return the future of a call that is made here and now."""
    future: Future[T] = Future()
    _settle(future, call)
    return future


def result_of(future: Future[T], timeout_seconds: float) -> T:
    """Return a future's result, or raise its error.

    Unlike `Future.result`, it does not confuse a slow call with one that raised `TimeoutError`.

    Raises:
        NoAnswer: There is no result in time; the call goes on.
    """
    if not wait([future], max(timeout_seconds, 0.0)).done:
        raise NoAnswer(f"no answer within {timeout_seconds:g} s")
    return future.result()


def _settle(future: Future[T], call: Callable[[], T]) -> None:
    """Make a call and put its result or its error into the future."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
        if not isinstance(error, Exception):  # such as SystemExit: it ends nothing but the call
            error = RuntimeError(f"the call ended by {error!r}")
        future.set_exception(error)
    else:
        future.set_result(result)
