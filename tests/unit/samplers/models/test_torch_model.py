"""The closed-form model is BoTorch's model: likelihood, gradient, posterior."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gpytorch.mlls import ExactMarginalLogLikelihood
from tests.unit.samplers.training import make_data, some_hyperparameters

from studyflow.samplers.arrays import FloatArray
from studyflow.samplers.models.fitting import LogPosterior
from studyflow.samplers.models.gaussian_process import GaussianProcess
from studyflow.samplers.models.kernel_family import MATERN, SMOOTH, KernelFamily
from studyflow.samplers.models.torch_model import as_botorch

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("family", [MATERN, SMOOTH], ids=["matern", "smooth"])
def test_log_posterior_and_its_gradient_equal_gpytorchs(family: KernelFamily) -> None:
    data, hyperparameters = make_data(), some_hyperparameters()
    theta = np.log(
        [*hyperparameters.lengthscales, hyperparameters.outputscale, hyperparameters.noise]
    )
    value, gradient = LogPosterior(data, family=family)(theta)

    gp = GaussianProcess(data, hyperparameters, family=family)
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


@pytest.mark.parametrize("family", [MATERN, SMOOTH], ids=["matern", "smooth"])
@pytest.mark.parametrize("factors", [None, np.linspace(0.5, 10.0, 20)])
def test_the_posterior_equals_botorchs(factors: FloatArray | None, family: KernelFamily) -> None:
    data = make_data(noise_factors=factors)
    gp = GaussianProcess(data, some_hyperparameters(), family=family)
    at = make_data(7, seed=1).features

    mean, variance = gp.posterior(at)
    posterior = as_botorch(gp).posterior(torch.as_tensor(at))

    np.testing.assert_allclose(mean, posterior.mean.detach().numpy()[:, 0], atol=1e-8)
    np.testing.assert_allclose(variance, posterior.variance.detach().numpy()[:, 0], atol=1e-8)
