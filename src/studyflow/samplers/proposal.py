"""From a study's history to the next point: models, acquisition function, search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from studyflow.samplers.arrays import FloatArray
from studyflow.samplers.candidates import Candidate, search
from studyflow.samplers.explanation import ObjectiveModel
from studyflow.samplers.fitted_models import fit_models
from studyflow.samplers.history import History
from studyflow.samplers.models.fitting import Structure
from studyflow.samplers.models.gaussian_process import GaussianProcess
from studyflow.samplers.outcome_transforms import (
    TransformedObjective,
)
from studyflow.samplers.request import ProposalRequest
from studyflow.samplers.space.encoding import Encoding


@dataclass(frozen=True)
class Proposal:
    """A point and what the models said about it."""

    codes: FloatArray
    objectives: tuple[ObjectiveModel, ...]
    acquisition: str | None
    acquisition_value: float | None
    is_repeat: bool
    expected_cost: float | None
    """What a trial there is expected to cost, in GPU-seconds; `None` if that did not count."""


def propose(
    history: History,
    encoding: Encoding,
    request: ProposalRequest,
    *,
    structure: Structure,
    early: History | None = None,
) -> Proposal:
    """Return the point to evaluate next.

    A pure function as long as the deadline does not pass: the same history and request give the
    same proposal, to the last bit on one machine. If it passes during the search, the proposal is
    the best point found until then.

    Args:
        history: At least one completed trial.
        encoding: The space.
        request: Directions, seeds and the time there is.
        structure: How much of the model to fit.
        early: See `fit_models`.

    Raises:
        LinAlgError: A model could not be fitted.
        OutOfTime: The deadline passed before the search.
    """
    fitted = fit_models(history, encoding, request, structure=structure, early=early)
    request.deadline.check()
    candidate = search(
        fitted.acquisition,
        encoding,
        anchors=fitted.anchors,
        tried=history.tried,
        pending=history.pending,
        fixed=request.fixed,
        generator=np.random.default_rng(request.search_seed),
        effort=request.effort or fitted.effort,
        deadline=request.deadline,
    )
    return Proposal(
        codes=candidate.codes,
        objectives=tuple(
            _explain(model, objective, encoding, candidate)
            for model, objective in zip(fitted.models, fitted.objectives, strict=True)
        ),
        acquisition=fitted.acquisition.name,
        acquisition_value=candidate.value,
        is_repeat=candidate.is_repeat,
        expected_cost=(
            None
            if request.cost is None
            else request.cost.at(encoding.features(candidate.codes[None])[0])
        ),
    )


def _explain(
    model: GaussianProcess,
    objective: TransformedObjective,
    encoding: Encoding,
    candidate: Candidate,
) -> ObjectiveModel:
    mean, variance = model.posterior(encoding.features(candidate.codes[None]))
    predicted_mean, predicted_sd = objective.to_objective_units(
        float(mean[0]), float(np.sqrt(variance[0]))
    )
    return ObjectiveModel(
        predicted_mean=predicted_mean,
        predicted_sd=predicted_sd,
        noise_sd=float(np.sqrt(model.hyperparameters.noise)) * objective.scale,
        lengthscales=dict(
            zip(encoding.names, map(float, model.hyperparameters.lengthscales), strict=True)
        ),
        warp=objective.warp,
    )
