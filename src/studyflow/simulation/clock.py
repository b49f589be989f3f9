"""Virtual time: one clock for the runner, its trials and the wall."""

from __future__ import annotations

from typing import Final

EPOCH: Final = 1_700_000_000.0
"""When simulations begin unless told otherwise, in seconds since the epoch."""


class VirtualClock:
    """Stands in for `time.time` and `time.monotonic`; goes forward when it is told to.

    Args:
        now: Time at the beginning, in seconds since the epoch.
    """

    def __init__(self, now: float = EPOCH) -> None:
        self._now = now

    def __call__(self) -> float:
        """Return the time in seconds since the epoch."""
        return self._now

    def advance_to(self, when: float) -> None:
        """Let time pass until a moment; nothing happens if that is over."""
        self._now = max(self._now, when)
