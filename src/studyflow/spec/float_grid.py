"""The grid of a float with a step, exact where Optuna rounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Final

MOST_STEPS: Final = 10_000_000
"""Most steps of a float from zero to its bounds. With more, rounding errors exceed
`GRID_TOLERANCE`, and Optuna would refuse values that it suggested itself."""

GRID_TOLERANCE: Final = 1e-8
"""How far, in steps, a float may lie off its grid and still count as on it: rounding of
decimals. Optuna allows the same."""


@dataclass(frozen=True)
class FloatGrid:
    """The points low, low + step, low + 2 step, … of a float, in decimals as written.

    All code that counts, compares or draws values of a float with a step does it by this class, so
    that what one part suggests is a point for every other.

    A range that is a whole number of steps, to within `GRID_TOLERANCE` of a step, is divided evenly
    and ends exactly on `high`: 1/11 is printed as 0.09090909090909091, eleven of which are a little
    more than 1, and seven times 1/7 as printed is not enough from -1 to 0. Another range ends on
    the last point below `high`.
    """

    low: float
    high: float
    step: float

    @cached_property
    def _steps_in_range(self) -> Fraction:
        return (_exact(self.high) - _exact(self.low)) / _exact(self.step)

    @cached_property
    def is_whole(self) -> bool:
        """Whether the range is a whole number of steps."""
        return abs(self._steps_in_range - round(self._steps_in_range)) <= GRID_TOLERANCE

    @cached_property
    def n_steps(self) -> int:
        """How many steps fit into the range."""
        return round(self._steps_in_range) if self.is_whole else math.floor(self._steps_in_range)

    @cached_property
    def _spacing(self) -> Fraction:
        """The step that is meant."""
        if not self.is_whole or self.n_steps == 0:
            return _exact(self.step)
        return (_exact(self.high) - _exact(self.low)) / self.n_steps

    @property
    def size(self) -> int:
        """How many points there are."""
        return self.n_steps + 1

    @property
    def last(self) -> float:
        """The largest point."""
        return self.value(self.n_steps)

    def value(self, index: int) -> float:
        """Return the point at a position, from 0: of 0.1 the third is 0.3, not 0.1 * 3."""
        if index == self.n_steps and self.is_whole:
            return self.high
        if index not in self._known:
            point = _exact(self.low) + index * self._spacing
            self._known[index] = min(float(point), self.high)
        return self._known[index]

    @cached_property
    def _known(self) -> dict[int, float]:
        """Points that were asked for: fractions are slow, and reports ask for the same often."""
        return {}

    def nearest(self, value: float) -> int:
        """Return the position of the point nearest to a value."""
        return min(max(round((value - self.low) / self.step), 0), self.n_steps)

    def index(self, value: float) -> int | None:
        """Return the position of a value, `None` if it is more than rounding off every point."""
        margin = GRID_TOLERANCE * self.step
        if not self.low - margin <= value <= self.high + margin:
            return None
        index = self.nearest(value)
        return index if abs(value - self.value(index)) <= margin else None

    @cached_property
    def optuna_range(self) -> tuple[float, float, float | None]:
        """Bounds and step by which Optuna takes all these points, and none between them.

        Optuna counts steps in decimals: it cuts off the end of a range that is no whole number of
        them, when a distribution is made and again whenever it is read from the storage. A grid
        that is not whole in decimals is given to it with a step larger by some 1e-15 and an end to
        match; samplers then suggest points of ours to within rounding, and `SearchSpace.on_grid`
        removes that. The step is `None` where so many points leave no room for that: Optuna
        then knows a continuum.
        """
        exact_last = _exact(self.low) + self.n_steps * _exact(self.step)
        if _exact(self.last) == exact_last:
            return self.low, self.last, self.step
        for digits in (16, 15):  # 16 are exact for most doubles, 15 for all
            found = self._stretched(digits)
            if found is not None:
                return found
        return self.low, self.last, None

    def _stretched(self, digits: int) -> tuple[float, float, float] | None:
        """Return the narrowest range of so many digits that holds the grid and divides evenly."""
        largest = max(abs(self.low), abs(self.last))
        unit = Fraction(10) ** (math.floor(math.log10(largest)) + 1 - digits)
        low = math.floor(_exact(self.low) / unit) * unit
        step = math.ceil((_exact(self.last) - low) / (self.n_steps * unit)) * unit
        decimals = (low, low + self.n_steps * step, step)
        floats = (float(low), float(low + self.n_steps * step), float(step))
        if any(_exact(f) != d for f, d in zip(floats, decimals, strict=True)):
            return None
        for index in {0, 1, self.n_steps - 1, self.n_steps}:
            steps = (self.value(index) - floats[0]) / floats[2]
            if abs(steps - index) > GRID_TOLERANCE / 2:
                return None
        return floats


def _exact(value: float) -> Fraction:
    """Return the number that a float is written as: 0.1 is a tenth."""
    return Fraction(repr(float(value)))
