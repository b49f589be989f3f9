"""Points that candidates are conditioned on: measured, still running, or of a true value drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import ndtri

from studyflow.samplers.arrays import FloatArray, IntArray
from studyflow.samplers.models.gaussian_process import GaussianProcess
from studyflow.samplers.models.hyperparameters import NOISE_BOUNDS
from studyflow.samplers.models.kernel import cholesky, extend_cholesky
from studyflow.samplers.sobol import sobol

N_FANTASIES: Final = 32
"""Joint draws of what is not known yet: what pending points may return, which true values the best
points have."""


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
    draws = _draw(model, points[drawn], NOISE_BOUNDS[0], seed=seed)
    if model.n_base:
        # Beside the truth a measurement of it tells nothing, so it may stay: the model's factor is
        # then that of the first n rows, and grows by a few.
        extended = np.concatenate([data.features, points[drawn]])
        values = np.concatenate([np.repeat(data.targets[:, None], N_FANTASIES, axis=1), draws])
        return Conditioning(extended, extend_factor(model, points[drawn], NOISE_BOUNDS[0]), values)
    targets = np.zeros((len(points), N_FANTASIES))
    targets[:n] = data.targets[:, None]
    targets[drawn] = draws
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


def extend_factor(
    model: GaussianProcess, pending: FloatArray, noise: float | None = None
) -> FloatArray:
    """Return the Cholesky factor of the finished and the pending points, `(n+p) x (n+p)`.

    Args:
        model: Fitted to the finished points.
        pending: Features of the others, `p x f`.
        noise: Variance of what is known at those; `None` for that of a measurement.
    """
    if noise is None:
        noise = max(model.hyperparameters.noise, NOISE_BOUNDS[0])
    corner = model.kernel(pending, pending) + noise * np.eye(len(pending))
    return extend_cholesky(model.factor, model.kernel(model.data.features, pending), corner)
