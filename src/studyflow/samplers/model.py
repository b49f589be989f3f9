"""The Gaussian process: BoTorch's `SingleTaskGP` with a Matern-5/2 kernel, fitted in closed form.

One model, two implementations. `as_botorch` gives the model as BoTorch knows it, to be used with
any of its acquisition functions. `fit` finds the same model's maximum a posteriori hyperparameters
with an explicit gradient, because at the sizes of hyperparameter tuning (tens to hundreds of
points) building and differentiating gpytorch's lazy graph costs 20 to 30 times more than the linear
algebra in it. Tests hold both equal: log likelihood, gradient, posterior.

The model, on inputs in the unit cube and standardised outputs:

* constant mean, at its generalised least squares value;
* Matern-5/2 with one lengthscale per parameter, shared by the columns of a one-hot category
  (Matern rather than RBF after Hvarfner et al., arXiv 2402.02229, and Xu et al., 2402.02746);
* lengthscales with a LogNormal prior whose mode exp(sqrt(2) + log(d)/2 - 3) is that of the
  dimension-scaled prior of 2402.02229, but which is narrower the more parameters there are (see
  `lengthscale_prior`), outputscale LogNormal(0, 0.5), noise variance LogNormal(1, 3), the mode of
  which is exp(-8).

Densities are those of the parameters themselves, as in gpytorch, though the search is over their
logarithms: the maximum is that of the density over the lengthscale, at its mode for want of data.
Taking the density over the logarithm instead drags lengthscales to the much larger prior median.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from scipy.linalg import LinAlgError, lapack, solve_triangular
from scipy.optimize import minimize

from studyflow.samplers.deadline import NEVER, Deadline
from studyflow.samplers.encoding import FloatArray, IntArray

if TYPE_CHECKING:
    from botorch.models import SingleTaskGP

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
JITTERS: Final = (0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)

Structure = Literal["ard", "isotropic", "prior"]
"""What is fitted: one lengthscale per parameter, one for all, or nothing (the prior's mode)."""

_SQRT5: Final = math.sqrt(5.0)
_HOPELESS: Final = 1e10


@dataclass(frozen=True)
class TrainingData:
    """Finished points as the model sees them.

    Args:
        features: `n x f`.
        targets: Standardised, larger is better, `n`.
        groups: For each feature column the index of its lengthscale, `f`.
        noise_factors: How many times the model's noise variance each point has, `n`: 1 for a
            measurement, 1/k for the mean of k repeats, more for an imputed value.
    """

    features: FloatArray
    targets: FloatArray
    groups: IntArray
    noise_factors: FloatArray

    @property
    def dimension(self) -> int:
        """Number of lengthscales."""
        return int(self.groups.max()) + 1

    def subset(self, rows: IntArray) -> TrainingData:
        """Return the data of some of the points."""
        return replace(
            self,
            features=self.features[rows],
            targets=self.targets[rows],
            noise_factors=self.noise_factors[rows],
        )


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
    by chance, predicts too surely, and settles too early. docs/sampler.md has the measurement.
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


def merge_repeats(data: TrainingData, *, tolerance: float = 1e-6) -> tuple[TrainingData, IntArray]:
    """Return the data with points in one cell of width `tolerance` averaged into one.

    Repeats make the kernel matrix singular and tell the model only about noise, which their weight
    in `noise_factors` preserves: precisions add.

    Returns:
        The merged data, `k <= n` points in order of first appearance, and for each of the `n`
        points the row it went to.
    """
    cells = np.round(data.features / tolerance).astype(np.int64)
    _, first, inverse = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    if len(first) == len(cells):
        return data, np.arange(len(cells))
    inverse = inverse.reshape(-1)
    precision = 1.0 / data.noise_factors
    total = np.bincount(inverse, weights=precision)
    mean = np.bincount(inverse, weights=precision * data.targets) / total
    order = np.argsort(first)
    merged = TrainingData(data.features[first[order]], mean[order], data.groups, 1.0 / total[order])
    return merged, np.argsort(order)[inverse]


def squared_distances(left: FloatArray, right: FloatArray) -> FloatArray:
    """Return squared Euclidean distances, `n x m`, never negative."""
    cross = left @ right.T
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2.0 * cross
    return np.asarray(np.maximum(squares, 0.0))


def matern52(squared: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the Matern-5/2 correlation and its derivative by the squared scaled distance."""
    scaled = _SQRT5 * np.sqrt(squared)
    decay = np.exp(-scaled)
    return (1.0 + scaled + scaled**2 / 3.0) * decay, (-5.0 / 6.0) * (1.0 + scaled) * decay


def cholesky(matrix: FloatArray) -> FloatArray:
    """Return the lower Cholesky factor, with as little jitter on the diagonal as succeeds.

    Raises:
        LinAlgError: Not even the largest jitter helps: the matrix holds a NaN.
    """
    scale = float(np.mean(np.diag(matrix)))
    for jitter in JITTERS:
        trial = matrix if jitter == 0.0 else matrix + jitter * scale * np.eye(len(matrix))
        factor, failed = lapack.dpotrf(trial, lower=1, clean=1)
        if not failed and np.isfinite(factor[-1, -1]):
            return np.asarray(factor)
    raise LinAlgError("The kernel matrix is not positive definite even with jitter 1e-2.")


@dataclass(frozen=True)
class GaussianProcess:
    """A fitted model: data, hyperparameters and the factored kernel matrix."""

    data: TrainingData
    hyperparameters: Hyperparameters

    @cached_property
    def scaling(self) -> FloatArray:
        """Inverse lengthscale of each feature column, `f`."""
        return 1.0 / self.hyperparameters.lengthscales[self.data.groups]

    @cached_property
    def factor(self) -> FloatArray:
        """Lower Cholesky factor of kernel plus noise at the finished points, `n x n`."""
        kernel = self.kernel(self.data.features, self.data.features)
        noise = np.maximum(self.hyperparameters.noise * self.data.noise_factors, NOISE_BOUNDS[0])
        return cholesky(kernel + np.diag(noise))

    @cached_property
    def mean(self) -> float:
        """The constant prior mean."""
        both = np.stack([self.data.targets, np.ones(len(self.data.targets))], axis=1)
        whitened = solve_triangular(self.factor, both, lower=True)
        return float(whitened[:, 0] @ whitened[:, 1] / (whitened[:, 1] @ whitened[:, 1]))

    @cached_property
    def weights(self) -> FloatArray:
        """The solution of (K + noise) w = targets - mean, `n`."""
        whitened = solve_triangular(self.factor, self.data.targets - self.mean, lower=True)
        return np.asarray(solve_triangular(self.factor, whitened, lower=True, trans=1))

    @cached_property
    def fitted(self) -> FloatArray:
        """Posterior mean at the finished points, `n`: the targets less their share of noise."""
        noise = np.maximum(self.hyperparameters.noise * self.data.noise_factors, NOISE_BOUNDS[0])
        return np.asarray(self.data.targets - noise * self.weights)

    def kernel(self, left: FloatArray, right: FloatArray) -> FloatArray:
        """Return prior covariances, `n x m`."""
        correlation, _ = matern52(squared_distances(left * self.scaling, right * self.scaling))
        return self.hyperparameters.outputscale * correlation

    def posterior(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and variance of the noise-free function at each point, both `m`."""
        cross = self.kernel(self.data.features, features)
        whitened = solve_triangular(self.factor, cross, lower=True)
        variance = self.hyperparameters.outputscale - (whitened**2).sum(axis=0)
        return self.mean + cross.T @ self.weights, np.maximum(variance, 1e-14)

    def joint_posterior(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean, `m`, and covariance, `m x m`, of the noise-free function."""
        cross = self.kernel(self.data.features, features)
        whitened = solve_triangular(self.factor, cross, lower=True)
        covariance = self.kernel(features, features) - whitened.T @ whitened
        return self.mean + cross.T @ self.weights, covariance

    def leave_one_out(self) -> tuple[FloatArray, FloatArray]:
        """Return mean and variance of each measurement as predicted from all others, both `n`.

        Closed form, hyperparameters and mean held fixed (Rasmussen and Williams 2006, eq. 5.12).
        """
        inverse, _ = lapack.dpotri(self.factor, lower=1)
        diagonal = np.diag(inverse)
        return self.data.targets - self.weights / diagonal, 1.0 / diagonal

    def as_botorch(self) -> SingleTaskGP:
        """Return the model as a BoTorch `SingleTaskGP` in evaluation mode, double precision."""
        from studyflow.samplers.torch_model import make_single_task_gp

        return make_single_task_gp(self.data, self.hyperparameters, self.mean)


def fit(
    data: TrainingData,
    *,
    structure: Structure = "ard",
    exact: bool = False,
    fit_rows: IntArray | None = None,
    noise_floor: float = NOISE_BOUNDS[0],
    deadline: Deadline = NEVER,
) -> GaussianProcess:
    """Return the model at the maximum a posteriori hyperparameters. Never fails on finite data.

    Three deterministic starts (the prior's mode; a rougher function, unless there are many points;
    a smoother one under noise), of which the best posterior density wins, whatever the optimiser
    thought of its own convergence: scipy calls a line search that hit rounding error a failure, and
    discarding such a perfectly good optimum is how GP fits "fail".

    Args:
        data: At least one point, all finite, without repeats.
        structure: How much to fit.
        exact: The objective is known to have no noise; its variance stays at the floor.
        fit_rows: The points that hyperparameters are learnt from; `None` for all.
        noise_floor: Least noise variance, if that of a measurement will not do.
        deadline: Looked at before each evaluation of the density.

    Raises:
        LinAlgError: The data hold a NaN.
        OutOfTime: The deadline passed.
    """
    noise_bounds = (noise_floor, noise_floor if exact else NOISE_BOUNDS[1])
    if structure == "prior":
        start = prior_mode(data.dimension)
        noise = noise_floor if exact else max(start.noise, noise_floor)
        return GaussianProcess(data, replace(start, noise=noise))
    learning = data if fit_rows is None else data.subset(fit_rows)
    found = _maximise(learning, structure=structure, noise_bounds=noise_bounds, deadline=deadline)
    model = GaussianProcess(learning, found)
    if not exact and found.noise > 0.8 and _explains_nothing(model):
        # The "all noise" optimum: expected improvement on a flat posterior proposes corners for
        # ever. A model that believes its data at least explores.
        found = _maximise(
            learning, structure=structure, noise_bounds=(noise_floor, 0.3), deadline=deadline
        )
        model = GaussianProcess(learning, found)
    return model if fit_rows is None else GaussianProcess(data, found)


def _explains_nothing(model: GaussianProcess) -> bool:
    mean, _ = model.leave_one_out()
    targets = model.data.targets
    return bool(((targets - mean) ** 2).sum() > ((targets - targets.mean()) ** 2).sum())


class LogPosterior:
    """The fit's objective: log likelihood plus log priors, as a function of log parameters.

    The vector is [log lengthscales..., log outputscale, log noise]. The constant mean is profiled
    out, which leaves the gradient of the other parameters as if it were fixed.
    """

    def __init__(self, data: TrainingData, *, structure: Structure = "ard") -> None:
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
        self._location, self._scale = lengthscale_prior(data.dimension)
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

        correlation, slope = matern52(inverse_squares @ self._distances)
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
            (slice(-2, -1), OUTPUTSCALE_PRIOR),
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
    noise_bounds: tuple[float, float],
    deadline: Deadline,
) -> Hyperparameters:
    objective = LogPosterior(data, structure=structure)
    count = objective.size - 2
    bounds = np.log([LENGTHSCALE_BOUNDS] * count + [OUTPUTSCALE_BOUNDS, noise_bounds])

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
