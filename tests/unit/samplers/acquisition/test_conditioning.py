"""Points that candidates are conditioned on: draws and factors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tests.unit.samplers.training import make_data, some_hyperparameters

from studyflow.samplers.acquisition.conditioning import extend_factor, with_true_values
from studyflow.samplers.models.gaussian_process import GaussianProcess


def test_draws_of_true_values_have_the_posteriors_mean_and_spread() -> None:
    gp = GaussianProcess(make_data(), replace(some_hyperparameters(), noise=0.3))
    rows = np.array([4, 11])

    draws = with_true_values(gp, rows, np.empty((0, 6)), seed=0).targets
    mean, variance = gp.posterior(gp.data.features[rows])

    np.testing.assert_allclose(draws[rows].mean(axis=1), mean, atol=0.1)
    np.testing.assert_allclose(draws[rows].std(axis=1), np.sqrt(variance), rtol=0.2)
    np.testing.assert_array_equal(draws[0], gp.data.targets[0])


def test_extending_a_factor_equals_factoring_all_points_at_once() -> None:
    gp = GaussianProcess(make_data(), some_hyperparameters())
    pending = make_data(5, seed=2).features
    points = np.concatenate([gp.data.features, pending])

    whole = np.linalg.cholesky(gp.kernel(points, points) + 0.013 * np.eye(25))

    np.testing.assert_allclose(extend_factor(gp, pending), whole, atol=1e-10)
