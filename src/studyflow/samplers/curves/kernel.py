"""The covariance of learning curves: over parameters, over time, and within one trial.

At progress u, from 0 at the first step to 1 at the last, trial i with parameters x reports

    y_i(u) = m + h(u) (f(x) + o_i) + d(x, u) + w_i(u) + noise,    h(u) = exp(eta (u - 1))

f is the function of the parameters that the sampler models; d what curves are like before their
end, a process that all trials share plus one that depends on their parameters; o_i and w_i are a
trial's own: an offset, and a random walk back from its end. h lets early values tell of the end
more or less strongly than one to one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from studyflow.samplers.arrays import BoolArray, FloatArray, IntArray
from studyflow.samplers.models.hyperparameters import lengthscale_prior
from studyflow.samplers.models.kernel import matern52, squared_distances

NEW_TRIAL: Final = -1
"""The number of a trial that has not begun; it has nothing in common with any other row."""

NAMES: Final = ("final", "common", "own", "offset", "walk", "noise", "time")
"""The positive hyperparameters beside the lengthscales, searched by their logarithms."""
PRIORS: Final[dict[str, tuple[float, float]]] = {
    "final": (0.0, 0.7),
    "common": (0.7, 1.5),
    "own": (-1.0, 1.5),
    "offset": (-2.0, 1.0),
    "walk": (-1.0, 1.0),
    "noise": (-5.0, 2.0),
    "time": (-1.0, 0.7),
}
"""Location and scale of the normal density of each logarithm. "time" is the lengthscale of d, the
others are variances in units of the finals' spread."""
ETA_PRIOR: Final = (0.0, 0.25)


@dataclass(frozen=True)
class Rows:
    """Points of curves."""

    features: FloatArray
    """`r x f`."""
    progress: FloatArray
    """`r`, from 0 to 1."""
    trials: IntArray
    """Whose, `r`; `NEW_TRIAL` for one that has not begun."""

    def __len__(self) -> int:
        return len(self.trials)

    def subset(self, rows: IntArray) -> Rows:
        """Return some of the points."""
        return Rows(self.features[rows], self.progress[rows], self.trials[rows])


@dataclass(frozen=True)
class CurveHyperparameters:
    """What is fitted of the kernel."""

    lengthscales: FloatArray
    """One per group of feature columns; f and d have the same."""
    final: float
    """Variance of f."""
    common: float
    """Variance of the part of d that all trials share."""
    own: float
    """Variance of the part of d that depends on the parameters."""
    offset: float
    """Variance of a trial's offset."""
    walk: float
    """Variance of a trial's random walk over the whole training."""
    noise: float
    """Variance of one report."""
    time: float
    """Lengthscale of d."""
    eta: float

    @classmethod
    def from_vector(cls, theta: FloatArray) -> CurveHyperparameters:
        """Return the hyperparameters of a point of the search."""
        count = len(NAMES) + 1
        named = dict(zip(NAMES, np.exp(theta[-count:-1]).tolist(), strict=True))
        return cls(np.exp(theta[:-count]), eta=float(theta[-1]), **named)

    def to_vector(self) -> FloatArray:
        """Return logarithms of the positive ones, then eta."""
        positive = [*self.lengthscales, *(getattr(self, name) for name in NAMES)]
        return np.array([*np.log(positive), self.eta])


def prior_of(dimension: int) -> tuple[FloatArray, FloatArray]:
    """Return location and scale of the vector's prior for `dimension` lengthscales."""
    location, scale = lengthscale_prior(dimension)
    named = [PRIORS[name] for name in NAMES]
    locations = [*[location] * dimension, *(p[0] for p in named), ETA_PRIOR[0]]
    scales = [*[scale] * dimension, *(p[1] for p in named), ETA_PRIOR[1]]
    return np.array(locations), np.array(scales)


def prior_mode_of(dimension: int) -> CurveHyperparameters:
    """Return the hyperparameters before any data."""
    location, scale = prior_of(dimension)
    mode = location.copy()
    # The lengthscales' density is that of themselves, as in the sampler's model.
    mode[:dimension] -= scale[:dimension] ** 2
    return CurveHyperparameters.from_vector(mode)


def covariance(
    theta: CurveHyperparameters, groups: IntArray, left: Rows, right: Rows
) -> FloatArray:
    """Return prior covariances without noise, `r x s`."""
    scaling = 1.0 / theta.lengthscales[groups]
    by_features, _ = matern52(squared_distances(left.features * scaling, right.features * scaling))
    between = (left.progress[:, None] - right.progress) ** 2 / theta.time**2
    by_time, _ = matern52(between)
    strength = sensitivity(theta, left.progress)[:, None] * sensitivity(theta, right.progress)
    walk = 1.0 - np.maximum(left.progress[:, None], right.progress)
    shared = theta.final * by_features * strength
    shared += (theta.common + theta.own * by_features) * by_time
    return shared + same_trial(left, right) * (theta.offset * strength + theta.walk * walk)


def prior_variance(theta: CurveHyperparameters, progress: FloatArray) -> FloatArray:
    """Return prior variances without noise, `r`."""
    strength = sensitivity(theta, progress) ** 2
    return np.asarray(
        (theta.final + theta.offset) * strength
        + theta.common
        + theta.own
        + theta.walk * (1.0 - progress)
    )


def sensitivity(theta: CurveHyperparameters, progress: FloatArray) -> FloatArray:
    """Return h at each point of time, `r`."""
    return np.asarray(np.exp(theta.eta * (progress - 1.0)))


def same_trial(left: Rows, right: Rows) -> BoolArray:
    """Return which rows are of one trial, `r x s`."""
    return np.asarray((left.trials[:, None] == right.trials) & (left.trials[:, None] != NEW_TRIAL))


LOG_2PI: Final = math.log(2.0 * math.pi)
