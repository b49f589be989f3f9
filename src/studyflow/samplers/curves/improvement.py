"""What new parameters promise, given all curves: log expected improvement of a new trial's end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.linalg import lapack
from scipy.special import log_ndtr

from studyflow.samplers.acquisition.improvement import log_h
from studyflow.samplers.arrays import FloatArray, IntArray
from studyflow.samplers.curves.kernel import LOG_2PI, Rows, sensitivity
from studyflow.samplers.curves.model import CurveModel
from studyflow.samplers.models.kernel import matern52, squared_distances

_MIN_VARIANCE = 1e-12


class NewTrialImprovement:
    """Log expected improvement of the end of a trial that has not begun, over an incumbent.

    An `Acquisition` of `samplers.acquisition.closed_form`, for its search.

    Args:
        model: Of all curves; `believing` adds what is running.
        incumbent: What is to be improved on, on the model's scale.
    """

    name = "log-expected-improvement-of-end"

    def __init__(self, model: CurveModel, *, incumbent: float) -> None:
        theta, rows = model.theta, model.rows
        self._incumbent, self._mean, self._weights = incumbent, model.mean, model.weights
        self._scaling = 1.0 / theta.lengthscales[model.groups]
        self._points = rows.features * self._scaling
        self._inverse_root, _ = lapack.dtrtri(model.factor, lower=1)
        by_time, _ = matern52((rows.progress - 1.0) ** 2 / theta.time**2)
        # Covariance with a report of another trial: its part through the parameters, and the rest.
        self._by_features = theta.final * sensitivity(theta, rows.progress) + theta.own * by_time
        self._constant = theta.common * by_time
        self._prior = theta.final + theta.common + theta.own + theta.offset
        self._inflation = model.inflation

    def value(self, features: FloatArray) -> FloatArray:
        """Return the value of each point, `b`."""
        value, *_ = self._improvement(features)
        return value

    def value_and_gradient(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return values, `b`, and gradients, `b x f`."""
        value, u, log_ratio, deviation, whitened, slope, scaled = self._improvement(features)
        by_mean = np.exp(log_ndtr(u) - log_ratio) / deviation
        by_deviation = np.exp(-0.5 * u**2 - 0.5 * LOG_2PI - log_ratio) / deviation
        solved = self._inflation * (whitened.T @ self._inverse_root)
        by_covariance = (
            by_mean[:, None] * self._weights - (by_deviation / deviation)[:, None] * solved
        )
        by_distance = by_covariance * self._by_features * slope
        inner = scaled * by_distance.sum(axis=1)[:, None] - by_distance @ self._points
        return value, 2.0 * inner * self._scaling

    def _improvement(self, features: FloatArray) -> tuple[FloatArray, ...]:
        scaled = features * self._scaling
        by_features, slope = matern52(squared_distances(scaled, self._points))
        cross = by_features * self._by_features + self._constant
        whitened = self._inverse_root @ cross.T
        variance = np.maximum(self._prior - (whitened**2).sum(axis=0), _MIN_VARIANCE)
        deviation = np.sqrt(variance * self._inflation)
        u = (self._mean + cross @ self._weights - self._incumbent) / deviation
        log_ratio = log_h(u)
        return np.log(deviation) + log_ratio, u, log_ratio, deviation, whitened, slope, scaled


def believing(model: CurveModel, trials: IntArray) -> CurveModel:
    """Return the model as if some trials had ended as forecast, so that others look elsewhere.

    Args:
        model: Of all curves.
        trials: Those that are running.
    """
    if not len(trials):
        return model
    ends = model.ends_of(trials)
    mean, _ = model.posterior(ends)
    rows = Rows(
        np.concatenate([model.rows.features, ends.features]),
        np.concatenate([model.rows.progress, ends.progress]),
        np.concatenate([model.rows.trials, ends.trials]),
    )
    return replace(model, rows=rows, targets=np.concatenate([model.targets, mean]))
