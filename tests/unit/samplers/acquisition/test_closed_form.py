"""Expected improvement and feasibility: BoTorch's values, and exact gradients."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from botorch.acquisition.analytic import LogExpectedImprovement as BoTorchLogEI
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.sampling.normal import SobolQMCNormalSampler
from scipy.optimize import approx_fprime
from tests.unit.samplers.training import GROUPS, make_data, some_hyperparameters

from studyflow.samplers.acquisition.closed_form import (
    Feasibility,
    LogExpectedImprovement,
    LogFeasibility,
)
from studyflow.samplers.acquisition.conditioning import with_fantasies, with_true_values
from studyflow.samplers.models.gaussian_process import GaussianProcess, TrainingData
from studyflow.samplers.models.kernel_family import MATERN, SMOOTH, KernelFamily
from studyflow.samplers.models.torch_model import as_botorch

pytestmark = pytest.mark.usefixtures("one_thread")


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


@pytest.mark.parametrize("family", [MATERN, SMOOTH], ids=["matern", "smooth"])
def test_gradients_with_pending_points_and_feasibility_are_those_of_finite_differences(
    family: KernelFamily,
) -> None:
    gp = GaussianProcess(make_data(), some_hyperparameters())
    kept = GaussianProcess(make_data(seed=5), some_hyperparameters(), family=family)
    term = Feasibility(kept, 0.2)
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
