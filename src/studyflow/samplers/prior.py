"""What a user believes of parameters, as a weight on the acquisition function.

    a(x) + (STRENGTH / n) * log p(x)

after n finished trials: the prior of where the optimum is, multiplied with the expected improvement
and raised to a power that fades (πBO: Hvarfner et al., arXiv 2204.11051). `p` is a product over
the parameters that exist at x, each relative to the uniform density, so that a branch whose
parameters have no prior is neither favoured nor shunned. Each factor is a mixture of the belief and
the uniform density: a wrong belief is then soon outvoted, since nothing is impossible by it.

Whether it is wrong shows in the finished trials: the power is in proportion to the rank correlation
of density and outcome, and 0 if that is negative. The start-up is not drawn from the prior, but for
its first point at the mode, after which the design begins: it is what can contradict the prior, and
a wrong one then costs one trial.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from optuna.distributions import CategoricalDistribution

from studyflow.samplers.acquisition.closed_form import Acquisition
from studyflow.samplers.arrays import FloatArray
from studyflow.samplers.space.dimension import Dimension
from studyflow.samplers.space.encoding import Encoding
from studyflow.spec.prior import Prior
from studyflow.spec.values import same_scalar

STRENGTH: Final = 10.0
"""After so many trials the prior counts as much as the improvement; a tenth of that after ten times
as many."""

TRUST: Final = 0.9
"""Share of the belief in the mixture; the rest is uniform."""

AGREED: Final = 0.5
"""Rank correlation of belief and outcome from which the prior has its full power."""

_KNOTS: Final[FloatArray] = np.linspace(0.0, 1.0, 257)
_NARROWEST: Final = 0.01
"""Least deviation along an axis: narrower bells would fall between the knots."""
_EDGE: Final = 0.25
"""Deviation with which belief falls off outside a good range, in widths of the range."""


@dataclass(frozen=True)
class AxisPrior:
    """The density of one parameter, relative to the uniform one; its mean is 1."""

    dimension: Dimension
    density: FloatArray
    """At `_KNOTS` for a number, else one for each choice."""

    @property
    def is_choice(self) -> bool:
        """Whether the parameter is one of several choices."""
        return isinstance(self.dimension.distribution, CategoricalDistribution)

    @cached_property
    def mode(self) -> float:
        """Where the density is highest, in [0, 1): in the middle of a plateau."""
        best = np.flatnonzero(self.density >= self.density.max() * (1 - 1e-9))
        if self.is_choice:
            return float((best[0] + 0.5) / len(self.density))
        return float(_KNOTS[best].mean())

    def log_density(self, codes: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the logarithm of the density at each code, `n`, and its slope along the axis."""
        logs = np.log(self.density)
        if self.is_choice:
            k = len(self.density)
            index = codes if self.dimension.kind == "categorical" else np.floor(codes * k)
            return logs[np.clip(index, 0, k - 1).astype(np.int64)], np.zeros(len(codes))
        place = np.clip(codes, 0.0, 1.0) * (len(_KNOTS) - 1)
        left = np.minimum(place.astype(np.int64), len(_KNOTS) - 2)
        rise = logs[left + 1] - logs[left]
        return logs[left] + rise * (place - left), rise * (len(_KNOTS) - 1)


@dataclass(frozen=True)
class SpacePrior:
    """The densities of all parameters that have one."""

    encoding: Encoding
    axes: Mapping[int, AxisPrior]
    """By index of the parameter; at least one."""

    def centre(self, unit: FloatArray) -> FloatArray:
        """Return numbers in [0, 1), `d`, with those of parameters that have a prior at its mode."""
        moved = unit.copy()
        for i, axis in self.axes.items():
            moved[i] = axis.mode
        return moved

    def log_density(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the logarithm of the density, `b`, and its gradient by the features, `b x f`.

        A parameter that does not exist at a point has no part in it.
        """
        codes = self.encoding.codes_of_features(features)
        active = self.encoding.active(codes)
        value, gradient = np.zeros(len(features)), np.zeros_like(features)
        for i, axis in self.axes.items():
            there = active[:, i]
            logs, slope = axis.log_density(codes[:, i])
            value += np.where(there, logs, 0.0)
            gradient[:, self.encoding.first_columns[i]] += np.where(there, slope, 0.0)
        return value, gradient


class WithPrior:
    """An acquisition function on a log scale, times the prior to a power that fades.

    Args:
        acquisition: What is known of improvement.
        prior: What is believed.
        power: See `power_of`.
    """

    def __init__(self, acquisition: Acquisition, prior: SpacePrior, power: float) -> None:
        self._acquisition = acquisition
        self._prior = prior
        self._power = power
        self.name = acquisition.name

    def value(self, features: FloatArray) -> FloatArray:
        """Return the value of each point, `b`."""
        believed, _ = self._prior.log_density(features)
        return self._acquisition.value(features) + self._power * believed

    def value_and_gradient(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the values, `b`, and their gradients by the features, `b x f`."""
        value, gradient = self._acquisition.value_and_gradient(features)
        believed, slope = self._prior.log_density(features)
        return value + self._power * believed, gradient + self._power * slope


def power_of(prior: SpacePrior, features: FloatArray, targets: FloatArray) -> float:
    """Return the power of a prior after some finished trials: 0 once they speak against it.

    Args:
        prior: What is believed.
        features: Of the finished trials, `n x f`.
        targets: Their values, `n`; more is better.
    """
    believed, _ = prior.log_density(features)
    if np.ptp(believed) == 0.0 or np.ptp(targets) == 0.0:
        return STRENGTH / max(len(targets), 1)
    agreement = float(np.corrcoef(_ranks(believed), _ranks(targets))[0, 1])
    return STRENGTH / len(targets) * min(max(agreement / AGREED, 0.0), 1.0)


def space_prior(encoding: Encoding, priors: Mapping[str, Prior]) -> SpacePrior | None:
    """Return the densities over a space; `None` if none of its parameters has a prior.

    Args:
        encoding: The space.
        priors: By parameter; those that are not in the space are ignored.
    """
    axes = {
        i: _axis_prior(dimension, priors[dimension.name])
        for i, dimension in enumerate(encoding.dimensions)
        if dimension.name in priors
    }
    return SpacePrior(encoding, axes) if axes else None


def _axis_prior(dimension: Dimension, prior: Prior) -> AxisPrior:
    if isinstance(dimension.distribution, CategoricalDistribution):
        belief = np.array(
            [
                float(any(same_scalar(choice, good) for good in prior.good))
                for choice in dimension.distribution.choices
            ]
        )
    elif prior.mean is not None and prior.sd is not None:
        centre = dimension.position(prior.mean)
        belief = _bell(_KNOTS - centre, prior.sd / dimension.unit_length)
    else:
        low, high = (dimension.position(_number(value)) for value in prior.good)
        outside = np.maximum(np.maximum(low - _KNOTS, _KNOTS - high), 0.0)
        belief = _bell(outside, _EDGE * (high - low))
    mean = float(belief.mean())
    density = belief / mean if mean > 0 else np.ones_like(belief)
    return AxisPrior(dimension, TRUST * density + (1.0 - TRUST))


def _ranks(values: FloatArray) -> FloatArray:
    """Return the rank of each value, `n`; equal ones share theirs."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - counts / 2)[index])


def _bell(distance: FloatArray, deviation: float) -> FloatArray:
    return np.exp(-0.5 * (distance / max(deviation, _NARROWEST)) ** 2)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
