"""The Gaussian process: BoTorch's `SingleTaskGP` with a Matern-5/2 kernel, in closed form.

One model, two implementations. `torch_model.as_botorch` returns the model as BoTorch knows it, to
be used with any of its acquisition functions. `fitting.fit` finds the same model's maximum a
posteriori hyperparameters with an explicit gradient, because at the sizes of hyperparameter tuning
(tens to hundreds of points) building and differentiating gpytorch's lazy graph costs 20 to 30 times
more than the linear algebra in it. Tests hold both equal: log likelihood, gradient, posterior.

The model, on inputs in the unit cube and standardised outputs:

* constant mean, at its generalised least squares value;
* Matern-5/2, unless another `KernelFamily` is given, with one lengthscale per parameter, shared by
  the columns of a one-hot category
  (Matern rather than RBF after Hvarfner et al., arXiv 2402.02229, and Xu et al., 2402.02746);
* hyperparameters with the priors of `hyperparameters`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from scipy.linalg import lapack, solve_triangular

from studyflow.samplers.arrays import FloatArray, IntArray
from studyflow.samplers.memory import Kept, content_key
from studyflow.samplers.models.hyperparameters import NOISE_BOUNDS, Hyperparameters
from studyflow.samplers.models.kernel import cholesky, extend_cholesky, squared_distances
from studyflow.samplers.models.kernel_family import MATERN, KernelFamily


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


@dataclass(frozen=True)
class GaussianProcess:
    """A fitted model: data, hyperparameters and the factored kernel matrix."""

    data: TrainingData
    hyperparameters: Hyperparameters
    n_base: int = 0
    """The first so many points stay the same while others are added: their part of the factor is
    computed once and kept. 0 factors all of it at once."""
    factors: Kept[FloatArray] | None = field(default=None, compare=False, repr=False)
    """Where that part is kept; `None` keeps nothing."""
    family: KernelFamily = MATERN

    @cached_property
    def scaling(self) -> FloatArray:
        """Inverse lengthscale of each feature column, `f`."""
        return 1.0 / self.hyperparameters.lengthscales[self.data.groups]

    @cached_property
    def factor(self) -> FloatArray:
        """Lower Cholesky factor of kernel plus noise at the finished points, `n x n`."""
        noise = np.maximum(self.hyperparameters.noise * self.data.noise_factors, NOISE_BOUNDS[0])
        points, n_base = self.data.features, self.n_base
        if not n_base:
            return cholesky(self.kernel(points, points) + np.diag(noise))
        first, rest = points[:n_base], points[n_base:]

        def factor_base() -> FloatArray:
            return cholesky(self.kernel(first, first) + np.diag(noise[:n_base]))

        theta = self.hyperparameters
        key = content_key(
            self.family.name,
            first,
            noise[:n_base],
            self.data.groups,
            theta.lengthscales,
            theta.outputscale,
        )
        base = factor_base() if self.factors is None else self.factors.get(key, factor_base)
        if not len(rest):
            return base
        corner = self.kernel(rest, rest) + np.diag(noise[n_base:])
        return extend_cholesky(base, self.kernel(first, rest), corner)

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
        squared = squared_distances(left * self.scaling, right * self.scaling)
        correlation, _ = self.family.correlation(squared)
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
