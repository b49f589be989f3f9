"""The kernel, and the factor of its matrix."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from scipy.linalg import LinAlgError, lapack, solve_triangular

from studyflow.samplers.arrays import FloatArray

JITTERS: Final = (0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
_SQRT5: Final = math.sqrt(5.0)


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


def squared_exponential(squared: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the squared exponential correlation and its derivative by the squared distance."""
    correlation = np.exp(-0.5 * squared)
    return correlation, -0.5 * correlation


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


def extend_cholesky(factor: FloatArray, cross: FloatArray, corner: FloatArray) -> FloatArray:
    """Return the Cholesky factor of a matrix that has grown by some rows, `(n+p) x (n+p)`.

    Costs `n^2 p`, where factoring it anew costs `n^3`.

    Args:
        factor: Lower factor of the former matrix, `n x n`.
        cross: The new columns' former rows, `n x p`.
        corner: Their own, `p x p`.

    Raises:
        LinAlgError: The matrix holds a NaN.
    """
    n, p = cross.shape
    lower = solve_triangular(factor, cross, lower=True).T
    grown = np.zeros((n + p, n + p))
    grown[:n, :n] = factor
    grown[n:, :n] = lower
    grown[n:, n:] = cholesky(corner - lower @ lower.T)
    return grown
