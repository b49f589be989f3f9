"""A Gaussian process over the unit cube, for pictures only, with exact averages of its mean.

The kernel is a product of one-dimensional Matérn-5/2 kernels. So the mean prediction, averaged over
all parameters but one or two, is a product of small matrices: a full dependence matrix takes
milliseconds. The sampler has its own, better model; this one is small, quick and needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from studyflow.reports.data import StudyData
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.spec.parameters import CategoricalParameter, Parameter
from studyflow.spec.space import SearchSpace
from studyflow.trial import ParamValue
from studyflow.trial.record import TrialRecord

FloatArray = npt.NDArray[np.float64]

MIN_TRIALS: Final = 6
"""Complete trials below which a model would be invention."""
MAX_TRIALS: Final = 200
"""Trials that the model is fitted to; of more, the best and evenly spaced others."""
GRID: Final = 41
"""Points along a parameter."""
_ROOT5: Final = math.sqrt(5.0)
_JITTER: Final = 1e-6


@dataclass(frozen=True)
class Surrogate:
    """A fitted process."""

    points: FloatArray
    """Training points, `n x d`; categories by number."""
    active: npt.NDArray[np.bool_]
    """Which parameters exist at which point, `n x d`."""
    is_category: npt.NDArray[np.bool_]
    """Which columns are categories, `d`."""
    length_scales: FloatArray
    """By column, `d`."""
    weights: FloatArray
    """`K⁻¹ y`, scaled to the units of the values, `n`."""
    mean: float
    """Mean of the values."""
    explained: float
    """Share of the variance explained at points left out of the fit, one at a time; at most 1."""

    def dependence(self, columns: Sequence[int], grids: Sequence[FloatArray]) -> FloatArray:
        """Return the mean prediction along one or two columns, averaged over the training points.

        Only points where all those columns exist take part in the average.

        Args:
            columns: One or two columns.
            grids: Coordinates along each, `g1` and perhaps `g2`.

        Returns:
            Predictions, `g1` or `g1 x g2`.
        """
        among = self.active[:, list(columns)].all(axis=1)
        samples = self.points[among] if among.any() else self.points
        rest = np.ones((len(samples), len(self.points)))
        for j in range(self.points.shape[1]):
            if j not in columns:
                rest *= self._factor(samples[:, j], j)
        weights = self.weights * rest.mean(axis=0)
        factors = [self._factor(g, j) for g, j in zip(grids, columns, strict=True)]
        if len(factors) == 1:
            result: FloatArray = self.mean + factors[0] @ weights
        else:
            result = self.mean + (factors[0] * weights) @ factors[1].T
        return result

    def predict(self, points: FloatArray) -> FloatArray:
        """Return the mean prediction at some points, coded as `point` does, `m x d`."""
        correlation = np.ones((len(points), len(self.points)))
        for column in range(self.points.shape[1]):
            correlation *= self._factor(points[:, column], column)
        result: FloatArray = self.mean + correlation @ self.weights
        return result

    def _factor(self, coordinates: FloatArray, column: int) -> FloatArray:
        gaps = _gaps(coordinates, self.points[:, column], is_category=self.is_category[column])
        return _matern(gaps / self.length_scales[column])


def fitted(data: StudyData, objective: int) -> tuple[Surrogate, ObjectiveScale]:
    """Return the process fitted to a study's complete trials, and the scale of its values.

    Values beyond the scale count as its end; where the scale is logarithmic the process models
    logarithms. Several figures share the fit. Needs two different values.
    """
    key = f"surrogate {objective}"
    if key not in data.memo:
        observed = [data.value(r, objective) for r in data.complete]
        scale = ObjectiveScale(observed, data.spec.directions[objective])
        data.memo[key] = _fit_study(data, objective, scale), scale
    found: tuple[Surrogate, ObjectiveScale] = data.memo[key]
    return found


def main_effects(data: StudyData, objective: int) -> dict[str, float]:
    """Return how much the process varies along each parameter alone, as shares that add up to 1.

    Parameters with one value only are left out; empty if nothing varies.
    """
    model, _ = fitted(data, objective)
    spread = {
        name: float(np.var(model.dependence([column], [grid(parameter)])))
        for column, (name, parameter) in enumerate(data.space.items())
        if parameter.cardinality != 1
    }
    total = sum(spread.values())
    return {name: value / total for name, value in spread.items()} if total > 0 else {}


def grid(parameter: Parameter) -> FloatArray:
    """Return the coordinates at which a parameter is looked at: all categories, or [0, 1]."""
    if isinstance(parameter, CategoricalParameter):
        return np.arange(len(parameter.choices), dtype=np.float64)
    return np.linspace(0.0, 1.0, GRID)


def _fit_study(data: StudyData, objective: int, scale: ObjectiveScale) -> Surrogate:
    records = _chosen(data, objective)
    rows, active = [], []
    for record in records:
        params = data.searched(record)
        active.append([name in params for name in data.space])
        rows.append(point(data.space, params))
    values = np.array([scale.clip(data.value(r, objective)) for r in records])
    return fit(
        np.array(rows),
        np.array(active),
        np.array([isinstance(p, CategoricalParameter) for p in data.space.values()]),
        np.log(values) if scale.is_log else values,
    )


def point(space: SearchSpace, params: Mapping[str, ParamValue]) -> list[float]:
    """Return parameters as the process has them: in [0, 1], categories by number.

    One that does not exist lies in the middle of its range; a category, beside all others.

    Args:
        space: The search space.
        params: Values within it; others than its own are left out.
    """
    row: list[float] = []
    for name, parameter in space.items():
        if isinstance(parameter, CategoricalParameter):
            row.append(float(parameter.index(params[name])) if name in params else -1.0)
        else:
            row.append(float(parameter.to_unit(params[name])) if name in params else 0.5)
    return row


def _chosen(data: StudyData, objective: int) -> list[TrialRecord]:
    """Return the trials to model: all, or a third of the best and others evenly spaced."""
    records = list(data.complete)
    if len(records) <= MAX_TRIALS:
        return records
    sign = 1.0 if data.spec.directions[objective] == "minimize" else -1.0
    ranked = sorted(records, key=lambda r: (sign * data.value(r, objective), r.number))
    third = MAX_TRIALS // 3
    rest = ranked[third:]
    spaced = np.linspace(0, len(rest) - 1, MAX_TRIALS - third).round().astype(int)
    return ranked[:third] + [rest[i] for i in spaced]


def fit(
    points: FloatArray,
    active: npt.NDArray[np.bool_],
    is_category: npt.NDArray[np.bool_],
    values: FloatArray,
) -> Surrogate:
    """Return the process that explains the values best, under mild priors. Deterministic.

    Args:
        points: Points, `n x d`, `n >= 2`; numbers in [0, 1], categories by number.
        active: Which parameters exist at which point, `n x d`.
        is_category: Which columns are categories, `d`.
        values: Finite values, `n`.
    """
    from scipy.linalg import cho_solve, cholesky  # half a second, which reports of few trials save
    from scipy.optimize import minimize

    n, d = points.shape
    mean, spread = float(values.mean()), float(values.std()) or 1.0
    y = (values - mean) / spread
    gaps = np.stack(
        [_gaps(points[:, j], points[:, j], is_category=is_category[j]) for j in range(d)]
    )
    centre = np.array([math.log(0.5 * math.sqrt(d))] * d + [0.0, math.log(0.05)])
    width = np.array([0.9] * d + [0.7, 1.5])

    def loss(theta: FloatArray) -> tuple[float, FloatArray]:
        """Return the negative log posterior and its gradient."""
        r = gaps / np.exp(theta[:d])[:, None, None]
        polynomial = 1.0 + _ROOT5 * r + (5.0 / 3.0) * r * r
        kernel = np.exp(theta[d]) * np.prod(polynomial, axis=0) * np.exp(-_ROOT5 * r.sum(axis=0))
        noise = np.exp(theta[d + 1]) + _JITTER
        lower = cholesky(kernel + noise * np.eye(n), lower=True)
        inverse = cho_solve((lower, True), np.eye(n))
        alpha = inverse @ y
        off = (theta - centre) / width
        value = 0.5 * y @ alpha + np.log(np.diag(lower)).sum() + 0.5 * off @ off
        inner = 0.5 * (inverse - np.outer(alpha, alpha))
        weighted = inner * kernel
        slope = (5.0 / 3.0) * r * r * (1.0 + _ROOT5 * r) / polynomial
        gradient = np.concatenate(
            [
                np.tensordot(slope, weighted, axes=2),
                [weighted.sum(), np.exp(theta[d + 1]) * np.trace(inner)],
            ]
        )
        return float(value), gradient + off / width

    bounds = [(-3.5, 4.0)] * d + [(-4.0, 4.0), (-9.0, 2.0)]
    found: Any = minimize(
        loss,
        np.clip(centre, -3.5, 4.0),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 60},
    )
    theta: FloatArray = found.x
    r = gaps / np.exp(theta[:d])[:, None, None]
    kernel = np.exp(theta[d]) * np.prod(_matern(r), axis=0)
    noise = np.exp(theta[d + 1]) + _JITTER
    lower = cholesky(kernel + noise * np.eye(n), lower=True)
    inverse = cho_solve((lower, True), np.eye(n))
    alpha = inverse @ y
    left_out = alpha / np.diag(inverse)
    base = float(((y * n / (n - 1)) ** 2).sum())
    explained = 1.0 - float(left_out @ left_out) / base if base > 0 else 0.0
    return Surrogate(
        points=points,
        active=active,
        is_category=is_category,
        length_scales=np.exp(theta[:d]),
        weights=np.exp(theta[d]) * alpha * spread,
        mean=mean,
        explained=explained,
    )


def _gaps(a: FloatArray, b: FloatArray, *, is_category: Any) -> FloatArray:
    gaps = np.abs(a[:, None] - b[None, :])
    return (gaps > 0.5).astype(np.float64) if is_category else gaps


def _matern(r: FloatArray) -> FloatArray:
    result: FloatArray = (1.0 + _ROOT5 * r + (5.0 / 3.0) * r * r) * np.exp(-_ROOT5 * r)
    return result


def left_out(model: Surrogate, values: np.ndarray[Any, Any]) -> FloatArray:
    """Return each training value as the report's own process predicts it from all the others.

    Args:
        model: Fitted to these values.
        values: On the scale that the process models, `n`.
    """
    correlation = np.ones((len(values), len(values)))
    for column, lengthscale in enumerate(model.length_scales):
        at = model.points[:, column]
        gaps = np.abs(at[:, None] - at[None, :])
        if model.is_category[column]:
            gaps = (gaps > 0.5).astype(np.float64)
        root = math.sqrt(5.0) * gaps / lengthscale
        correlation *= (1.0 + root + root**2 / 3.0) * np.exp(-root)
    # The weights w solve (C + ratio I) w = values - mean; that gives noise over outputscale.
    residual = values - model.mean - correlation @ model.weights
    power = float(model.weights @ model.weights)
    ratio = max(float(residual @ model.weights) / power, 1e-9) if power > 0.0 else 1.0
    inverse = np.linalg.inv(correlation + ratio * np.eye(len(values)))
    result: FloatArray = values - (inverse @ (values - model.mean)) / np.diag(inverse)
    return result
