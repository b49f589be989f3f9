"""The closed-form model is BoTorch's model: likelihood, gradient, posterior, acquisition value."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from botorch.acquisition.analytic import LogExpectedImprovement as BoTorchLogEI
from botorch.acquisition.analytic import _log_ei_helper
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.sampling.normal import SobolQMCNormalSampler
from gpytorch.mlls import ExactMarginalLogLikelihood
from scipy.optimize import approx_fprime, check_grad

from studyflow.samplers.acquisition import Feasibility, LogExpectedImprovement, LogFeasibility
from studyflow.samplers.arrays import FloatArray
from studyflow.samplers.conditioning import extend_factor, with_fantasies, with_true_values
from studyflow.samplers.fitting import LogPosterior, fit
from studyflow.samplers.hyperparameters import (
    LENGTHSCALE_BOUNDS,
    NOISE_BOUNDS,
    Hyperparameters,
    prior_mode,
)
from studyflow.samplers.improvement import log_h
from studyflow.samplers.kernel import cholesky
from studyflow.samplers.model import GaussianProcess, TrainingData, merge_repeats
from studyflow.samplers.torch_model import as_botorch

pytestmark = pytest.mark.usefixtures("one_thread")

GROUPS = np.array([0, 1, 2, 2, 2, 3])


def make_data(
    n: int = 20, *, seed: int = 0, noise_factors: FloatArray | None = None
) -> TrainingData:
    generator = np.random.default_rng(seed)
    features = generator.random((n, 6))
    features[:, 2:5] = np.eye(3)[generator.integers(3, size=n)] / math.sqrt(2)
    targets = np.sin(5 * features[:, 0]) + features[:, 2] + 0.05 * generator.standard_normal(n)
    targets = (targets - targets.mean()) / targets.std()
    factors = np.ones(n) if noise_factors is None else noise_factors
    return TrainingData(features, targets, GROUPS, factors)


def some_hyperparameters() -> Hyperparameters:
    return Hyperparameters(np.array([0.4, 1.1, 0.8, 2.5]), 1.7, 0.013)


def test_log_posterior_and_its_gradient_equal_gpytorchs() -> None:
    data, hyperparameters = make_data(), some_hyperparameters()
    theta = np.log(
        [*hyperparameters.lengthscales, hyperparameters.outputscale, hyperparameters.noise]
    )
    value, gradient = LogPosterior(data)(theta)

    gp = GaussianProcess(data, hyperparameters)
    model = as_botorch(gp).train()
    mll = ExactMarginalLogLikelihood(model.likelihood, model)
    expected = mll(model(*model.train_inputs), model.train_targets) * len(data.targets)
    kernel = model.covar_module.base_kernel
    tensors = [kernel.raw_lengthscale, model.covar_module.raw_outputscale]
    tensors.append(model.likelihood.noise_covar.raw_noise)
    raw_gradients = torch.autograd.grad(expected, tensors)

    assert value == pytest.approx(expected.item(), abs=1e-6)
    constraints = [kernel.raw_lengthscale_constraint, model.covar_module.raw_outputscale_constraint]
    constraints.append(model.likelihood.noise_covar.raw_noise_constraint)
    chained: list[float] = []
    for raw, constraint, raw_gradient in zip(tensors, constraints, raw_gradients, strict=True):
        leaf = raw.detach().clone().requires_grad_()
        transformed = constraint.transform(leaf).log()
        (slope,) = torch.autograd.grad(transformed.sum(), leaf)
        chained += (raw_gradient / slope).reshape(-1).tolist()
    np.testing.assert_allclose(gradient, chained, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("structure", ["ard", "isotropic"])
def test_the_gradient_of_the_log_posterior_is_that_of_finite_differences(structure: Any) -> None:
    data = make_data(noise_factors=np.linspace(0.5, 10.0, 20))
    objective = LogPosterior(data, structure=structure)
    theta = np.linspace(-1.0, 0.3, objective.size)

    error = check_grad(lambda t: objective(t)[0], lambda t: objective(t)[1], theta)

    assert error < 1e-4


@pytest.mark.parametrize("factors", [None, np.linspace(0.5, 10.0, 20)])
def test_the_posterior_equals_botorchs(factors: FloatArray | None) -> None:
    gp = GaussianProcess(make_data(noise_factors=factors), some_hyperparameters())
    at = make_data(7, seed=1).features

    mean, variance = gp.posterior(at)
    posterior = as_botorch(gp).posterior(torch.as_tensor(at))

    np.testing.assert_allclose(mean, posterior.mean.detach().numpy()[:, 0], atol=1e-8)
    np.testing.assert_allclose(variance, posterior.variance.detach().numpy()[:, 0], atol=1e-8)


@pytest.mark.parametrize("n", [20, 200])
def test_log_expected_improvement_and_its_gradient_equal_botorchs(n: int) -> None:
    gp = GaussianProcess(make_data(n), some_hyperparameters())
    acquisition = LogExpectedImprovement(gp, pending=np.empty((0, 6)))
    at = make_data(7, seed=1).features
    value, gradient = acquisition.value_and_gradient(at)

    function = BoTorchLogEI(as_botorch(gp), best_f=float(acquisition.incumbents[0]))
    x = torch.tensor(at, requires_grad=True)
    expected = function(x.unsqueeze(1))
    (expected_gradient,) = torch.autograd.grad(expected.sum(), x)

    np.testing.assert_allclose(value, expected.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient.numpy(), rtol=2e-6, atol=1e-6)


def test_pending_points_average_botorchs_improvement_over_their_fantasies() -> None:
    gp = GaussianProcess(make_data(), some_hyperparameters())
    pending = make_data(3, seed=2).features
    at = make_data(5, seed=1).features
    acquisition = LogExpectedImprovement(gp, pending=pending, fantasy_seed=3)

    draws = with_fantasies(gp, pending, seed=3).targets[20:]
    model = as_botorch(gp)
    improvements = []
    for s in range(draws.shape[1]):
        both = TrainingData(
            np.concatenate([gp.data.features, pending]),
            np.concatenate([gp.data.targets, draws[:, s]]),
            GROUPS,
            np.ones(23),
        )
        conditioned = as_botorch(GaussianProcess(both, gp.hyperparameters))
        conditioned.mean_module.constant.data.copy_(model.mean_module.constant)
        function = BoTorchLogEI(conditioned, best_f=float(acquisition.incumbents[s]))
        improvements.append(function(torch.as_tensor(at).unsqueeze(1)).detach())
    expected = torch.stack(improvements).logsumexp(0) - math.log(len(improvements))

    np.testing.assert_allclose(acquisition.value(at), expected.numpy(), atol=1e-6)


def test_under_noise_the_best_points_true_values_are_drawn_and_botorchs_improvement_averaged() -> (
    None
):
    gp = GaussianProcess(make_data(), replace(some_hyperparameters(), noise=0.3))
    pending = make_data(3, seed=2).features
    at = make_data(5, seed=1).features
    eligible = np.arange(20) % 2 == 0
    acquisition = LogExpectedImprovement(
        gp, pending=pending, eligible=eligible, fantasy_seed=3, noisy=True
    )

    rows = np.flatnonzero(eligible)[np.argsort(-gp.fitted[eligible])]
    given = with_true_values(gp, rows, pending, seed=3)
    points, draws = given.points, given.targets
    model = as_botorch(gp)
    improvements = []
    for s in range(draws.shape[1]):
        known = TrainingData(points, draws[:, s], GROUPS, np.r_[eligible < 1, np.zeros(3)] * 1.0)
        conditioned = as_botorch(GaussianProcess(known, gp.hyperparameters))
        conditioned.mean_module.constant.data.copy_(model.mean_module.constant)
        incumbent = draws[np.r_[eligible, np.ones(3)] > 0, s].max()
        assert acquisition.incumbents[s] == pytest.approx(incumbent, abs=1e-3)
        function = BoTorchLogEI(conditioned, best_f=float(acquisition.incumbents[s]))
        improvements.append(function(torch.as_tensor(at).unsqueeze(1)).detach())
    expected = torch.stack(improvements).logsumexp(0) - math.log(len(improvements))

    np.testing.assert_allclose(acquisition.value(at), expected.numpy(), atol=1e-6)


def test_under_noise_the_value_is_near_that_of_botorchs_noisy_expected_improvement() -> None:
    gp = GaussianProcess(make_data(), replace(some_hyperparameters(), noise=0.3))
    at = make_data(100, seed=1).features
    function = qLogNoisyExpectedImprovement(
        as_botorch(gp),
        torch.as_tensor(gp.data.features),
        sampler=SobolQMCNormalSampler(torch.Size([2048]), seed=0),
        prune_baseline=False,
    )
    expected = function(torch.as_tensor(at).unsqueeze(1)).detach().numpy()
    # Where improvement is improbable neither has enough draws.
    likely = expected > expected.max() - 2.0
    values = [
        LogExpectedImprovement(gp, pending=np.empty((0, 6)), fantasy_seed=seed, noisy=True).value(
            at[likely]
        )
        for seed in range(32)
    ]

    assert likely.sum() > 10
    np.testing.assert_allclose(np.log(np.exp(values).mean(axis=0)), expected[likely], atol=0.1)


def test_draws_of_true_values_have_the_posteriors_mean_and_spread() -> None:
    gp = GaussianProcess(make_data(), replace(some_hyperparameters(), noise=0.3))
    rows = np.array([4, 11])

    draws = with_true_values(gp, rows, np.empty((0, 6)), seed=0).targets
    mean, variance = gp.posterior(gp.data.features[rows])

    np.testing.assert_allclose(draws[rows].mean(axis=1), mean, atol=0.1)
    np.testing.assert_allclose(draws[rows].std(axis=1), np.sqrt(variance), rtol=0.2)
    np.testing.assert_array_equal(draws[0], gp.data.targets[0])


def test_gradients_with_pending_points_and_feasibility_are_those_of_finite_differences() -> None:
    gp = GaussianProcess(make_data(), some_hyperparameters())
    term = Feasibility(GaussianProcess(make_data(seed=5), some_hyperparameters()), 0.2)
    pending = make_data(4, seed=2).features
    for acquisition in (
        LogExpectedImprovement(gp, pending=pending, feasibility=[term]),
        LogExpectedImprovement(gp, pending=pending, feasibility=[term], noisy=True),
        LogFeasibility([term], pending=pending),
    ):
        for point in make_data(4, seed=1).features:
            gradient = acquisition.value_and_gradient(point[None])[1][0]
            numeric = approx_fprime(point, lambda x, a=acquisition: a.value(x[None])[0], 1e-7)
            np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=2e-3)


def test_log_h_is_accurate_from_certain_improvement_to_far_below_underflow() -> None:
    u = np.array([-1e9, -1e6, -2e3, -999.0, -40.0, -8.0, -1.0, -0.5, 0.0, 3.0, 50.0])

    expected = _log_ei_helper(torch.as_tensor(u)).numpy()

    np.testing.assert_allclose(log_h(u), expected, rtol=1e-9)


def test_the_fitted_means_are_the_posterior_at_the_finished_points() -> None:
    gp = GaussianProcess(
        make_data(noise_factors=np.linspace(0.5, 10.0, 20)), some_hyperparameters()
    )

    np.testing.assert_allclose(gp.fitted, gp.posterior(gp.data.features)[0], atol=1e-10)


def test_extending_a_factor_equals_factoring_all_points_at_once() -> None:
    gp = GaussianProcess(make_data(), some_hyperparameters())
    pending = make_data(5, seed=2).features
    points = np.concatenate([gp.data.features, pending])

    whole = np.linalg.cholesky(gp.kernel(points, points) + 0.013 * np.eye(25))

    np.testing.assert_allclose(extend_factor(gp, pending), whole, atol=1e-10)


def test_leave_one_out_equals_leaving_one_out() -> None:
    gp = GaussianProcess(make_data(), some_hyperparameters())
    mean, variance = gp.leave_one_out()
    rows = np.arange(1, 20)
    without = GaussianProcess(gp.data.subset(rows), gp.hyperparameters)
    object.__setattr__(without, "mean", gp.mean)

    expected_mean, expected_variance = without.posterior(gp.data.features[:1])

    assert mean[0] == pytest.approx(expected_mean[0], abs=1e-8)
    assert variance[0] == pytest.approx(expected_variance[0] + 0.013, abs=1e-8)


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


def test_the_prior_mode_at_twelve_parameters_is_that_of_the_dimension_scaled_prior() -> None:
    assert prior_mode(12).lengthscales == pytest.approx(np.full(12, 0.7094), abs=1e-4)


def test_cholesky_adds_jitter_to_a_singular_matrix_and_refuses_nan() -> None:
    assert np.isfinite(cholesky(np.ones((4, 4)))).all()
    with pytest.raises(np.linalg.LinAlgError):
        cholesky(np.full((2, 2), math.nan))
