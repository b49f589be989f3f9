"""A clock that moves when it is told to."""

from __future__ import annotations


class FakeClock:
    """Stands in for `time.time` or `time.monotonic`.

    Args:
        now: Time at the beginning, seconds.
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            ValueError: `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds} s")
        self._now += seconds

    sleep = advance
