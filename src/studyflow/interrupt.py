"""SIGTERM as an exception, so that a terminated command cleans up like one that got Ctrl-C."""

from __future__ import annotations

import signal


class Terminated(BaseException):
    """SIGTERM arrived; not an `Exception`, so that nothing takes it for a fault."""


def raise_on_sigterm() -> None:
    """Turn SIGTERM into `Terminated`, raised in the main thread."""
    signal.signal(signal.SIGTERM, _raise)


def _raise(_signal: int, _frame: object) -> None:
    raise Terminated
