"""Expected improvement: how much better than the best a normal prediction may turn out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import erfcx, log_ndtr

from studyflow.samplers.arrays import FloatArray

_LOG_SQRT_2PI: Final = 0.5 * math.log(2.0 * math.pi)


def log_h(u: FloatArray) -> FloatArray:
    """Return log(phi(u) + u Phi(u)), the log of expected improvement in units of the deviation.

    Accurate to double precision over the whole line; the plain formula underflows and cancels below
    -8 or so. Section 3 of Ament et al. (arXiv 2310.20708).
    """
    u = np.asarray(u, dtype=np.float64)
    result = np.empty_like(u)
    near, far = u > -1.0, u < -1e7
    between = ~(near | far)
    x = u[near]
    result[near] = np.log(np.exp(-0.5 * x**2 - _LOG_SQRT_2PI) + x * np.exp(log_ndtr(x)))
    x = u[between]
    # phi(u) (1 - |u| Mills ratio), the ratio by erfcx, which does not underflow.
    ratio = math.sqrt(math.pi / 2.0) * erfcx(-x / math.sqrt(2.0)) * np.abs(x)
    series = x < -1e3
    # 1 - ratio loses digits as 1/u^2; its asymptotic series is exact to 1e-15 from -1000 on.
    tail = np.where(series, (1.0 - 3.0 / x**2) / x**2, 1.0 - ratio)
    result[between] = -0.5 * x**2 - _LOG_SQRT_2PI + np.log(tail)
    x = u[far]
    result[far] = -0.5 * x**2 - _LOG_SQRT_2PI - 2.0 * np.log(np.abs(x))
    return result


@dataclass(frozen=True)
class Improvement:
    """What a prediction promised over the best value known."""

    chance: float
    """Probability of being better, from 0 to 1."""
    expected: float
    """Expected improvement in the objective's own units, 0 or more: the gain where there is one,
    times its chance."""


def improvement_over(best: float, *, mean: float, sd: float, maximize: bool) -> Improvement:
    """Return what a normal prediction promises over a value.

    Args:
        best: The value to be improved on.
        mean: The prediction, in the same units.
        sd: Its standard deviation, more than 0.
        maximize: Larger values are better.
    """
    lead = np.array([(mean - best if maximize else best - mean) / sd])
    return Improvement(
        chance=float(np.exp(log_ndtr(lead))[0]), expected=float(sd * np.exp(log_h(lead))[0])
    )
