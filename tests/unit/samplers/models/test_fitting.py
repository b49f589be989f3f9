"""Fits: which parameter matters, bounds, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import check_grad
from tests.unit.samplers.training import GROUPS, make_data

from studyflow.samplers.arrays import FloatArray
from studyflow.samplers.models.fitting import LogPosterior, fit
from studyflow.samplers.models.gaussian_process import TrainingData
from studyflow.samplers.models.hyperparameters import (
    LENGTHSCALE_BOUNDS,
    NOISE_BOUNDS,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("structure", ["ard", "isotropic"])
def test_the_gradient_of_the_log_posterior_is_that_of_finite_differences(structure: Any) -> None:
    data = make_data(noise_factors=np.linspace(0.5, 10.0, 20))
    objective = LogPosterior(data, structure=structure)
    theta = np.linspace(-1.0, 0.3, objective.size)

    error = check_grad(lambda t: objective(t)[0], lambda t: objective(t)[1], theta)

    assert error < 1e-4


def test_a_fit_finds_which_parameter_matters() -> None:
    found = fit(make_data(60)).hyperparameters

    assert found.lengthscales[0] < 0.5
    assert found.lengthscales[1] > 2.0
    assert found.noise < 0.05


def test_an_exact_fit_keeps_the_noise_at_its_floor() -> None:
    assert fit(make_data(), exact=True).hyperparameters.noise == pytest.approx(NOISE_BOUNDS[0])


@pytest.mark.parametrize(
    "targets",
    [np.zeros(12), np.r_[np.zeros(11), 3.3], np.random.default_rng(0).standard_normal(12)],
    ids=["constant", "one spike", "pure noise"],
)
@pytest.mark.parametrize("structure", ["ard", "isotropic", "prior"])
def test_a_fit_to_uninformative_data_stays_in_bounds(targets: FloatArray, structure: Any) -> None:
    data = make_data(12)
    model = fit(TrainingData(data.features, targets, GROUPS, np.ones(12)), structure=structure)

    found = model.hyperparameters
    assert np.all(found.lengthscales >= LENGTHSCALE_BOUNDS[0] * (1 - 1e-9))
    assert np.all(found.lengthscales <= LENGTHSCALE_BOUNDS[1] * (1 + 1e-9))
    assert NOISE_BOUNDS[0] * (1 - 1e-9) <= found.noise <= NOISE_BOUNDS[1] * (1 + 1e-9)
    assert np.isfinite(model.posterior(data.features)[0]).all()


def test_a_fit_survives_points_that_nearly_coincide() -> None:
    data = make_data(30)
    features = data.features.copy()
    features[10:20] = features[0] + 1e-9 * np.arange(10)[:, None]

    model = fit(TrainingData(features, data.targets, GROUPS, np.ones(30)))

    assert np.isfinite(model.posterior(features)[1]).all()
