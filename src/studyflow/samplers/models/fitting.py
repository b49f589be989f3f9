"""The maximum a posteriori hyperparameters of the model, by an explicit gradient.

Densities are those of the parameters themselves, as in gpytorch, though the search is over their
logarithms: the maximum is that of the density over the lengthscale, which without data is its mode.
Taking the density over the logarithm instead drags lengthscales to the much larger prior median.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final, Literal

import numpy as np
from scipy.linalg import LinAlgError, lapack
from scipy.optimize import minimize

from studyflow.samplers.arrays import FloatArray, IntArray
from studyflow.samplers.deadline import NEVER, Deadline
from studyflow.samplers.memory import Kept, content_key
from studyflow.samplers.models.gaussian_process import GaussianProcess, TrainingData
from studyflow.samplers.models.hyperparameters import (
    LENGTHSCALE_BOUNDS,
    NOISE_BOUNDS,
    NOISE_PRIOR,
    Hyperparameters,
    prior_mode,
)
from studyflow.samplers.models.kernel import cholesky, squared_distances
from studyflow.samplers.models.kernel_family import MATERN, KernelFamily

MAX_FIT_POINTS: Final = 300
"""Hyperparameters are learnt from at most this many points; a fit costs O(n^3) some 50 times."""

MAX_FIT_ITERATIONS: Final = 50
SCOUT_ITERATIONS: Final = 10
"""Iterations from each start before the best one goes on alone."""

PLAIN_START: Final = (1.0, 1e-2)
ROUGH_START: Final = (0.3, 1e-4)
NOISY_START: Final = (1.5, 0.3)
"""Where a fit starts: lengthscales in units of the prior's mode, and the noise. From a rough
function without noise no path leads to a smooth one under much noise, and both explain few points
about as well."""

MANY_POINTS: Final = 150
"""Above this many the rough start is left out: it costs as much as the others and decides less."""

Structure = Literal["ard", "isotropic", "prior"]
"""What is fitted: one lengthscale per parameter, one for all, or nothing (the prior's mode)."""

_HOPELESS: Final = 1e10


def fit(
    data: TrainingData,
    *,
    structure: Structure = "ard",
    family: KernelFamily = MATERN,
    exact: bool = False,
    fit_rows: IntArray | None = None,
    noise_floor: float = NOISE_BOUNDS[0],
    deadline: Deadline = NEVER,
    fits: Kept[Any] | None = None,
) -> GaussianProcess:
    """Return the model at the maximum a posteriori hyperparameters. Never fails on finite data.

    Three deterministic starts (the prior's mode; a rougher function, unless there are many points;
    a smoother one under noise), of which the best posterior density wins, whatever the optimiser
    thought of its own convergence: scipy calls a line search that hit rounding error a failure, and
    discarding such a perfectly good optimum is how GP fits "fail".

    Args:
        data: At least one point, all finite, without repeats.
        structure: How much to fit.
        family: The kernel, and the priors of its parameters.
        exact: The objective is known to have no noise; its variance stays at the floor.
        fit_rows: The points that hyperparameters are learnt from; `None` for all.
        noise_floor: Least noise variance, if that of a measurement will not do.
        deadline: Checked before each evaluation of the density.
        fits: Where hyperparameters are kept: equal data are fitted once. `None` keeps nothing.

    Raises:
        LinAlgError: The data hold a NaN.
        OutOfTime: The deadline passed.
    """
    noise_bounds = (noise_floor, noise_floor if exact else NOISE_BOUNDS[1])
    if structure == "prior":
        start = prior_mode(data.dimension)
        noise = noise_floor if exact else max(start.noise, noise_floor)
        return GaussianProcess(data, replace(start, noise=noise), family=family)
    learning = data if fit_rows is None else data.subset(fit_rows)

    def learn() -> Hyperparameters:
        found = _maximise(
            learning,
            structure=structure,
            family=family,
            noise_bounds=noise_bounds,
            deadline=deadline,
        )
        model = GaussianProcess(learning, found, family=family)
        if exact or found.noise <= 0.8 or not _explains_nothing(model):
            return found
        # The "all noise" optimum: expected improvement on a flat posterior proposes corners for
        # ever. A model that trusts its data at least explores.
        return _maximise(
            learning,
            structure=structure,
            family=family,
            noise_bounds=(noise_floor, 0.3),
            deadline=deadline,
        )

    if fits is None:
        return GaussianProcess(data, learn(), family=family)
    key = content_key(
        learning.features,
        learning.targets,
        learning.groups,
        learning.noise_factors,
        structure,
        family.name,
        noise_bounds,
    )
    return GaussianProcess(data, fits.get(key, learn), family=family)


def _explains_nothing(model: GaussianProcess) -> bool:
    mean, _ = model.leave_one_out()
    targets = model.data.targets
    return bool(((targets - mean) ** 2).sum() > ((targets - targets.mean()) ** 2).sum())


class LogPosterior:
    """The fit's objective: log likelihood plus log priors, as a function of log parameters.

    The vector is [log lengthscales..., log outputscale, log noise]. The constant mean is profiled
    out, which leaves the gradient of the other parameters as if it were fixed.
    """

    def __init__(
        self, data: TrainingData, *, structure: Structure = "ard", family: KernelFamily = MATERN
    ) -> None:
        groups = data.groups if structure == "ard" else np.zeros_like(data.groups)
        count = int(groups.max()) + 1
        n = len(data.targets)
        self._data = data
        # Each pair once: G x n(n-1)/2, so that both the distances and their gradient are one
        # matrix-vector product, and the kernel's exponential is taken half as often.
        self._pairs = np.tril_indices(n, -1)
        self._distances = np.empty((count, len(self._pairs[0])))
        for group in range(count):
            columns = data.features[:, groups == group]
            self._distances[group] = squared_distances(columns, columns)[self._pairs]
        self._location, self._scale = family.lengthscale_prior(data.dimension)
        self._family = family
        self.size = count + 2

    def __call__(self, theta: FloatArray) -> tuple[float, FloatArray]:
        """Return the value, not divided by `n`, and its gradient by the logarithms.

        Raises:
            LinAlgError: The kernel matrix cannot be factored.
        """
        data, n = self._data, len(self._data.targets)
        log_lengthscales, log_outputscale, log_noise = theta[:-2], theta[-2], theta[-1]
        outputscale, noise = math.exp(log_outputscale), math.exp(log_noise)
        inverse_squares = np.exp(-2.0 * log_lengthscales)

        correlation, slope = self._family.correlation(inverse_squares @ self._distances)
        noises = noise * data.noise_factors
        # Only the lower triangle is filled and used.
        kernel = np.zeros((n, n))
        kernel[self._pairs] = outputscale * correlation
        kernel[np.diag_indices(n)] = outputscale + noises
        factor = cholesky(kernel)
        inverse, _ = lapack.dpotri(factor, lower=1)
        inverse = np.tril(inverse)
        inverse += np.tril(inverse, -1).T
        row_sums = inverse.sum(axis=1)
        mean = float(row_sums @ data.targets / row_sums.sum())
        residual = data.targets - mean
        weights = inverse @ residual

        value = -0.5 * float(residual @ weights) - float(np.log(np.diag(factor)).sum())
        value -= 0.5 * n * math.log(2.0 * math.pi)
        # d value / d K = (w w' - K^-1) / 2, each pair standing for two entries
        rows, columns = self._pairs
        by_pair = weights[rows] * weights[columns] - inverse[self._pairs]
        by_diagonal = 0.5 * (weights**2 - np.diag(inverse))
        gradient = np.empty(self.size)
        by_distance = self._distances @ (outputscale * by_pair * slope)
        gradient[:-2] = -2.0 * inverse_squares * by_distance
        gradient[-2] = outputscale * float(by_pair @ correlation + by_diagonal.sum())
        gradient[-1] = float(by_diagonal @ noises)

        for part, (location, scale) in (
            (slice(0, -2), (self._location, self._scale)),
            (slice(-2, -1), self._family.outputscale_prior),
            (slice(-1, None), NOISE_PRIOR),
        ):
            deviation = (theta[part] - location) / scale
            constant = math.log(scale) + 0.5 * math.log(2.0 * math.pi)
            value -= float((0.5 * deviation**2 + theta[part] + constant).sum())
            gradient[part] -= deviation / scale + 1.0
        return value, gradient


def _maximise(
    data: TrainingData,
    *,
    structure: Structure,
    family: KernelFamily,
    noise_bounds: tuple[float, float],
    deadline: Deadline,
) -> Hyperparameters:
    objective = LogPosterior(data, structure=structure, family=family)
    count = objective.size - 2
    scales = [LENGTHSCALE_BOUNDS] * count
    bounds = np.log([*scales, family.outputscale_bounds, noise_bounds])

    best_value, best = -math.inf, np.zeros(objective.size)
    last_gradient = np.zeros(objective.size)

    def loss(theta: FloatArray) -> tuple[float, FloatArray]:
        nonlocal best_value, best, last_gradient
        deadline.check()
        try:
            value, gradient = objective(theta)
        except LinAlgError:
            value, gradient = -math.inf, last_gradient
        if not (math.isfinite(value) and np.isfinite(gradient).all()):
            return _HOPELESS, -last_gradient
        if value > best_value:
            best_value, best = value, theta.copy()
        last_gradient = gradient
        return -value, -gradient

    def climb(start: FloatArray, iterations: int) -> FloatArray:
        result = minimize(
            loss,
            np.clip(start, bounds[:, 0], bounds[:, 1]),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": iterations, "ftol": 1e-6, "gtol": 1e-3},
        )
        return np.asarray(result.x)

    mode = prior_mode(data.dimension)
    starts = [PLAIN_START, NOISY_START]
    if len(data.targets) <= MANY_POINTS:
        starts.append(ROUGH_START)
    # All starts lead to the same optimum as a rule; the worse ones are given up early.
    for stretch, noise in starts:
        start = [*(mode.lengthscales[:count] * stretch), mode.outputscale, noise]
        climb(np.log(start), SCOUT_ITERATIONS)
    if math.isfinite(best_value):
        climb(best, MAX_FIT_ITERATIONS)
    if not math.isfinite(best_value):
        raise LinAlgError("No hyperparameters give the finished points a finite likelihood.")
    lengthscales = np.exp(best[:-2])
    if structure == "isotropic":
        lengthscales = np.full(data.dimension, lengthscales[0])
    return Hyperparameters(lengthscales, math.exp(best[-2]), math.exp(best[-1]))
