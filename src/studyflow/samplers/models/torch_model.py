"""The Gaussian process as BoTorch and gpytorch know it.

Importing this module takes seconds. A study with one objective and no plug-in never needs it.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor

with warnings.catch_warnings():
    # linear_operator 0.6.1 compiles with torch.jit.script, which torch 2.13 deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    from botorch.models import SingleTaskGP
    from gpytorch.constraints import Interval
    from gpytorch.kernels import Kernel, ScaleKernel
    from gpytorch.likelihoods import FixedNoiseGaussianLikelihood, GaussianLikelihood
    from gpytorch.means import ConstantMean
    from gpytorch.priors import LogNormalPrior

from studyflow.samplers.models.gaussian_process import GaussianProcess
from studyflow.samplers.models.hyperparameters import (
    LENGTHSCALE_BOUNDS,
    NOISE_BOUNDS,
    NOISE_PRIOR,
)
from studyflow.samplers.models.kernel_family import MATERN, KernelFamily


class GroupedKernel(Kernel):  # type: ignore[misc]
    """A kernel with lengthscales shared by groups of columns, as the columns of one category.

    Args:
        groups: For each of the `f` input columns the index of its lengthscale.
        family: Which kernel: Matern-5/2 or the squared exponential.
    """

    has_lengthscale = True

    def __init__(self, groups: Tensor, family: KernelFamily, **options: Any) -> None:
        super().__init__(ard_num_dims=int(groups.max()) + 1, **options)
        self._is_matern = family is MATERN
        self.register_buffer("groups", groups)

    def forward(
        self,
        x1: Tensor,
        x2: Tensor,
        diag: bool = False,
        last_dim_is_batch: bool = False,  # noqa: ARG002  (gpytorch's signature)
        **_: Any,
    ) -> Tensor:
        """Return correlations, `... x n x m`, or with `diag` those of matching rows."""
        lengthscale = self.lengthscale[..., self.groups]
        distance: Tensor = self.covar_dist(x1 / lengthscale, x2 / lengthscale, diag=diag)
        if not self._is_matern:
            return torch.exp(-0.5 * distance**2)
        scaled = math.sqrt(5.0) * distance
        return (1.0 + scaled + scaled**2 / 3.0) * torch.exp(-scaled)


def as_botorch(gp: GaussianProcess) -> SingleTaskGP:
    """Return the model as BoTorch's, in evaluation mode and double precision.

    Data, hyperparameters, priors and bounds are the same. The targets are already warped and
    standardised, so there is no outcome transform. If all points have the same noise, it is a
    parameter of a `GaussianLikelihood`, and the model can be fitted again with
    `fit_gpytorch_mll`; otherwise the noise is fixed.
    """
    data, hyperparameters = gp.data, gp.hyperparameters
    double: dict[str, Any] = {"dtype": torch.double, "device": torch.device("cpu")}
    train_x = torch.as_tensor(data.features, **double)
    train_y = torch.as_tensor(data.targets, **double).unsqueeze(-1)
    location, scale = gp.family.lengthscale_prior(data.dimension)
    kernel = GroupedKernel(
        torch.as_tensor(data.groups),
        gp.family,
        lengthscale_prior=LogNormalPrior(location, scale),
        lengthscale_constraint=Interval(*LENGTHSCALE_BOUNDS),
    )
    covariance = ScaleKernel(
        kernel,
        outputscale_prior=LogNormalPrior(*gp.family.outputscale_prior),
        outputscale_constraint=Interval(*gp.family.outputscale_bounds),
    )
    factors = torch.as_tensor(data.noise_factors, **double)
    if bool((factors == 1.0).all()):
        likelihood = GaussianLikelihood(
            noise_prior=LogNormalPrior(*NOISE_PRIOR), noise_constraint=Interval(*NOISE_BOUNDS)
        ).to(**double)
    else:
        likelihood = FixedNoiseGaussianLikelihood(
            noise=(hyperparameters.noise * factors).clamp_min(NOISE_BOUNDS[0])
        )
    model = SingleTaskGP(
        train_x,
        train_y,
        likelihood=likelihood,
        covar_module=covariance.to(**double),
        mean_module=ConstantMean().to(**double),
        outcome_transform=None,
    )
    # The bounds are open in gpytorch: a value on one would be an infinite raw parameter.
    kernel.lengthscale = torch.as_tensor(hyperparameters.lengthscales, **double).clamp(
        LENGTHSCALE_BOUNDS[0] * (1 + 1e-9), LENGTHSCALE_BOUNDS[1] * (1 - 1e-9)
    )
    low, high = gp.family.outputscale_bounds
    covariance.outputscale = torch.tensor(hyperparameters.outputscale, **double).clamp(
        low * (1 + 1e-9), high * (1 - 1e-9)
    )
    if isinstance(likelihood, GaussianLikelihood):
        likelihood.noise = torch.tensor(hyperparameters.noise, **double).clamp(
            NOISE_BOUNDS[0] * (1 + 1e-9), NOISE_BOUNDS[1] * (1 - 1e-9)
        )
    with torch.no_grad():
        model.mean_module.constant.fill_(gp.mean)
    return model.eval()
