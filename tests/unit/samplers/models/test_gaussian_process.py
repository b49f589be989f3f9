"""The Gaussian process: posterior, leave-one-out, repeats."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.samplers.training import make_data, some_hyperparameters

from studyflow.samplers.models.gaussian_process import GaussianProcess, TrainingData, merge_repeats


def test_the_fitted_means_are_the_posterior_at_the_finished_points() -> None:
    gp = GaussianProcess(
        make_data(noise_factors=np.linspace(0.5, 10.0, 20)), some_hyperparameters()
    )

    np.testing.assert_allclose(gp.fitted, gp.posterior(gp.data.features)[0], atol=1e-10)


def test_leave_one_out_equals_leaving_one_out() -> None:
    gp = GaussianProcess(make_data(), some_hyperparameters())
    mean, variance = gp.leave_one_out()
    rows = np.arange(1, 20)
    without = GaussianProcess(gp.data.subset(rows), gp.hyperparameters)
    object.__setattr__(without, "mean", gp.mean)

    expected_mean, expected_variance = without.posterior(gp.data.features[:1])

    assert mean[0] == pytest.approx(expected_mean[0], abs=1e-8)
    assert variance[0] == pytest.approx(expected_variance[0] + 0.013, abs=1e-8)


def test_repeats_are_averaged_by_precision() -> None:
    features = np.array([[0.5], [0.1], [0.5]])
    data = TrainingData(
        features, np.array([1.0, 7.0, 4.0]), np.array([0]), np.array([1.0, 1.0, 2.0])
    )

    merged, rows = merge_repeats(data)

    np.testing.assert_allclose(merged.features, [[0.5], [0.1]])
    np.testing.assert_allclose(merged.targets, [2.0, 7.0])
    np.testing.assert_allclose(merged.noise_factors, [1 / 1.5, 1.0])
    assert rows.tolist() == [0, 1, 0]
