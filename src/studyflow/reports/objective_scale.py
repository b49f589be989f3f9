"""The axis of one objective."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from studyflow.reports.ticks import linear_ticks, log_ticks


class ObjectiveScale:
    """The axis of one objective: logarithmic where values span decades, else without far outliers.

    Args:
        values: Finite values that will be drawn; may be empty.
        direction: `minimize` or `maximize`.
        room: Values further from the median than so many times the good half's spread are outliers.
    """

    LOG_RATIO: Final = 30.0
    """Positive values whose largest is this many times the smallest get a logarithmic axis."""
    LOG_ROOM: Final = 1e3
    """On a logarithmic axis values within so many times the median are no outliers."""
    LIMIT: Final = 1e100
    """Larger magnitudes are divergence, as for the sampler, and never stretch an axis: differences
    and squares of what is left are floats. Its inverse counts as 0."""
    EQUAL: Final = 1e-12
    """Values are equal if they differ by no more than this share of their magnitude."""

    def __init__(self, values: Sequence[float], direction: str, room: float = 4.0) -> None:
        ordered = sorted(v for v in values if abs(v) <= self.LIMIT)
        self.direction = direction
        self.is_log = False
        if not ordered:
            self.low, self.high = 0.0, 1.0
            return
        if len(ordered) >= 5:
            ordered = self._without_outliers(ordered, room)
        self.is_log = self._spans_decades(ordered)
        self.low, self.high = ordered[0], ordered[-1]
        magnitude = max(abs(self.low), abs(self.high))
        if self.high - self.low <= max(self.EQUAL * magnitude, 1 / self.LIMIT):
            room = 0.1 * magnitude if magnitude > 1 / self.LIMIT else 1.0
            self.low, self.high = self.low - room, self.high + room
        elif self.is_log:
            room = (self.high / self.low) ** 0.06
            self.low, self.high = self.low / room, self.high * room
        else:
            room = 0.06 * (self.high - self.low)
            self.low, self.high = self.low - room, self.high + room

    def _spans_decades(self, ordered: Sequence[float]) -> bool:
        return ordered[0] > 1 / self.LIMIT and ordered[-1] / ordered[0] > self.LOG_RATIO

    def _without_outliers(self, ordered: list[float], room: float) -> list[float]:
        """Return the values without far outliers on the bad side."""
        middle = ordered[len(ordered) // 2]
        is_log = self._spans_decades(ordered)
        if self.direction == "minimize":
            bound = middle + room * (middle - ordered[0])
            if is_log:
                bound = max(middle * self.LOG_ROOM, _power(middle / ordered[0], room) * middle)
            return [v for v in ordered if v <= bound]
        bound = middle - room * (ordered[-1] - middle)
        if is_log:
            bound = min(middle / self.LOG_ROOM, middle / _power(ordered[-1] / middle, room))
        return [v for v in ordered if v >= bound]

    def clip(self, value: float) -> float:
        """Return the value, or a position just within the axis' end where it lies beyond."""
        if not self.is_outside(value):
            return value
        return self.at(0.985 if value > self.high else 0.015)

    def at(self, unit: float) -> float:
        """Return the value at a position between the axis' ends, from 0 to 1."""
        if self.is_log:
            return float(self.low * (self.high / self.low) ** unit)
        return self.low + unit * (self.high - self.low)

    def is_outside(self, value: float) -> bool:
        """Whether the value lies beyond the axis."""
        return not self.low <= value <= self.high

    def unit(self, value: float) -> float:
        """Return the value's position between the axis' ends, from 0 to 1."""
        value = min(max(value, self.low), self.high)
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 6) -> list[float]:
        """Return where ticks stand."""
        if self.is_log:
            return log_ticks(self.low, self.high, most)
        return linear_ticks(self.low, self.high, most, whole=False)


def _power(base: float, exponent: float) -> float:
    """Return a power of a number of at least 1; infinity where it is no float."""
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf
