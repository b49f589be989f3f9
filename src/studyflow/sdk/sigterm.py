"""What SIGTERM does to this process: it ends it, or it asks the script to stop."""

from __future__ import annotations

import _thread
import atexit
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

FIRST_PID: Final = 1
"""Number of the first process of a container. The kernel gives it no signal that it handles by
default: SIGTERM leaves it running until the grace is over and SIGKILL comes."""

END_SECONDS: Final = 15.0
"""Longest time between SIGTERM and the end of a container's first process: for its `finally` blocks
and the flush (`mlflow_link.FLUSH_SECONDS`), and against a script that catches `SystemExit` or waits
for a thread. Half of the grace that Kubernetes gives by default."""


class Sigterm:
    """The SIGTERM handlers of one process.

    A script that installs a handler of its own keeps it. Only the main thread may install handlers:
    from other threads, nothing changes.
    """

    def __init__(self) -> None:
        self.is_received = False
        """Whether SIGTERM came while one of these handlers was installed."""
        self._is_request = False
        self._is_ending = False
        self._before: Any = signal.SIG_DFL
        self._restores_after_fork = False
        self._forks = threading.local()

    def end_first_process(self, pid: int) -> None:
        """Make SIGTERM end this process if it is its container's first and handles it by default.

        Args:
            pid: Number of this process.
        """
        if (
            pid == FIRST_PID
            and _is_main_thread()
            and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        ):
            self._handle(self._end)

    def make_request(self) -> None:
        """Make SIGTERM a request from here on: `is_received` tells of it, and nothing ends."""
        if self._is_request or not _is_main_thread():
            return
        self._is_request = True
        self._handle(self._remember)
        atexit.register(self._ignore_at_exit)

    def let_finish(self) -> None:
        """Let the script reach `finish` when it is stopped from here on; the grace bounds it.

        No step is left to be saved, and its result is about to come.
        """
        if signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, self._end):
            self.make_request()

    def _handle(self, handler: Callable[[int, FrameType | None], None]) -> None:
        previous = signal.signal(signal.SIGTERM, handler)
        if previous != self._end:
            self._before = previous
        if not self._restores_after_fork:
            self._restores_after_fork = True
            # Without this `terminate()` would not end data loaders and other forked processes. It
            # may come as soon as the process is there; so SIGTERM waits until that can be killed.
            os.register_at_fork(
                before=self._hold, after_in_parent=self._release, after_in_child=self._restore
            )

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.is_received = True
        if callable(self._before):
            self._before(number, frame)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        """End the process as SIGTERM ends others, with what is to be done at exit done."""
        self.is_received = True
        # A handler that was installed over this one and calls it expects nothing: in any other
        # process it would have found the default there, which cannot be called.
        if self._is_ending or signal.getsignal(signal.SIGTERM) != self._end:
            return
        self._is_ending = True
        # threading.Thread takes locks, which the code that the signal interrupted may hold.
        with contextlib.suppress(RuntimeError):
            _thread.start_new_thread(exit_late, (128 + number,))
        raise SystemExit(128 + number)

    def _ignore_at_exit(self) -> None:
        """Let a script that is leaving leave: a request that comes now would kill it.

        Python gives signals back their default action while it shuts down, before the script's last
        objects are gone.
        """
        if signal.getsignal(signal.SIGTERM) == self._remember:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    # Around a fork

    def _hold(self) -> None:
        self._forks.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def _release(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._forks.mask)

    def _restore(self) -> None:
        is_ours = signal.getsignal(signal.SIGTERM) in (self._end, self._remember)
        if is_ours and self._before is not None:  # None: was not installed from Python
            signal.signal(signal.SIGTERM, self._before)
        self._release()


def exit_late(code: int) -> None:
    """End this process after `END_SECONDS`, whatever it does then."""
    time.sleep(END_SECONDS)
    os._exit(code)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
