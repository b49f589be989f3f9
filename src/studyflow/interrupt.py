"""SIGTERM as an exception, so that a terminated command cleans up like one that got Ctrl-C.

What a signal handler raises comes up wherever the main thread happens to be, and is lost where the
interpreter or a library drops whatever it meets there: in a finalizer, in a lookup. So arrivals are
counted too, and a loop that may run for days looks at their number.
"""

from __future__ import annotations

import signal


class Terminated(BaseException):
    """SIGTERM arrived; not an `Exception`, so that nothing takes it for a fault."""


_n_arrived = 0


def raise_on_sigterm() -> None:
    """Turn SIGTERM into `Terminated`, raised in the main thread."""
    signal.signal(signal.SIGTERM, _raise)


def n_arrived() -> int:
    """Return how often SIGTERM has come, whatever became of the exception."""
    return _n_arrived


def _raise(_signal: int, _frame: object) -> None:
    global _n_arrived
    _n_arrived += 1
    raise Terminated
