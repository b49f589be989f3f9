"""Posterior algebra that the closed-form acquisition functions share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.linalg import blas, lapack

from studyflow.samplers.arrays import FloatArray
from studyflow.samplers.models.gaussian_process import GaussianProcess
from studyflow.samplers.models.kernel import squared_distances

_TRIANGULAR_FROM: Final = 150
"""Points from which a triangular product, of half the operations, is faster than a plain one."""

_MIN_VARIANCE: Final = 1e-14


@dataclass(frozen=True)
class Cross:
    """Covariances of candidates with the conditioning points, and what their gradient needs."""

    scaled: FloatArray
    """The candidates' features in units of the lengthscales, `b x f`."""
    covariance: FloatArray
    """Prior covariances, `b x n`."""
    slope: FloatArray
    """Their derivatives by the squared scaled distance, `b x n`."""


class Predictor:
    """Posterior variances and gradients at candidates, given `n` conditioning points.

    Args:
        model: Its kernel is used, not its data.
        points: Features of the conditioning points, `n x f`.
        factor: Lower Cholesky factor of their covariance, noise included, `n x n`.
    """

    def __init__(self, model: GaussianProcess, points: FloatArray, factor: FloatArray) -> None:
        self._outputscale = model.hyperparameters.outputscale
        self._scaling = model.scaling
        self._correlation = model.family.correlation
        self._points = points * model.scaling
        # An explicit inverse root: candidates come in many small batches, where a triangular solve
        # costs several times a product. Its error is harmless at condition numbers below 1e7.
        self._inverse_root, _ = lapack.dtrtri(factor, lower=1)

    def cross(self, features: FloatArray) -> Cross:
        """Return the covariances of `b` candidates, `b x f`, with the conditioning points."""
        scaled = features * self._scaling
        correlation, slope = self._correlation(squared_distances(scaled, self._points))
        return Cross(scaled, self._outputscale * correlation, self._outputscale * slope)

    def variance(self, cross: Cross, *, solve: bool = True) -> tuple[FloatArray, FloatArray]:
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

    def chain(self, cross: Cross, by_covariance: FloatArray) -> FloatArray:
        """Return the gradient by the features, `b x f`, from that by the covariances, `b x n`."""
        by_distance = by_covariance * cross.slope
        inner = cross.scaled * by_distance.sum(axis=1)[:, None] - by_distance @ self._points
        return np.asarray(2.0 * inner * self._scaling)
