"""The maximum a posteriori hyperparameters of the model of curves, by an explicit gradient."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from scipy.linalg import LinAlgError, lapack
from scipy.optimize import minimize

from studyflow.samplers.arrays import FloatArray, IntArray
from studyflow.samplers.curves.kernel import (
    LOG_2PI,
    NAMES,
    CurveHyperparameters,
    Rows,
    prior_mode_of,
    prior_of,
    same_trial,
)
from studyflow.samplers.models.kernel import cholesky, matern52, squared_distances

MAX_FIT_ROWS: Final = 240
"""Hyperparameters are learnt from at most this many points of curves."""
MAX_FIT_ITERATIONS: Final = 40
_HOPELESS: Final = 1e10


class CurveLogPosterior:
    """Log likelihood plus log prior of the hyperparameters' vector.

    The constant mean is profiled out, as in the sampler's model.

    Args:
        rows: Where, `n`.
        targets: What was reported there, `n`.
        groups: For each feature column the index of its lengthscale.
    """

    def __init__(self, rows: Rows, targets: FloatArray, groups: IntArray) -> None:
        self._targets = targets
        self._distances = [
            squared_distances(rows.features[:, groups == g], rows.features[:, groups == g])
            for g in range(int(groups.max()) + 1)
        ]
        u = rows.progress
        self._between = (u[:, None] - u) ** 2
        self._remaining = 2.0 - u[:, None] - u
        self._same = same_trial(rows, rows).astype(np.float64)
        self._walk = self._same * (1.0 - np.maximum(u[:, None], u))
        self._location, self._scale = prior_of(len(self._distances))
        self.size = len(self._location)

    def __call__(self, vector: FloatArray) -> tuple[float, FloatArray]:
        """Return the value, not divided by `n`, and its gradient.

        Raises:
            LinAlgError: The matrix cannot be factored.
        """
        theta = CurveHyperparameters.from_vector(vector)
        n, dimension = len(self._targets), len(self._distances)
        inverse_squares = theta.lengthscales**-2.0
        scaled = np.zeros((n, n))
        for weight, distance in zip(inverse_squares, self._distances, strict=True):
            scaled += weight * distance
        by_features, slope = matern52(scaled)
        between = self._between / theta.time**2
        by_time, time_slope = matern52(between)
        strength = np.exp(-theta.eta * self._remaining)
        curve_part = theta.common + theta.own * by_features
        final_part = (theta.final * by_features + theta.offset * self._same) * strength
        kernel = final_part + curve_part * by_time + theta.walk * self._walk
        kernel[np.diag_indices(n)] += theta.noise

        factor = cholesky(kernel)
        inverse, _ = lapack.dpotri(factor, lower=1)
        inverse = np.tril(inverse)
        inverse += np.tril(inverse, -1).T
        row_sums = inverse.sum(axis=1)
        residual = self._targets - float(row_sums @ self._targets / row_sums.sum())
        weights = inverse @ residual
        value = -0.5 * float(residual @ weights) - float(np.log(np.diag(factor)).sum())
        value -= 0.5 * n * LOG_2PI
        by_kernel = 0.5 * (np.outer(weights, weights) - inverse)

        by_distance = by_kernel * (theta.final * strength + theta.own * by_time) * slope
        gradient = np.empty(self.size)
        for g, distance in enumerate(self._distances):
            gradient[g] = -2.0 * inverse_squares[g] * float((by_distance * distance).sum())
        parts = {
            "final": theta.final * float((by_kernel * by_features * strength).sum()),
            "common": theta.common * float((by_kernel * by_time).sum()),
            "own": theta.own * float((by_kernel * by_features * by_time).sum()),
            "offset": theta.offset * float((by_kernel * self._same * strength).sum()),
            "walk": theta.walk * float((by_kernel * self._walk).sum()),
            "noise": theta.noise * float(np.trace(by_kernel)),
            "time": -2.0 * float((by_kernel * curve_part * time_slope * between).sum()),
        }
        gradient[dimension:-1] = [parts[name] for name in NAMES]
        gradient[-1] = -float((by_kernel * final_part * self._remaining).sum())

        deviation = (vector - self._location) / self._scale
        value -= 0.5 * float((deviation**2).sum()) + float(vector[:dimension].sum())
        gradient -= deviation / self._scale
        gradient[:dimension] -= 1.0
        return value, gradient


def fit_curves(
    rows: Rows, targets: FloatArray, groups: IntArray, *, start: CurveHyperparameters | None = None
) -> CurveHyperparameters:
    """Return the hyperparameters of highest posterior density that the search meets.

    Never fails: data that give no finite density leave the prior's mode.

    Args:
        rows: Where, `n >= 1`; of more than `MAX_FIT_ROWS` some curves are left out.
        targets: What was reported there, `n`.
        groups: For each feature column the index of its lengthscale.
        start: Where the search begins; `None` for the prior's mode.
    """
    chosen = representative_rows(rows, MAX_FIT_ROWS)
    objective = CurveLogPosterior(rows.subset(chosen), targets[chosen], groups)
    location, scale = prior_of(int(groups.max()) + 1)
    bounds = np.stack([location - 4.0 * scale, location + 3.0 * scale], axis=1)
    first = (start or prior_mode_of(int(groups.max()) + 1)).to_vector()
    best_value, best = -math.inf, first

    def loss(vector: FloatArray) -> tuple[float, FloatArray]:
        nonlocal best_value, best
        try:
            value, gradient = objective(vector)
        except LinAlgError:
            return _HOPELESS, np.zeros_like(vector)
        if not (math.isfinite(value) and np.isfinite(gradient).all()):
            return _HOPELESS, np.zeros_like(vector)
        if value > best_value:
            best_value, best = value, vector.copy()
        return -value, -gradient

    minimize(
        loss,
        np.clip(first, bounds[:, 0], bounds[:, 1]),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": MAX_FIT_ITERATIONS, "ftol": 1e-6},
    )
    return CurveHyperparameters.from_vector(best)


def representative_rows(rows: Rows, limit: int) -> IntArray:
    """Return the rows of whole curves, about half of them the longest, at most `limit`.

    The longest alone would be those that were thought best, and teach that curves end well.
    """
    if len(rows) <= limit:
        return np.arange(len(rows))
    trials, counts = np.unique(rows.trials, return_counts=True)
    longest = trials[np.argsort(-counts, kind="stable")]
    spread = np.random.default_rng(0).permutation(trials)
    order = dict.fromkeys(np.stack([longest, spread], axis=1).reshape(-1).tolist())
    chosen: list[int] = []
    for trial in order:
        mine = np.flatnonzero(rows.trials == trial)
        if len(chosen) + len(mine) > limit:
            break
        chosen.extend(mine.tolist())
    return np.sort(np.array(chosen, dtype=np.int64))
