"""Optuna's distributions as coordinates a Gaussian process can work with.

Three forms of one point, each a pure function of the one before:

* *parameters*: a dict of plain Python values, what Optuna stores and training code receives;
* *codes* (`d` numbers, one per parameter): a position in [0, 1] for floats and ordered grids, the
  index of the choice for categories, NaN where the parameter is inactive or unknown;
* *features* (`f >= d` numbers): what the kernel sees. A category of `k >= 3` choices becomes `k`
  columns, so that any two different choices are equally far apart: Hamming distance inside an
  ordinary ARD kernel, scaled by `category_distance`. `groups` maps columns to parameters.

Grids are exact: every code that `snap` returns decodes to a value of the distribution and encodes
to the same code again, so the point whose acquisition value was computed is the point evaluated
(rounding after the search is what makes samplers repeat themselves).

An inactive conditional parameter sits at the centre of its axis (for a category: at the centroid of
its choices). Two inactive points are then at distance 0 along that axis whatever the other
parameters do, and since all points stay points of one Euclidean space the kernel stays positive
definite. That the parameter is inactive is visible through its parent, which is categorical or an
integer of few values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from studyflow.spec.space import GRID_TOLERANCE, FloatGrid

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

Conditions = Mapping[str, Mapping[str, Sequence[Any]]]
"""Child to parent to the parent's values under which the child exists; all parents must agree."""

SAME_POINT: Final = 1e-6
"""Codes closer than this in every parameter are one point: less than any grid step searched here,
and as near as a kernel matrix in double precision can usefully tell two points apart."""

MAX_PARENT_VALUES: Final = 16
"""Integers of more values than this are sizes, not counts: nothing exists because of them."""
MAX_CHANCE: Final = 0.05
"""A threshold is believed if points in random order would be sorted by it at most this often, all
that have the parameter to one side. It takes three points of eight, or two of ten."""

ABSENT: Final = object()
"""In place of a value: the point does not have the parameter."""

_MAX_EXACT_GRID: Final = 10**5
"""Finer grids are searched as if continuous (and snapped): their steps fall below SAME_POINT."""


@dataclass(frozen=True)
class Dimension:
    """One parameter: its distribution and how it is laid out on an axis."""

    name: str
    distribution: BaseDistribution
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
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        numbers = np.array([_as_number(value) for value in values], dtype=np.float64)
        if self.grid_of_float is not None:
            return self._grid_codes(numbers, self.grid_of_float)
        with np.errstate(invalid="ignore"):
            inside = (numbers >= distribution.low) & (numbers <= distribution.high)
        numbers = np.where(inside, numbers, math.nan)
        if self.size is not None and not distribution.log:
            assert distribution.step is not None
            return np.asarray(((numbers - distribution.low) / distribution.step + 0.5) / self.size)
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

    @cached_property
    def _choice_indices(self) -> dict[Any, float]:
        """Index of each choice; of choices that are equal (1 and True) the first, as in Optuna."""
        assert isinstance(self.distribution, CategoricalDistribution)
        indices: dict[Any, float] = {}
        for index, choice in enumerate(self.distribution.choices):
            try:
                indices.setdefault(choice, float(index))
            except TypeError:  # Optuna tolerates unhashable choices
                continue
        return indices

    @cached_property
    def grid(self) -> FloatArray:
        """Codes of all values of a discrete parameter, in order; only for short grids."""
        return np.array([self.code_of_index(k) for k in range(self._count)])

    def decode(self, code: float) -> Any:
        """Return the plain Python value at a code; always contained in the distribution."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return distribution.choices[self.index(code)]
        if isinstance(distribution, IntDistribution):
            return distribution.low + self.index(code) * distribution.step
        assert isinstance(distribution, FloatDistribution)
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
        if self.kind == "categorical":
            return float(index)
        distribution = self.distribution
        if isinstance(distribution, IntDistribution) and distribution.log:
            return self.encode(distribution.low + index)
        return (index + 0.5) / self._count

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

    @property
    def _count(self) -> int:
        assert self.size is not None
        return self.size

    @cached_property
    def _edges(self) -> tuple[float, float]:
        """The ends of the axis, on the log scale if there is one; a grid has half-step margins."""
        distribution = self.distribution
        assert isinstance(distribution, FloatDistribution | IntDistribution)
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
    """Return the only value of a distribution for which `single()` holds."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.low


@dataclass(frozen=True)
class Condition:
    """A parameter exists only where another one has one of the allowed values."""

    child: int
    parent: int
    allowed: frozenset[int]
    """Indices into the parent's grid or choices."""


@dataclass(frozen=True)
class Encoding:
    """The union search space as `d` dimensions and the conditions between them."""

    dimensions: tuple[Dimension, ...]
    conditions: tuple[Condition, ...]
    """Every condition on a parameter comes before all conditions that have it as parent."""

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names, in the order of the codes."""
        return tuple(dimension.name for dimension in self.dimensions)

    @cached_property
    def groups(self) -> IntArray:
        """For each of the `f` feature columns the index of its parameter."""
        return np.repeat(np.arange(len(self.dimensions)), [d.width for d in self.dimensions])

    @cached_property
    def first_columns(self) -> IntArray:
        """For each parameter the index of its first feature column."""
        widths = [dimension.width for dimension in self.dimensions]
        return np.concatenate([[0], np.cumsum(widths)[:-1]]).astype(np.int64)

    @cached_property
    def relaxed(self) -> IntArray:
        """Parameters that a gradient search moves: continuous ones and grids too fine to list."""
        return np.array(
            [
                i
                for i, d in enumerate(self.dimensions)
                if d.kind == "continuous" or (d.kind == "ordinal" and d.size and d.size > 32)
            ],
            dtype=np.int64,
        )

    @cached_property
    def cardinality(self) -> float:
        """Number of points, conditions not considered; infinite if any parameter is continuous."""
        return math.prod(
            math.inf if d.size is None or d.size > _MAX_EXACT_GRID else d.size
            for d in self.dimensions
        )

    def encode(self, params: Mapping[str, Any]) -> FloatArray:
        """Return the codes of one point, `d`; NaN where a parameter is absent or out of range."""
        return np.asarray(self.encode_all([params])[0])

    def encode_all(self, points: Sequence[Mapping[str, Any]]) -> FloatArray:
        """Return the codes of many points, `n x d`."""
        if not points:
            return np.empty((0, len(self.dimensions)))
        columns = [
            d.encode_all([params.get(d.name, ABSENT) for params in points]) for d in self.dimensions
        ]
        return np.stack(columns, axis=1)

    def decode(self, codes: FloatArray) -> dict[str, Any]:
        """Return the parameters at a point; parameters whose code is NaN are left out."""
        return {
            d.name: d.decode(float(code))
            for d, code in zip(self.dimensions, codes, strict=True)
            if not math.isnan(code)
        }

    def active(self, codes: FloatArray) -> BoolArray:
        """Return which parameters exist at each point, `n x d`, by the conditions alone."""
        active = np.ones(codes.shape, dtype=np.bool_)
        for condition in self.conditions:
            parent = self.dimensions[condition.parent]
            allowed = np.array(sorted(parent.code_of_index(i) for i in condition.allowed))
            values = codes[:, condition.parent]
            met = (
                np.abs(values[:, None] - allowed).min(axis=1, initial=math.inf) < SAME_POINT
                if allowed.size
                else np.zeros(len(values), dtype=np.bool_)
            )
            active[:, condition.child] &= active[:, condition.parent] & met
        return active

    def mask(self, codes: FloatArray) -> FloatArray:
        """Return the codes with NaN wherever the conditions make a parameter inactive, `n x d`."""
        return np.where(self.active(codes), codes, math.nan) if self.conditions else codes

    def snap(self, codes: FloatArray) -> FloatArray:
        """Return the nearest points that can be evaluated, inactive parameters masked, `n x d`."""
        columns = [d.snap(codes[:, i]) for i, d in enumerate(self.dimensions)]
        return self.mask(np.stack(columns, axis=1))

    def from_unit(self, unit: FloatArray) -> FloatArray:
        """Return points for uniform numbers in [0, 1), `n x d`, each value equally likely."""
        columns = [
            np.minimum(np.floor(unit[:, i] * d.size), d.size - 1)
            if d.kind == "categorical" and d.size
            else unit[:, i]
            for i, d in enumerate(self.dimensions)
        ]
        return self.snap(np.stack(columns, axis=1))

    def features(self, codes: FloatArray) -> FloatArray:
        """Return what the kernel sees, `n x f`; every NaN becomes the centre of its axis."""
        blocks: list[FloatArray] = []
        for i, dimension in enumerate(self.dimensions):
            column = codes[:, i]
            missing = np.isnan(column)
            if dimension.kind != "categorical":
                blocks.append(np.where(missing, 0.5, column)[:, None])
                continue
            apart = category_distance(max(dimension.width, 2))
            if dimension.width == 1:
                blocks.append(0.5 + apart * (np.where(missing, 0.5, column)[:, None] - 0.5))
                continue
            one_hot = column[:, None] == np.arange(dimension.width)
            centroid = 1.0 / dimension.width
            height = apart / math.sqrt(2.0)
            blocks.append(height * np.where(missing[:, None], centroid, one_hot))
        return np.concatenate(blocks, axis=1)

    def enumerate_points(self) -> FloatArray:
        """Return all points of a finite space once, `n x d`, in lexicographic order."""
        axes = [dimension.grid for dimension in self.dimensions]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
        # Inactive parameters collapse many grid points into one. NaN would compare unequal.
        masked = np.where(self.active(grid), grid, -1.0)
        unique = np.unique(masked, axis=0)
        return np.where(unique < 0, math.nan, unique)


def category_distance(k: int) -> float:
    """Return how far apart the kernel sees two of `k` choices, `k >= 2`; a float's range is 1 long.

    Two random points are sqrt(1/6) apart along a float, in the root mean square. Along a category
    they would be as far apart with sqrt(k / (6 (k - 1))) between two choices; it is half of the
    square of that. At 1, as far as the two ends of a range, a change of category loses nearly all
    that is known around the best point, and the search stays with the first good one.
    docs/sampler.md has the measurement.
    """
    return math.sqrt(k / (12.0 * (k - 1)))


def find_same(
    points: FloatArray, others: FloatArray, *, tolerance: float = SAME_POINT
) -> BoolArray:
    """Return for each of `n` points whether it is among `m` others, `n`; inactive equals inactive.

    Args:
        points: Codes, `n x d`.
        others: Codes, `m x d`; `m` may be 0.
        tolerance: How far two codes of one point may be apart, in every parameter.
    """
    if not len(others):
        return np.zeros(len(points), dtype=np.bool_)
    left = np.where(np.isnan(points), -1.0, points)
    right = np.where(np.isnan(others), -1.0, others)
    found = np.zeros(len(left), dtype=np.bool_)
    block = max(1, 4_000_000 // max(1, right.size))
    for start in range(0, len(left), block):
        distance = np.abs(left[start : start + block, None, :] - right).max(axis=2)
        found[start : start + block] = (distance < tolerance).any(axis=1)
    return found


def make_encoding(
    space: Mapping[str, BaseDistribution],
    conditions: Conditions | None = None,
    grids: Mapping[str, FloatGrid] | None = None,
) -> Encoding:
    """Return the encoding of a union space; parameters with a single value are left out.

    Dimensions are sorted by name, so that the order in which trials happened to suggest their
    parameters does not change a replay.

    Args:
        space: Every parameter that any trial may have.
        conditions: Under which parent values a parameter exists. Conditions on parameters or
            parents that are not in the space are ignored.
        grids: Points of floats with a step; see `make_dimension`.
    """
    dimensions = tuple(
        make_dimension(name, space[name], (grids or {}).get(name))
        for name in sorted(space)
        if not space[name].single()
    )
    position = {dimension.name: i for i, dimension in enumerate(dimensions)}
    found: list[Condition] = []
    for child, parents in (conditions or {}).items():
        for parent, values in parents.items():
            if child not in position or parent not in position:
                continue
            dimension = dimensions[position[parent]]
            if dimension.size is None:
                continue
            codes = [dimension.encode(value) for value in values]
            allowed = frozenset(dimension.index(c) for c in codes if not math.isnan(c))
            found.append(Condition(position[child], position[parent], allowed))
    return Encoding(dimensions, tuple(_parents_first(found)))


def learn_conditions(
    space: Mapping[str, BaseDistribution], observed: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, list[Any]]]:
    """Return the conditions that explain which parameters the observed points have.

    A parameter is conditional on a parent if, among the points that have the parent, its presence
    is a function of the parent's value, and it is absent wherever the parent is. The presence set
    of a child is then strictly inside that of its parent, so no cycle can arise. Of several
    explanations the parent present in the fewest points is kept (the nearest in a nested tree),
    then the one with the fewest choices. Parent values never seen count as allowing the child.

    Where no category explains it, an integer may (the number of layers, say), if the child exists
    on one side of a threshold only and chance would hardly sort the points so (`MAX_CHANCE`); of
    several integers the one that chance explains least. Values never seen between the two sides
    count as allowing the child.

    Args:
        space: The union of all parameters.
        observed: Parameters of finished points.
    """
    learned: dict[str, dict[str, list[Any]]] = {}
    for child in sorted(space):
        presence = np.array([child in params for params in observed], dtype=np.bool_)
        if presence.all() or not presence.any():
            continue
        found = (_explain(presence, parent, space[parent], observed) for parent in space)
        explanations = [explanation for explanation in found if explanation is not None]
        if explanations:
            likeliest = min(explanations)
            learned[child] = {likeliest.parent: likeliest.allowed}
    return learned


@dataclass(frozen=True, order=True)
class _Explanation:
    """Why a parameter exists at some points only; of several the least is to be believed."""

    is_threshold: bool
    doubt: float
    """Of a category, how many points have the parent; of a threshold, the log probability that
    chance alone would sort the points so."""
    n_values: int
    parent: str
    allowed: list[Any] = field(compare=False)
    """Values of the parent under which the parameter exists."""


def _explain(
    presence: BoolArray,
    parent: str,
    distribution: BaseDistribution,
    observed: Sequence[Mapping[str, Any]],
) -> _Explanation | None:
    """Return how a parent's value decides which points have the parameter, `None` if it does not.

    Args:
        presence: Which of the points have the parameter, `n`; a mix.
        parent: The parameter that may decide it. (None explains itself: there would have to be
            points that have it and lack it.)
        distribution: That of the parent.
        observed: All parameters of the points.
    """
    values = _parent_values(distribution)
    known = np.array([parent in params for params in observed], dtype=np.bool_)
    if len(values) < 2 or (presence & ~known).any():
        return None
    with_child, without = (
        {
            values.index(params[parent])
            for params, here, has in zip(observed, presence, known, strict=True)
            if has and here == wanted and params[parent] in values
        }
        for wanted in (True, False)
    )
    if not with_child or not without or with_child & without:
        return None
    n_known = int(known.sum())
    if isinstance(distribution, CategoricalDistribution):
        allowed = [value for i, value in enumerate(values) if i not in without]
        return _Explanation(False, float(n_known), len(values), parent, allowed)
    log_chance = math.log(2.0) - _log_subsets(n_known, int(presence.sum()))
    allowed = [values[i] for i in _side_of(with_child, without, len(values))]
    if not allowed or log_chance > math.log(MAX_CHANCE):
        return None
    return _Explanation(True, log_chance, len(values), parent, allowed)


def _parent_values(distribution: BaseDistribution) -> Sequence[Any]:
    """Return the values that other parameters may depend on; none where that is not looked for."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    if not isinstance(distribution, IntDistribution):
        return ()
    low, high, step = distribution.low, distribution.high, distribution.step
    return range(low, high + 1, step) if (high - low) // step < MAX_PARENT_VALUES else ()


def _side_of(ours: set[int], others: set[int], count: int) -> range:
    """Return the indices beyond all the others, on our side of them; none if the two overlap."""
    if min(ours) > max(others):
        return range(max(others) + 1, count)
    if max(ours) < min(others):
        return range(min(others))
    return range(0)


def _log_subsets(n: int, k: int) -> float:
    """Return the logarithm of the number of ways to choose `k` of `n`."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _parents_first(conditions: Sequence[Condition]) -> list[Condition]:
    """Return the conditions so ordered that a parameter's own come before those that use it."""
    remaining, ordered = list(conditions), list[Condition]()
    while remaining:
        waiting = {condition.child for condition in remaining}
        ready = [c for c in remaining if c.parent not in waiting]
        if not ready:
            raise ValueError("Conditions must not form a circle.")
        ordered += ready
        remaining = [c for c in remaining if c.parent in waiting]
    return ordered
