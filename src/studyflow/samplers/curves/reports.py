"""A study's reports as arrays, and their scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from studyflow.samplers.arrays import BoolArray, FloatArray, IntArray
from studyflow.samplers.curves.rungs import rungs
from studyflow.samplers.outcome_transforms import HUGE

SQUASH: Final = 4.0
"""Spreads from the middle beyond which values are compressed logarithmically."""
LOST: Final = 8.0
"""Spreads below the middle of all trials at that step from where a curve counts as lost."""
_WIDEST: Final = 3.0
"""Largest spread, in units of the good half's, so that bad finals do not make good ones equal."""


@dataclass(frozen=True)
class LearningCurves:
    """What `n` trials of one study have reported, larger is better, `g` rungs."""

    features: FloatArray
    """Parameters as the sampler's model sees them, `n x f`."""
    groups: IntArray
    """For each feature column the index of its lengthscale, `f`."""
    steps: int
    """The steps of a whole training."""
    values: FloatArray
    """Value at each rung, `n x g`; NaN where nothing finite was reported."""
    finals: FloatArray
    """Results of the trials that went to their end, `n`; NaN for the others."""
    reached: IntArray
    """How many rungs each trial has reported, finite or not, `n`."""
    broken: BoolArray
    """Whether the newest value or the result is not finite, `n`."""
    ended: BoolArray
    """Which trials went to their end, `n`."""

    @cached_property
    def scale(self) -> CurveScale:
        """The scale of the finals, on which curves are modelled."""
        return curve_scale(self)

    @cached_property
    def targets(self) -> FloatArray:
        """Values on the model's scale, `n x g`; at the last rung the result, where there is one."""
        return self.scale.targets(self._known)

    @cached_property
    def lost(self) -> BoolArray:
        """Trials without hope, `n`: not finite, or far beyond all others."""
        far = (self._known - self.scale.middles) / self.scale.spreads < -LOST
        return np.asarray(self.broken | far.any(axis=1))

    @property
    def n_ended(self) -> int:
        """Trials that went to their end with a result to learn from."""
        return int((self.ended & ~self.lost).sum())

    @property
    def _known(self) -> FloatArray:
        known = self.values.copy()
        known[self.ended, -1] = self.finals[self.ended]
        return known


@dataclass(frozen=True)
class CurveScale:
    """From the objective's values to the model's, step by step monotone."""

    centre: float
    """Median of the finals."""
    spread: float
    """The unit of the model's scale."""
    spreads: FloatArray
    """The same at each rung, where trials may differ by more, `g`."""
    middles: FloatArray
    """Median over the trials at each rung, `g`; compression starts from there, for early values of
    all trials may be far from any final."""

    def targets(self, values: FloatArray) -> FloatArray:
        """Return values, `n x g`, on the model's scale."""
        deviation = _squash((values - self.middles) / self.spread)
        return np.asarray(deviation + (self.middles - self.centre) / self.spread)

    def target(self, final: float) -> float:
        """Return one final on the model's scale."""
        return float(_squash(np.array([(final - self.centre) / self.spread]))[0])

    def final(self, target: float) -> float:
        """Return the final that has this place on the model's scale."""
        size = abs(target)
        if size > SQUASH:
            size = SQUASH + math.expm1(min(size - SQUASH, 200.0))
        return self.centre + self.spread * math.copysign(size, target)


def read_curves(
    features: FloatArray,
    groups: IntArray,
    reports: Sequence[Mapping[int, float]],
    finals: Sequence[float | None],
    *,
    steps: int,
    maximize: bool,
) -> LearningCurves:
    """Return the curves as arrays.

    Args:
        features: Parameters of each trial, `n x f`.
        groups: For each feature column the index of its lengthscale, `f`.
        reports: Objective by step of each trial, `n`; the first step is 1.
        finals: The result of each trial, `None` while it has none, `n`.
        steps: The steps of a whole training, at least 1.
        maximize: The direction of the objective.
    """
    grid = rungs(steps)
    sign = 1.0 if maximize else -1.0
    n = len(reports)
    values = np.full((n, len(grid)), np.nan)
    reached = np.zeros(n, dtype=np.int64)
    broken = np.zeros(n, dtype=np.bool_)
    results = np.full(n, np.nan)
    ended = np.array([final is not None for final in finals], dtype=np.bool_).reshape(n)
    for i, (curve, final) in enumerate(zip(reports, finals, strict=True)):
        known = sorted(curve)
        last = known[-1] if known else 0
        for k, (rung, below) in enumerate(zip(grid, (0, *grid), strict=False)):
            if rung > last:
                break
            reached[i] = k + 1
            here = [step for step in known if below < step <= rung]
            if here and _is_measured(curve[here[-1]]):
                values[i, k] = sign * curve[here[-1]]
        broken[i] = bool(known) and not _is_measured(curve[last])
        if final is not None:
            reached[i] = len(grid)
            broken[i] = not _is_measured(final)
            results[i] = sign * final if _is_measured(final) else np.nan
    return LearningCurves(features, groups, steps, values, results, reached, broken, ended)


def curve_scale(curves: LearningCurves) -> CurveScale:
    """Return the scale of the finals; of equal values it is 1 wide.

    A spread is that of the good half, as in the half-rank warp: what bad finals are like is of no
    interest. Finals that turn out to be lost are left out of it. A search that succeeds ends more
    and more trials that are nearly as good as the best; the unit is therefore at least the spread
    of all trials at their median rung.
    """
    finals = curves.finals[np.isfinite(curves.finals)]
    centre, spread = _centre_and_spread(finals)
    kept = finals[finals - centre >= -LOST * (spread or 1.0)]
    if len(kept) >= 2:
        centre, spread = _centre_and_spread(kept)
    middles = np.full(curves.values.shape[1], centre)
    spreads = np.zeros(curves.values.shape[1])
    for k, column in enumerate(curves.values[:, :-1].T):
        known = column[np.isfinite(column)]
        if len(known):
            middles[k], at_rung = _centre_and_spread(known)
            spreads[k] = at_rung if len(known) >= 3 else 0.0
    if spreads.any():
        spread = max(spread, float(np.median(spreads[spreads > 0.0])))
    spread = spread or 1.0
    return CurveScale(centre, spread, np.maximum(spreads, spread), middles)


def _centre_and_spread(finals: FloatArray) -> tuple[float, float]:
    """Return the median and the good half's spread, 0 of equal values."""
    if not len(finals):
        return 0.0, 0.0
    centre = float(np.median(finals))
    good = finals[finals >= centre]
    short = float(np.sqrt(np.mean((good - centre) ** 2)))
    spread = max(short, min(float(finals.std()), _WIDEST * short))
    return centre, spread if spread > 1e-12 * max(abs(centre), 1e-290) else 0.0


def _squash(z: FloatArray) -> FloatArray:
    size = np.abs(z)
    beyond = np.log1p(np.maximum(size - SQUASH, 0.0))
    return np.asarray(np.where(size > SQUASH, np.sign(z) * (SQUASH + beyond), z))


def _is_measured(value: float) -> bool:
    return math.isfinite(value) and abs(value) <= HUGE
