"""How long a suggestion may take.

Nothing here interrupts. The steps of a suggestion check the deadline between one another, and the
slowest steps (the fit, the search) before each evaluation. A step that has begun is finished, so a
suggestion overruns its limit by one factored matrix, or one batch of candidates, at most.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final


class OutOfTime(Exception):
    """The time for a suggestion is up."""


class Deadline:
    """A moment after which no slow step begins.

    Args:
        seconds: How long it is until then.
        clock: Seconds from any start; never goes back.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    @property
    def is_over(self) -> bool:
        """Whether the moment has passed; from then on it always has."""
        return self._clock() >= self._end

    def check(self) -> None:
        """Return if there is time left.

        Raises:
            OutOfTime: There is none.
        """
        if self.is_over:
            raise OutOfTime(f"the time for a suggestion was up (ask_seconds={self._seconds:g})")


NEVER: Final = Deadline(math.inf)
"""No limit."""
