"""One parameter as an axis: between the values of its distribution and codes.

A code is a position in [0, 1] for floats and ordered grids, the index of the choice for
categories, NaN where the parameter is absent. Grids are exact: every code that `snap` returns
decodes to a value of the distribution and encodes to the same code again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from studyflow.samplers.arrays import FloatArray, IntArray
from studyflow.spec.float_grid import GRID_TOLERANCE, FloatGrid

ABSENT: Final = object()
"""Instead of a value: the point does not have the parameter."""


@dataclass(frozen=True)
class Dimension:
    """One parameter: its distribution and how it is laid out on an axis."""

    name: str
    distribution: FloatDistribution | IntDistribution | CategoricalDistribution
    kind: Literal["continuous", "ordinal", "categorical"]
    size: int | None
    """Number of values; `None` for a continuous parameter."""
    grid_of_float: FloatGrid | None = None
    """The values of a float with a step."""

    @property
    def width(self) -> int:
        """Number of feature columns."""
        return self.size if self.kind == "categorical" and self.size and self.size > 2 else 1

    def encode(self, value: Any) -> float:
        """Return the code of one value, or NaN if it lies outside the distribution's range.

        A value inside the range but off the grid (the step was changed during the study) keeps its
        own position: what was measured there is still true.
        """
        return float(self.encode_all([value])[0])

    def encode_all(self, values: Sequence[Any]) -> FloatArray:
        """Return the codes of many values, as `encode` does; `ABSENT` becomes NaN."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            indices = np.array([self._choice_index(value) for value in values], dtype=np.float64)
            return indices if self.kind == "categorical" else (indices + 0.5) / self._count
        numbers = np.array([_as_number(value) for value in values], dtype=np.float64)
        if self.grid_of_float is not None:
            return self._grid_codes(numbers, self.grid_of_float)
        with np.errstate(invalid="ignore"):
            inside = (numbers >= distribution.low) & (numbers <= distribution.high)
        numbers = np.where(inside, numbers, math.nan)
        if isinstance(distribution, IntDistribution) and not distribution.log:
            return np.asarray(
                ((numbers - distribution.low) / distribution.step + 0.5) / self._count
            )
        low, high = self._edges
        if distribution.log:
            numbers = np.log(numbers)
        # Halves, since high - low overflows for the widest ranges a double can express.
        return np.clip((numbers / 2 - low / 2) / (high / 2 - low / 2), 0.0, 1.0)

    def _grid_codes(self, numbers: FloatArray, grid: FloatGrid) -> FloatArray:
        """Return the codes of numbers; one that is a point up to rounding has the point's."""
        margin = GRID_TOLERANCE * grid.step
        with np.errstate(invalid="ignore"):
            inside = (numbers >= grid.low - margin) & (numbers <= grid.high + margin)
            steps = (numbers - grid.low) / grid.step
            whole = np.clip(np.round(steps), 0, grid.n_steps)
            steps = np.where(np.abs(steps - whole) <= GRID_TOLERANCE, whole, steps)
        return np.where(inside, (steps + 0.5) / self._count, math.nan)

    def _choice_index(self, value: Any) -> float:
        if value is ABSENT:
            return math.nan
        try:
            return self._choice_indices[value]
        except (KeyError, TypeError):  # not a choice; or unhashable; or NaN, unequal to itself
            pass
        try:
            return float(self.distribution.to_internal_repr(value))
        except ValueError:
            return math.nan

    @property
    def _choices(self) -> Sequence[Any]:
        distribution = self.distribution
        return distribution.choices if isinstance(distribution, CategoricalDistribution) else ()

    @cached_property
    def _choice_indices(self) -> dict[Any, float]:
        """Index of each choice; of choices that are equal (1 and True) the first, as in Optuna."""
        indices: dict[Any, float] = {}
        for index, choice in enumerate(self._choices):
            try:
                indices.setdefault(choice, float(index))
            except TypeError:  # Optuna tolerates unhashable choices
                continue
        return indices

    @cached_property
    def grid(self) -> FloatArray:
        """Codes of all values of a discrete parameter, in order; only for short grids."""
        return self.codes_of_indices(np.arange(self._count))

    def decode(self, code: float) -> Any:
        """Return the plain Python value at a code; always contained in the distribution."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return distribution.choices[self.index(code)]
        if isinstance(distribution, IntDistribution):
            return distribution.low + self.index(code) * distribution.step
        if self.grid_of_float is not None:
            return self.grid_of_float.value(self.index(code))
        low, high = self._edges
        number = low * (1.0 - code) + high * code
        if distribution.log:
            number = math.exp(number)
        return float(min(max(number, distribution.low), distribution.high))

    def index(self, code: float) -> int:
        """Return the position of a discrete value in its grid, from 0."""
        if self.kind == "categorical":
            return min(max(int(code), 0), self._count - 1)
        distribution = self.distribution
        if isinstance(distribution, IntDistribution) and distribution.log:
            low, high = self._edges
            return min(
                max(round(math.exp(low + code * (high - low))) - distribution.low, 0),
                self._count - 1,
            )
        return min(max(math.floor(code * self._count), 0), self._count - 1)

    def code_of_index(self, index: int) -> float:
        """Return the code of the grid's `index`-th value."""
        return float(self.codes_of_indices(np.array([index]))[0])

    def codes_of_indices(self, indices: IntArray) -> FloatArray:
        """Return the codes of some of the grid's values, of the same shape."""
        if self.kind == "categorical":
            return indices.astype(np.float64)
        distribution = self.distribution
        if isinstance(distribution, IntDistribution) and distribution.log:
            return self.encode_all([distribution.low + int(index) for index in indices])
        return np.asarray((indices + 0.5) / self._count)

    def snap(self, codes: FloatArray) -> FloatArray:
        """Return the codes moved to the nearest value of the grid; NaN stays NaN.

        Args:
            codes: Any shape, positions in [0, 1], or indices for a categorical parameter.
        """
        if self.size is None:
            return np.clip(codes, 0.0, 1.0)
        if self.kind == "categorical":
            return np.clip(np.round(codes), 0, self.size - 1)
        distribution = self.distribution
        if isinstance(distribution, IntDistribution) and distribution.log:
            low, high = self._edges
            values = np.round(np.exp(low + codes * (high - low)))
            values = np.clip(values, distribution.low, distribution.high)
            return np.clip((np.log(values) / 2 - low / 2) / (high / 2 - low / 2), 0.0, 1.0)
        return (np.clip(np.floor(codes * self.size), 0, self.size - 1) + 0.5) / self.size

    def position(self, value: float) -> float:
        """Return where on the axis a number lies that need be no value: beyond [0, 1] if outside.

        A number that has no logarithm lies at the lower end of a logarithmic axis.
        """
        low, high = self._span
        number = value
        if self._is_log:
            number = math.log(value) if value > 0 else low
        return (number / 2 - low / 2) / (high / 2 - low / 2)

    @property
    def unit_length(self) -> float:
        """How long the axis is: in the parameter's units, on a log scale in powers of ten."""
        low, high = self._span
        return (high - low) / (math.log(10.0) if self._is_log else 1.0)

    @property
    def _is_log(self) -> bool:
        distribution = self.distribution
        return not isinstance(distribution, CategoricalDistribution) and distribution.log

    @cached_property
    def _span(self) -> tuple[float, float]:
        """The numbers at codes 0 and 1, on the log scale if there is one."""
        distribution = self.distribution
        if self.grid_of_float is not None:
            low, step = self.grid_of_float.low, self.grid_of_float.step
        elif isinstance(distribution, IntDistribution) and not distribution.log:
            low, step = float(distribution.low), float(distribution.step)
        else:
            return self._edges
        return low - step / 2, low + (self._count - 0.5) * step

    @property
    def _count(self) -> int:
        assert self.size is not None
        return self.size

    @cached_property
    def _edges(self) -> tuple[float, float]:
        """The ends of the axis, on the log scale if there is one; a grid has half-step margins."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return 0.0, 1.0
        low, high = float(distribution.low), float(distribution.high)
        if isinstance(distribution, IntDistribution):
            low, high = low - 0.5, high + 0.5
        return (math.log(low), math.log(high)) if distribution.log else (low, high)


def make_dimension(
    name: str, distribution: BaseDistribution, grid: FloatGrid | None = None
) -> Dimension:
    """Return the axis of one parameter.

    Choices that are all numbers in increasing order (batch sizes, say) keep their order, by rank:
    neighbours inform each other. Two choices need no order, and booleans have none.

    Args:
        name: The parameter's name.
        distribution: Its distribution.
        grid: The points of a float with a step, where they are known better than from its
            distribution; see `FloatGrid.optuna_range`.

    Raises:
        ValueError: The distribution's class is none of Optuna's.
    """
    if isinstance(distribution, CategoricalDistribution):
        choices = distribution.choices
        numbers = [c for c in choices if isinstance(c, int | float) and not isinstance(c, bool)]
        ordered = len(numbers) == len(choices) >= 3 and all(a < b for a, b in pairwise(numbers))
        return Dimension(name, distribution, "ordinal" if ordered else "categorical", len(choices))
    if isinstance(distribution, IntDistribution):
        size = (distribution.high - distribution.low) // distribution.step + 1
        return Dimension(name, distribution, "ordinal", size)
    if isinstance(distribution, FloatDistribution):
        if grid is None and distribution.step is not None:
            grid = FloatGrid(distribution.low, distribution.high, distribution.step)
        if grid is None:
            return Dimension(name, distribution, "continuous", None)
        return Dimension(name, distribution, "ordinal", grid.size, grid)
    raise ValueError(
        f"{name}: a distribution must be one of Optuna's float, int or categorical, "
        f"but is a {type(distribution).__name__}."
    )


def _as_number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def single_value(distribution: BaseDistribution) -> Any:
    """Return the only value of a distribution for which `single()` holds.

    Raises:
        ValueError: The distribution's class is none of Optuna's.
    """
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    if isinstance(distribution, FloatDistribution | IntDistribution):
        return distribution.low
    raise ValueError(f"No distribution of Optuna's: {type(distribution).__name__}.")
