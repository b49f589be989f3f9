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
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from optuna.distributions import (
    BaseDistribution,
)

from studyflow.samplers.arrays import BoolArray, FloatArray, IntArray
from studyflow.samplers.space.conditions import Conditions
from studyflow.samplers.space.dimension import ABSENT, Dimension, make_dimension
from studyflow.spec.float_grid import FloatGrid

SAME_POINT: Final = 1e-6
"""Codes closer than this in every parameter are one point: less than any grid step searched here,
and as near as a kernel matrix in double precision can usefully tell two points apart."""

_MAX_EXACT_GRID: Final = 10**5
"""Finer grids are searched as if continuous (and snapped): their steps fall below SAME_POINT."""


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

    def codes_of_features(self, features: FloatArray) -> FloatArray:
        """Return the codes of what the kernel sees, `n x d`: of an inactive parameter any one."""
        codes = np.empty((len(features), len(self.dimensions)))
        for i, dimension in enumerate(self.dimensions):
            first = self.first_columns[i]
            column = features[:, first]
            if dimension.kind != "categorical":
                codes[:, i] = column
            elif dimension.width == 1:
                codes[:, i] = np.round(0.5 + (column - 0.5) / category_distance(2))
            else:
                codes[:, i] = features[:, first : first + dimension.width].argmax(axis=1)
        return codes

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
    docs/sampler-comparison.md has the measurement.
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
