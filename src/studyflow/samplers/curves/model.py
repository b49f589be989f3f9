"""What the reports of a study say of how its trials will end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from scipy.linalg import solve_triangular

from studyflow.samplers.arrays import FloatArray, IntArray
from studyflow.samplers.curves.fitting import fit_curves
from studyflow.samplers.curves.kernel import (
    NEW_TRIAL,
    CurveHyperparameters,
    Rows,
    covariance,
    prior_variance,
)
from studyflow.samplers.curves.reports import LearningCurves
from studyflow.samplers.curves.rungs import progress
from studyflow.samplers.models.kernel import cholesky

MIN_ENDED: Final = 3
"""Trials that must have gone to their end before any curve goes by the model."""
MAX_ROWS: Final = 1200
"""Points of curves that the model holds; beyond, curves that ended give up their middles."""
FEW_ENDED: Final = 1.5
"""Variances are larger by this over the number of trials that ended: hyperparameters are then as
uncertain as what they predict. Chosen by coverage."""


@dataclass(frozen=True)
class CurveModel:
    """A Gaussian process over parameters, time and trials, fitted to all reports of a study."""

    curves: LearningCurves
    theta: CurveHyperparameters
    rows: Rows
    targets: FloatArray

    @property
    def groups(self) -> IntArray:
        """For each feature column the index of its lengthscale."""
        return self.curves.groups

    @cached_property
    def factor(self) -> FloatArray:
        """Lower Cholesky factor of the reports' covariance, noise included, `n x n`."""
        prior = covariance(self.theta, self.groups, self.rows, self.rows)
        return cholesky(prior + self.theta.noise * np.eye(len(self.rows)))

    @cached_property
    def _solved(self) -> tuple[float, FloatArray, FloatArray]:
        """The constant mean, the whitened residuals, and the whitened ones."""
        both = np.stack([self.targets, np.ones(len(self.targets))], axis=1)
        whitened = solve_triangular(self.factor, both, lower=True)
        mean = float(whitened[:, 0] @ whitened[:, 1] / (whitened[:, 1] @ whitened[:, 1]))
        return mean, whitened[:, 0] - mean * whitened[:, 1], whitened[:, 1]

    @property
    def mean(self) -> float:
        """The constant prior mean."""
        return self._solved[0]

    @cached_property
    def weights(self) -> FloatArray:
        """The solution of (K + noise) w = targets - mean, `n`."""
        return np.asarray(solve_triangular(self.factor, self._solved[1], lower=True, trans=1))

    @cached_property
    def inflation(self) -> float:
        """How many times larger than the process's own the variances of predictions are."""
        return 1.0 + FEW_ENDED / max(self.curves.n_ended, 1)

    def posterior(self, at: Rows) -> tuple[FloatArray, FloatArray]:
        """Return mean and variance of what would be reported, both `m`, on the model's scale."""
        cross = covariance(self.theta, self.groups, self.rows, at)
        whitened = solve_triangular(self.factor, cross, lower=True)
        variance = prior_variance(self.theta, at.progress) - (whitened**2).sum(axis=0)
        mean = self.mean + whitened.T @ self._solved[1]
        return mean, self._as_reported(variance)

    def joint_posterior(self, at: Rows) -> tuple[FloatArray, FloatArray]:
        """Return mean, `m`, and covariance, `m x m`, of what would be reported."""
        cross = covariance(self.theta, self.groups, self.rows, at)
        whitened = solve_triangular(self.factor, cross, lower=True)
        prior = covariance(self.theta, self.groups, at, at)
        np.fill_diagonal(prior, prior_variance(self.theta, at.progress))
        spread = prior - whitened.T @ whitened + self.theta.noise * np.eye(len(at))
        return self.mean + whitened.T @ self._solved[1], spread * self.inflation

    def ends_of(self, trials: IntArray) -> Rows:
        """Return the ends of some trials' curves."""
        return Rows(self.curves.features[trials], np.ones(len(trials)), trials)

    def rest_of(self, trial: int) -> Rows:
        """Return the rungs of a trial that are still to come, its end last."""
        u = progress(self.curves.steps)[int(self.curves.reached[trial]) :]
        features = np.repeat(self.curves.features[trial][None], len(u), axis=0)
        return Rows(features, u, np.full(len(u), trial))

    def _as_reported(self, variance: FloatArray) -> FloatArray:
        return np.asarray((np.maximum(variance, 0.0) + self.theta.noise) * self.inflation)


def new_trials(features: FloatArray) -> Rows:
    """Return the ends of trials that have not begun."""
    n = len(features)
    return Rows(features, np.ones(n), np.full(n, NEW_TRIAL))


def model_of(
    curves: LearningCurves, *, theta: CurveHyperparameters | None = None
) -> CurveModel | None:
    """Return the model, or `None` before three trials have gone to their end.

    Never raises, whatever was reported.

    Args:
        curves: All reports.
        theta: Hyperparameters learnt before, to be used as they are; `None` to learn them.
    """
    if curves.n_ended < MIN_ENDED:
        return None
    targets = np.where(curves.lost[:, None], np.nan, curves.targets)
    trials, grid = _within_limit(targets, curves)
    u = progress(curves.steps)
    rows = Rows(curves.features[trials], u[grid], trials)
    known = targets[trials, grid]
    learnt = theta or fit_curves(rows, known, curves.groups)
    return CurveModel(curves, learnt, rows, known)


def _within_limit(targets: FloatArray, curves: LearningCurves) -> tuple[IntArray, IntArray]:
    """Return trial and rung of the points that the model holds.

    Of a curve that ended the end tells nearly all; the oldest give up their middles first. If that
    does not suffice, each curve keeps its newest points.
    """
    kept = np.isfinite(targets)
    for trial in np.flatnonzero(curves.ended):
        if kept.sum() <= MAX_ROWS:
            break
        kept[trial, 1:-1] = False
    depth = kept.shape[1]
    while kept.sum() > MAX_ROWS and depth > 1:
        depth -= 1
        from_end = np.cumsum(kept[:, ::-1], axis=1)[:, ::-1]
        kept &= from_end <= depth
    trials, grid = np.nonzero(kept)
    if len(trials) > MAX_ROWS:
        trials, grid = trials[-MAX_ROWS:], grid[-MAX_ROWS:]
    return trials, grid
