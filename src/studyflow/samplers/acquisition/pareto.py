"""Several objectives: BoTorch's acquisition functions over one model per objective.

Imports BoTorch; only studies with several objectives load this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from botorch.acquisition.multi_objective import logei
from botorch.acquisition.multi_objective.objective import IdentityMCMultiOutputObjective
from botorch.acquisition.multi_objective.parego import qLogNParEGO
from botorch.models.model_list_gp_regression import ModelListGP
from botorch.sampling.normal import SobolQMCNormalSampler
from botorch.utils.multi_objective.pareto import is_non_dominated

from studyflow.samplers.acquisition.closed_form import Feasibility
from studyflow.samplers.acquisition.torch_acquisition import BoTorchAcquisition
from studyflow.samplers.arrays import BoolArray, FloatArray
from studyflow.samplers.deadline import NEVER, Deadline
from studyflow.samplers.models.torch_model import as_botorch

if TYPE_CHECKING:
    from studyflow.samplers.models.gaussian_process import GaussianProcess

MAX_HYPERVOLUME_OBJECTIVES: Final = 4
"""Above this, partitioning the dominated space costs more than it is worth; ParEGO scalarises."""
N_SAMPLES: Final = 64

# BoTorch would compile a C++ extension with the machine's own instruction set at first use: half a
# minute in a fresh container, a warning where there is no compiler, and results that differ in the
# last bits between machines. This is the sentinel by which it remembers having tried.
logei._load_attempted = True


def multi_objective_acquisition(
    models: Sequence[GaussianProcess],
    *,
    feasibility: Sequence[Feasibility],
    eligible: BoolArray,
    pending: FloatArray,
    seed: int,
    device: str,
    deadline: Deadline = NEVER,
) -> BoTorchAcquisition:
    """Return the log of expected hypervolume improvement, or of ParEGO for many objectives.

    Args:
        models: One per objective, fitted to the same points.
        feasibility: Quantities to be kept at or below a bound.
        eligible: Which of the points are feasible, `n`.
        pending: Features of points still running, `p x f`.
        seed: Decides the Monte Carlo samples and ParEGO's weights.
        device: Where to compute.
        deadline: After it, points are no longer evaluated.
    """
    double: dict[str, Any] = {"dtype": torch.double, "device": device}
    m = len(models)
    model = ModelListGP(*(as_botorch(gp) for gp in (*models, *(f.model for f in feasibility))))
    model = model.to(**double)
    targets = np.stack([gp.data.targets for gp in models], axis=1)
    # Models of partly measured constraints have fewer points; the objectives' are the baseline.
    options: dict[str, Any] = {
        "model": model,
        "X_baseline": torch.as_tensor(models[0].data.features, **double),
        "sampler": SobolQMCNormalSampler(torch.Size([N_SAMPLES]), seed=seed),
        "objective": IdentityMCMultiOutputObjective(
            outcomes=list(range(m)), num_outcomes=m + len(feasibility)
        ),
        "constraints": [_at_most(m + k, term.bound) for k, term in enumerate(feasibility)] or None,
        "X_pending": torch.as_tensor(pending, **double) if len(pending) else None,
        "prune_baseline": True,
    }
    if m > MAX_HYPERVOLUME_OBJECTIVES:
        weights = np.random.default_rng(seed).dirichlet(np.ones(m))
        parego = qLogNParEGO(scalarization_weights=torch.as_tensor(weights, **double), **options)
        return BoTorchAcquisition(parego, name="qLogNParEGO", device=device, deadline=deadline)
    ref_point = reference_point(targets[eligible] if eligible.any() else targets)
    function = logei.qLogNoisyExpectedHypervolumeImprovement(
        ref_point=ref_point.tolist(), **options
    )
    return BoTorchAcquisition(function, name="qLogNEHVI", device=device, deadline=deadline)


def reference_point(targets: FloatArray) -> FloatArray:
    """Return the nadir of the Pareto set less a tenth of its range, `m` (maximisation).

    Of the Pareto set, not of all points: one diverged trial must not stretch the box in which
    improvement is measured. An objective that is constant on the set gets a tenth of a standard
    deviation.

    Args:
        targets: Standardised objective values, `n x m`.
    """
    front = targets[is_non_dominated(torch.as_tensor(targets)).numpy()]
    spread = np.ptp(front, axis=0)
    return np.asarray(front.min(axis=0) - 0.1 * np.where(spread > 1e-9, spread, 1.0))


def _at_most(index: int, bound: float) -> Any:
    """Return BoTorch's form of a constraint: negative where outcome `index` is below the bound."""

    def slack(samples: torch.Tensor) -> torch.Tensor:
        return samples[..., index] - bound

    return slack
