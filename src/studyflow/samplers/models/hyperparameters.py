"""What is fitted of the Gaussian process: bounds, priors, and where they are largest.

* Lengthscales: LogNormal. Its mode exp(sqrt(2) + log(d)/2 - 3) is that of the dimension-scaled
  prior of arXiv 2402.02229; its variance falls with the number of parameters, `d` (see
  `lengthscale_prior`).
* Outputscale: LogNormal(0, 0.5).
* Noise variance: LogNormal(1, 3), the mode of which is exp(-8).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from studyflow.samplers.arrays import FloatArray

LENGTHSCALE_BOUNDS: Final = (0.02, 50.0)
OUTPUTSCALE_BOUNDS: Final = (0.05, 20.0)
NOISE_BOUNDS: Final = (1e-6, 2.0)
"""Floor: a deviation of a thousandth of the outputs' spread. It keeps the kernel matrix well
conditioned and lets an exact objective be resolved to a thousandth, unlike BoTorch's own 1e-4."""

OUTPUTSCALE_PRIOR: Final = (0.0, 0.5)
NOISE_PRIOR: Final = (1.0, 3.0)
"""In logarithms, over which the fit searches, a normal about -8 of deviation 3: an exact objective
and one that is half noise both lie within two and a half deviations, and the data decide. A
narrower one keeps the noise at its mode where it is large, or invents some where there is none."""


@dataclass(frozen=True)
class Hyperparameters:
    """The kernel's and the likelihood's parameters, on the model's scale."""

    lengthscales: FloatArray
    outputscale: float
    noise: float
    """Variance of one measurement."""


def lengthscale_prior(dimension: int) -> tuple[float, float]:
    """Return location and scale of the lengthscales' LogNormal prior for `dimension` parameters.

    Up to two parameters it is LogNormal(sqrt(2) + log(d)/2, sqrt(3)) (arXiv 2402.02229). Beyond,
    the mode stays that prior's and the variance falls to 1 + 8/d^2: ten or twenty points do not
    decide a dozen lengthscales, and under a wide prior the fit declares most parameters irrelevant
    by chance, predicts too surely, and settles too early. docs/sampler-comparison.md has
    the measurement.
    """
    mode = math.sqrt(2.0) + 0.5 * math.log(max(dimension, 1)) - 3.0
    variance = 1.0 + 8.0 / max(dimension, 2) ** 2
    return mode + variance, math.sqrt(variance)


def prior_mode(dimension: int) -> Hyperparameters:
    """Return the hyperparameters before any data."""
    location, scale = lengthscale_prior(dimension)
    return Hyperparameters(
        np.full(dimension, math.exp(location - scale**2)),
        math.exp(OUTPUTSCALE_PRIOR[0] - OUTPUTSCALE_PRIOR[1] ** 2),
        math.exp(NOISE_PRIOR[0] - NOISE_PRIOR[1] ** 2) + NOISE_BOUNDS[0],
    )
