"""What a candidate is worth: log expected improvement, pending points, feasibility.

All acquisition functions share one protocol over features (`b x f` to `b`), so that the search does
not know which one it maximises. For one objective they are closed-form in NumPy; for several they
are BoTorch's, differentiated by autograd.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from scipy.linalg import blas, lapack, solve_triangular
from scipy.special import erfcx, log_ndtr, ndtri

from studyflow.samplers.deadline import NEVER, Deadline
from studyflow.samplers.encoding import FloatArray, IntArray
from studyflow.samplers.model import (
    NOISE_BOUNDS,
    GaussianProcess,
    cholesky,
    matern52,
    squared_distances,
)
from studyflow.samplers.sobol import sobol

if TYPE_CHECKING:
    from botorch.acquisition.acquisition import AcquisitionFunction

N_FANTASIES: Final = 32
"""Joint draws of what is not known yet: what pending points may return, which true values the best
points have."""
N_INCUMBENTS: Final = 32
"""Finished points that may be the best one under a draw."""

_TRIANGULAR_FROM: Final = 150
"""Points from which a triangular product, of half the operations, is faster than a plain one."""
_LOG_SQRT_2PI: Final = 0.5 * math.log(2.0 * math.pi)
_MIN_VARIANCE: Final = 1e-14


class Acquisition(Protocol):
    """What a search maximises."""

    name: str

    def value(self, features: FloatArray) -> FloatArray:
        """Return the value of each point, `b`, for features `b x f`."""
        ...

    def value_and_gradient(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return values, `b`, and their gradients by the features, `b x f`."""
        ...


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
class Feasibility:
    """The log probability that a modelled quantity stays at or below a bound.

    Serves measured constraints, and the risk that a trial fails through its parameters (the model
    of which is fitted to +1 for failure and -1 for success, with bound 0).
    """

    model: GaussianProcess
    bound: float

    def value_and_gradient(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return log probabilities, `b`, and their gradients, `b x f`."""
        predictor = _Predictor(self.model, self.model.data.features, self.model.factor)
        cross = predictor.cross(features)
        mean = self.model.mean + cross.covariance @ self.model.weights
        variance, solved = predictor.variance(cross)
        deviation = np.sqrt(variance)
        z = (self.bound - mean) / deviation
        log_probability = log_ndtr(z)
        hazard = np.exp(-0.5 * z**2 - _LOG_SQRT_2PI - log_probability)
        by_mean = -hazard / deviation
        by_deviation = -hazard * z / deviation
        by_covariance = by_mean[:, None] * self.model.weights - (
            (by_deviation / deviation)[:, None] * solved
        )
        return log_probability, predictor.chain(cross, by_covariance)


class LogExpectedImprovement:
    """Log expected improvement averaged over what the pending points may still return.

    The pending points' values are drawn jointly from the posterior `N_FANTASIES` times (scrambled
    Sobol); each draw conditions the model and moves the incumbent, and the candidate's improvement
    is then integrated in closed form:

        a(x) = log mean_s EI(mu_s(x), sigma(x), incumbent_s) + sum log P(feasible)

    There is no Monte Carlo noise in the candidate, so the function is smooth with exact gradient.
    The incumbent is the best posterior *mean* among the best finished and the pending points, which
    noise in single measurements does not inflate. Without pending points this is BoTorch's
    `LogExpectedImprovement` with `best_f` at that incumbent.

    Under noise that is not the whole of it: near the best point the mean is as good and the model
    still unsure, so that improvement is hoped for where there is only the same value again. With
    `noisy` the draws are of the *true* values at the best finished and at the pending points, and
    each draw's best is its incumbent: noisy expected improvement (Letham et al., arXiv 1706.07094).
    As the number of draws grows this becomes BoTorch's `qLogNoisyExpectedImprovement` of one
    candidate, with those best points as `X_baseline`, integrated over the candidate in closed form.

    Args:
        model: Fitted to the finished points.
        pending: Features of points still running, `p x f`; `p` may be 0.
        eligible: Which finished points may be the incumbent (the feasible ones), `n`.
        feasibility: Probabilities the improvement is multiplied with.
        fantasy_seed: Decides the draws.
        noisy: Measurements at the best points may differ from the true values there.
    """

    name = "log-expected-improvement"

    def __init__(
        self,
        model: GaussianProcess,
        *,
        pending: FloatArray,
        eligible: Any = None,
        feasibility: Sequence[Feasibility] = (),
        fantasy_seed: int = 0,
        noisy: bool = False,
    ) -> None:
        self._feasibility = tuple(feasibility)
        self._mean = model.mean
        best = _best_rows(model, eligible)
        given = (
            with_true_values(model, best, pending, seed=fantasy_seed)
            if noisy
            else with_fantasies(model, pending, seed=fantasy_seed)
        )
        self._predictor = _Predictor(model, given.points, given.factor)
        whitened = solve_triangular(given.factor, given.targets - self._mean, lower=True)
        self._weights = np.asarray(solve_triangular(given.factor, whitened, lower=True, trans=1))
        rivals = np.concatenate([model.data.features[best], pending])
        cross = self._predictor.cross(rivals)
        self.incumbents = (self._mean + cross.covariance @ self._weights).max(axis=0)

    def value(self, features: FloatArray) -> FloatArray:
        """Return the value of each point, `b`."""
        cross = self._predictor.cross(features)
        variance, _ = self._predictor.variance(cross, solve=False)
        value, *_ = self._improvement(cross, variance)
        for term in self._feasibility:
            value = value + term.value_and_gradient(features)[0]
        return value

    def value_and_gradient(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return values, `b`, and gradients, `b x f`."""
        cross = self._predictor.cross(features)
        variance, solved = self._predictor.variance(cross)
        deviation = np.sqrt(variance)
        value, share, u, log_ratio = self._improvement(cross, variance)
        # d log h / du = Phi / h, and d log(sigma h) / d sigma at fixed mean = phi / (sigma h)
        by_mean = share * np.exp(log_ndtr(u) - log_ratio) / deviation[:, None]
        density = np.exp(-0.5 * u**2 - _LOG_SQRT_2PI - log_ratio)
        by_deviation = (share * density).sum(axis=1) / deviation
        by_covariance = by_mean @ self._weights.T - (by_deviation / deviation)[:, None] * solved
        gradient = self._predictor.chain(cross, by_covariance)
        for term in self._feasibility:
            term_value, term_gradient = term.value_and_gradient(features)
            value, gradient = value + term_value, gradient + term_gradient
        return value, gradient

    def _improvement(
        self, cross: _Cross, variance: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return log EI, `b`, each draw's share in it, and its u and log h(u), `b x s`."""
        deviation = np.sqrt(variance)
        means = self._mean + cross.covariance @ self._weights
        u = (means - self.incumbents) / deviation[:, None]
        log_ratio = log_h(u)
        # scipy's logsumexp costs more than all the rest for arrays of this size.
        highest = log_ratio.max(axis=1, keepdims=True)
        share = np.exp(log_ratio - highest)
        total = share.sum(axis=1, keepdims=True)
        value = np.log(deviation) + highest[:, 0] + np.log(total[:, 0] / share.shape[1])
        return value, share / total, u, log_ratio


class LogFeasibility:
    """The log probability of being feasible: all there is to seek until something was.

    Pending points lower the value around them like finished ones of unknown outcome, by the share
    of the variance that they leave; otherwise all workers would ask for the same point.

    Args:
        terms: At least one.
        pending: Features of points still running, `p x f`.
    """

    name = "log-probability-of-feasibility"

    def __init__(self, terms: Sequence[Feasibility], *, pending: FloatArray) -> None:
        self._terms = tuple(terms)
        self._predictor: _Predictor | None = None
        if len(pending):
            model = self._terms[0].model
            self._predictor = _Predictor(
                model,
                np.concatenate([model.data.features, pending]),
                extend_factor(model, pending),
            )

    def value(self, features: FloatArray) -> FloatArray:
        """Return the value of each point, `b`."""
        return self.value_and_gradient(features)[0]

    def value_and_gradient(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return values, `b`, and gradients, `b x f`."""
        value = np.zeros(len(features))
        gradient = np.zeros_like(features)
        for term in self._terms:
            term_value, term_gradient = term.value_and_gradient(features)
            value, gradient = value + term_value, gradient + term_gradient
        if self._predictor is not None:
            cross = self._predictor.cross(features)
            variance, solved = self._predictor.variance(cross)
            value = value + 0.5 * np.log(variance)
            gradient = gradient + self._predictor.chain(cross, -solved / variance[:, None])
        return value, gradient


class BoTorchAcquisition:
    """Any BoTorch acquisition function for one candidate, behind this package's protocol.

    Args:
        function: Takes `b x 1 x f` and returns `b`.
        name: What the explanation calls it.
        device: Where the function's model is.
        deadline: Looked at between blocks of points.
    """

    def __init__(
        self,
        function: AcquisitionFunction,
        *,
        name: str,
        device: str = "cpu",
        deadline: Deadline = NEVER,
    ) -> None:
        self._function = function
        self.name = name
        self._device = device
        self._deadline = deadline

    def value(self, features: FloatArray) -> FloatArray:
        """Return the value of each point, `b`; after the deadline, of the first block only.

        Points that there was no time for have the value -inf.
        """
        import torch

        blocks = []
        with torch.no_grad():
            for start in range(0, len(features), 128):
                if start and self._deadline.is_over:
                    blocks.append(np.full(len(features) - start, -math.inf))
                    break
                x = torch.as_tensor(features[start : start + 128], device=self._device)
                blocks.append(self._function(x.unsqueeze(1)).cpu().numpy())
        return np.concatenate(blocks)

    def value_and_gradient(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return values, `b`, and gradients, `b x f`."""
        import torch

        x = torch.tensor(features, device=self._device, requires_grad=True)
        values = self._function(x.unsqueeze(1))
        (gradient,) = torch.autograd.grad(values.sum(), x)
        return values.detach().cpu().numpy(), gradient.cpu().numpy()


def _best_rows(model: GaussianProcess, eligible: Any) -> IntArray:
    """Return the finished points of highest posterior mean, best first, at most `N_INCUMBENTS`."""
    current = model.fitted if eligible is None else np.where(eligible, model.fitted, -math.inf)
    best = np.argsort(-current, kind="stable")[:N_INCUMBENTS]
    return best[np.isfinite(current[best])]


@dataclass(frozen=True)
class Conditioning:
    """The points that candidates are conditioned on, and what is known or supposed there."""

    points: FloatArray
    """Features, `k x f`."""
    factor: FloatArray
    """Lower Cholesky factor of their covariance, noise included, `k x k`."""
    targets: FloatArray
    """Joint draws, `k x s`; rows of measurements are constant. `s` is 1 if nothing is drawn."""


def with_fantasies(model: GaussianProcess, pending: FloatArray, *, seed: int) -> Conditioning:
    """Return the finished points as measured, and draws of the measurements still to come.

    Args:
        model: Fitted to the finished points.
        pending: Features of the running ones, `p x f`; `p` may be 0.
        seed: Decides the draws.
    """
    data = model.data
    targets = data.targets[:, None]
    if not len(pending):
        return Conditioning(data.features, model.factor, targets)
    noise = max(model.hyperparameters.noise, NOISE_BOUNDS[0])
    draws = _draw(model, pending, noise, seed=seed)
    return Conditioning(
        points=np.concatenate([data.features, pending]),
        factor=extend_factor(model, pending),
        targets=np.concatenate([np.repeat(targets, N_FANTASIES, axis=1), draws]),
    )


def with_true_values(
    model: GaussianProcess, rows: IntArray, pending: FloatArray, *, seed: int
) -> Conditioning:
    """Return the finished points with the true values of some drawn, and those of the running ones.

    Where the truth is known, a measurement says nothing more about the function elsewhere, so the
    draw takes its place; the other measurements stay, with their noise.

    Args:
        model: Fitted to the finished points.
        rows: The finished points whose true values are drawn, `k`.
        pending: Features of the running ones, whose true values are drawn too, `p x f`.
        seed: Decides the draws.
    """
    data, n = model.data, len(model.data.targets)
    drawn = np.concatenate([rows, n + np.arange(len(pending))])
    points = np.concatenate([data.features, pending])
    targets = np.zeros((len(points), N_FANTASIES))
    targets[:n] = data.targets[:, None]
    targets[drawn] = _draw(model, points[drawn], NOISE_BOUNDS[0], seed=seed)
    noise = np.zeros(len(points))
    noise[:n] = model.hyperparameters.noise * data.noise_factors
    noise[drawn] = 0.0
    covariance = model.kernel(points, points) + np.diag(np.maximum(noise, NOISE_BOUNDS[0]))
    return Conditioning(points, cholesky(covariance), targets)


def _draw(model: GaussianProcess, features: FloatArray, noise: float, *, seed: int) -> FloatArray:
    """Return joint posterior draws of the function plus noise at `m` points, `m x N_FANTASIES`."""
    mean, covariance = model.joint_posterior(features)
    root = cholesky(covariance + noise * np.eye(len(features)))
    uniform = sobol(len(features), N_FANTASIES, seed=seed)
    normal = ndtri(np.clip(uniform, 1e-6, 1.0 - 1e-6))
    return np.asarray(mean[:, None] + root @ normal.T)


def extend_factor(model: GaussianProcess, pending: FloatArray) -> FloatArray:
    """Return the Cholesky factor of the finished and the pending points, `(n+p) x (n+p)`."""
    n, p = len(model.factor), len(pending)
    cross = model.kernel(model.data.features, pending)
    lower = solve_triangular(model.factor, cross, lower=True).T
    noise = max(model.hyperparameters.noise, NOISE_BOUNDS[0])
    corner = model.kernel(pending, pending) + noise * np.eye(p) - lower @ lower.T
    factor = np.zeros((n + p, n + p))
    factor[:n, :n] = model.factor
    factor[n:, :n] = lower
    factor[n:, n:] = cholesky(corner)
    return factor


@dataclass(frozen=True)
class _Cross:
    """Covariances of candidates with the conditioning points, and what their gradient needs."""

    scaled: FloatArray
    covariance: FloatArray
    slope: FloatArray


class _Predictor:
    """Posterior algebra shared by the closed-form acquisition functions."""

    def __init__(self, model: GaussianProcess, points: FloatArray, factor: FloatArray) -> None:
        self._outputscale = model.hyperparameters.outputscale
        self._scaling = model.scaling
        self._points = points * model.scaling
        # An explicit inverse root: candidates come in many small batches, where a triangular solve
        # costs several times a product. Its error is harmless at condition numbers below 1e7.
        self._inverse_root, _ = lapack.dtrtri(factor, lower=1)

    def cross(self, features: FloatArray) -> _Cross:
        scaled = features * self._scaling
        correlation, slope = matern52(squared_distances(scaled, self._points))
        return _Cross(scaled, self._outputscale * correlation, self._outputscale * slope)

    def variance(self, cross: _Cross, *, solve: bool = True) -> tuple[FloatArray, FloatArray]:
        """Return variances, `b`, and (K + noise)^-1 k, `b x n`, or zeros if that is not needed."""
        whitened = self._times_inverse_root(cross.covariance, transposed=True)
        variance = self._outputscale - (whitened**2).sum(axis=1)
        solved = self._times_inverse_root(whitened) if solve else np.zeros_like(whitened)
        return np.maximum(variance, _MIN_VARIANCE), solved

    def _times_inverse_root(self, rows: FloatArray, *, transposed: bool = False) -> FloatArray:
        """Return rows, `b x n`, times the inverse root or its transpose."""
        if len(self._inverse_root) < _TRIANGULAR_FROM:
            root = self._inverse_root.T if transposed else self._inverse_root
            return np.asarray(rows @ root)
        # BLAS wants columns and multiplies from the left: the transpose of all of it.
        left = blas.dtrmm(1.0, self._inverse_root, rows.T, lower=1, trans_a=not transposed)
        return np.asarray(left.T)

    def chain(self, cross: _Cross, by_covariance: FloatArray) -> FloatArray:
        """Return the gradient by the features, `b x f`, from that by the covariances, `b x n`."""
        by_distance = by_covariance * cross.slope
        inner = cross.scaled * by_distance.sum(axis=1)[:, None] - by_distance @ self._points
        return np.asarray(2.0 * inner * self._scaling)
