"""How long a suggestion may take.

Nothing here interrupts: the steps of a suggestion look at the deadline between one another, and the
dearest ones (the fit, the search) at each evaluation. One that has begun is finished, so an ask
overruns its limit by one factored matrix, or one batch of candidates, at most.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final


class OutOfTime(Exception):
    """A suggestion's time is up; what costs nothing must do."""


class Deadline:
    """A moment after which no dear step is begun any more.

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
"""All the time in the world."""
