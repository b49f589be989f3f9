"""Ctrl-C and SIGTERM: they raise an exception in a command that works, and end one that starts.

SIGTERM raises an exception so that a terminated command cleans up like one that got Ctrl-C. While
modules are imported there is nothing to clean up, and an exception raised in the middle of an
import may be taken for a failed import, or get lost: there the signal ends the process.

A signal handler raises wherever the main thread happens to be. The interpreter and libraries drop
exceptions in some of these places, such as finalizers and lookups. An exception that was dropped in
a finalizer is therefore raised again. Arrivals of SIGTERM are also counted, so that a loop which
runs for days can check the number.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final

EXIT_CODE: Final = 130
"""Exit code of a process that was told to end: 128 and the number of SIGINT."""

INTERRUPTED: Final = "Interrupted; finished trials are kept. Run it again to continue."
"""What a person reads whose run was ended."""

_NUMBERS: Final = (signal.SIGINT, signal.SIGTERM)
_DEFAULTS: Final = (signal.default_int_handler, signal.SIG_DFL)


class Terminated(BaseException):
    """SIGTERM arrived; not an `Exception`, so that nothing takes it for a fault."""


class when_told_to_end:  # noqa: N801 - reads as what a `with` block does
    """Do something when a `with` block is left because its process was told to end.

    That is by Ctrl-C, SIGTERM and Prefect's cancellation: whatever is no `Exception`. Faults, and
    blocks that come to their end, are none of its business. The exception goes on.

    Args:
        act: What to do then.
    """

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self._act()


_AGAIN_SECONDS: Final = 0.01
"""Pause before what was dropped is raised again: the finalizer is over then."""

_n_arrived = 0
_pass_on = sys.unraisablehook


def raise_on_sigterm() -> None:
    """Turn SIGTERM into `Terminated`, raised in the main thread, and end `leave_at_once`.

    From here on, neither it nor Ctrl-C is lost in a finalizer.
    """
    global _pass_on
    if sys.unraisablehook is not _raise_again:
        _pass_on, sys.unraisablehook = sys.unraisablehook, _raise_again
    signal.signal(signal.SIGTERM, _raise)
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def leave_at_once() -> None:
    """Have Ctrl-C and SIGTERM end this process in one line, with the exit code of an interruption.

    For a process that has started nothing yet. What somebody has set for these signals stays: a
    command in the background of a script ignores Ctrl-C.
    """
    for number in _NUMBERS:
        if signal.getsignal(number) in _DEFAULTS:
            signal.signal(number, _leave)


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Do the same within a block; does nothing outside the main thread, which gets the signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    leave_at_once()
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is _leave:
                signal.signal(number, handler)


def n_arrived() -> int:
    """Return how many SIGTERMs have arrived, whatever happened to their exceptions."""
    return _n_arrived


def _raise(_signal: int, _frame: object) -> None:
    global _n_arrived
    _n_arrived += 1
    raise Terminated


def _raise_again(dropped: sys.UnraisableHookArgs) -> None:
    """Send a signal once more, if its exception was dropped; show other exceptions as before."""
    if dropped.exc_type is KeyboardInterrupt:
        number = signal.SIGINT
    elif dropped.exc_type is Terminated:
        number = signal.SIGTERM
    else:
        _pass_on(dropped)
        return
    # threading.Thread takes locks, which the code that was interrupted may hold.
    _thread.start_new_thread(_send_later, (number,))


def _send_later(number: signal.Signals) -> None:
    time.sleep(_AGAIN_SECONDS)
    if signal.getsignal(number) in (_raise, signal.default_int_handler):
        os.kill(os.getpid(), number)


def _leave(_signal: int, _frame: Any) -> None:
    os.write(2, b"Interrupted before anything was started.\n")
    os._exit(EXIT_CODE)
