"""What a candidate is worth: log expected improvement, pending points, feasibility.

All acquisition functions share one protocol over features (`b x f` to `b`), so that the search does
not know which one it maximises. For one objective they are closed-form in NumPy; for several they
are BoTorch's, differentiated by autograd.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import log_ndtr

from studyflow.samplers.acquisition.conditioning import (
    extend_factor,
    with_fantasies,
    with_true_values,
)
from studyflow.samplers.acquisition.improvement import log_h
from studyflow.samplers.acquisition.predictor import Cross, Predictor
from studyflow.samplers.arrays import FloatArray, IntArray
from studyflow.samplers.models.gaussian_process import GaussianProcess

N_INCUMBENTS: Final = 32
"""Finished points that may be the best one under a draw."""

_LOG_SQRT_2PI: Final = 0.5 * math.log(2.0 * math.pi)


class Acquisition(Protocol):
    """What a search maximises."""

    name: str

    def value(self, features: FloatArray) -> FloatArray:
        """Return the value of each point, `b`, for features `b x f`."""
        ...

    def value_and_gradient(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return values, `b`, and their gradients by the features, `b x f`."""
        ...


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
        predictor = Predictor(self.model, self.model.data.features, self.model.factor)
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
        self._predictor = Predictor(model, given.points, given.factor)
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
        self, cross: Cross, variance: FloatArray
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
        self._predictor: Predictor | None = None
        if len(pending):
            model = self._terms[0].model
            self._predictor = Predictor(
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


def _best_rows(model: GaussianProcess, eligible: Any) -> IntArray:
    """Return the finished points of highest posterior mean, best first, at most `N_INCUMBENTS`."""
    current = model.fitted if eligible is None else np.where(eligible, model.fitted, -math.inf)
    best = np.argsort(-current, kind="stable")[:N_INCUMBENTS]
    return best[np.isfinite(current[best])]
