"""Ctrl-C and SIGTERM: an exception while a command works, and its end while it only starts.

As an exception SIGTERM lets a terminated command clean up like one that got Ctrl-C. But while
modules are imported there is nothing to clean up, and an exception that comes up in the middle of
one may be taken for a failed import, or lost: there the signal ends the process.

What a signal handler raises comes up wherever the main thread happens to be, and is lost where the
interpreter or a library drops whatever it meets there: in a finalizer, in a lookup. So arrivals are
counted too, and a loop that may run for days looks at their number.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from studyflow import exits

_NUMBERS: Final = (signal.SIGINT, signal.SIGTERM)
_DEFAULTS: Final = (signal.default_int_handler, signal.SIG_DFL)


class Terminated(BaseException):
    """SIGTERM arrived; not an `Exception`, so that nothing takes it for a fault."""


_n_arrived = 0


def raise_on_sigterm() -> None:
    """Turn SIGTERM into `Terminated`, raised in the main thread, and end `leave_at_once`."""
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
    """Do the same for a while; does nothing outside the main thread, which gets the signals."""
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
    """Return how often SIGTERM has come, whatever became of the exception."""
    return _n_arrived


def _raise(_signal: int, _frame: object) -> None:
    global _n_arrived
    _n_arrived += 1
    raise Terminated


def _leave(_signal: int, _frame: Any) -> None:
    os.write(2, b"Interrupted before anything was started.\n")
    os._exit(exits.INTERRUPTED)
