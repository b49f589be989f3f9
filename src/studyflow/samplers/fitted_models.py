"""The models of a history, fitted, and the acquisition function that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.special import log_ndtr

from studyflow.samplers.acquisition.closed_form import (
    Acquisition,
    Feasibility,
    LogExpectedImprovement,
    LogFeasibility,
)
from studyflow.samplers.arrays import BoolArray, FloatArray, IntArray
from studyflow.samplers.candidates import CHEAP_SEARCH, SearchEffort
from studyflow.samplers.deadline import Deadline
from studyflow.samplers.history import History
from studyflow.samplers.models.fitting import MAX_FIT_POINTS, Structure, fit
from studyflow.samplers.models.gaussian_process import GaussianProcess, TrainingData, merge_repeats
from studyflow.samplers.outcome_transforms import (
    TransformedObjective,
    diverged,
    standardise_constraint,
    transform_objective,
)
from studyflow.samplers.request import ProposalRequest
from studyflow.samplers.space.encoding import Encoding

MAX_MODEL_POINTS: Final = 1500
"""Above this many finished points the model uses an active set; exact inference is cubic."""

MIN_MEASURED: Final = 4
"""Fewer values than this are all that is known; those of diverged trials are then used as well."""

RISK_NOISE: Final = 0.1
"""Least noise of the model of failures, whose targets are +1 and -1."""

NOISY: Final = 1e-3
"""Share of noise in the variance above which measurements are not taken for the truth."""

N_ANCHORS: Final = 8
"""Best finished points around which the search perturbs."""


@dataclass(frozen=True)
class FittedModels:
    """The models of a history, and what they make of every point of the space."""

    objectives: tuple[TransformedObjective, ...]
    """By objective: its values on the scale of its model."""
    models: tuple[GaussianProcess, ...]
    acquisition: Acquisition
    effort: SearchEffort
    anchors: FloatArray
    """Codes of the finished points around which to search, `a x d`."""


def fit_models(
    history: History, encoding: Encoding, request: ProposalRequest, *, structure: Structure
) -> FittedModels:
    """Return the models of a history, and the acquisition function to be maximised.

    Args:
        history: At least one completed trial.
        encoding: The space.
        request: Directions, seeds and the time there is.
        structure: How much of the model to fit.

    Raises:
        LinAlgError: A model could not be fitted.
        OutOfTime: The deadline passed.
    """
    objectives = [
        transform_objective(history.values[:, k], maximize=maximize)
        for k, maximize in enumerate(request.maximize)
    ]
    targets = np.stack([objective.targets for objective in objectives], axis=1)
    lost = _diverged(history, request)
    history, targets = _count_as_failed(history, lost), targets[~lost]
    rows = active_set(encoding.features(history.codes), targets.mean(axis=1), MAX_MODEL_POINTS)
    features = encoding.features(history.codes[rows])

    models: list[GaussianProcess] = []
    merged_into: IntArray = np.arange(len(rows))
    for k in range(len(objectives)):
        request.deadline.check()
        data = TrainingData(
            features, targets[rows, k], encoding.groups, history.noise_factors[rows]
        )
        data, merged_into = merge_repeats(data)
        models.append(_fit(data, structure, exact=request.exact, deadline=request.deadline))

    # An imputed value is no incumbent: nobody measured it.
    may_be_best = (history.feasible & (np.arange(len(history.codes)) < history.n_completed))[rows]
    eligible = np.bincount(merged_into, weights=may_be_best) > 0
    terms = _feasibility(history, encoding, structure, request.deadline)
    pending = encoding.features(history.pending)
    request.deadline.check()
    acquisition, effort = _acquisition(models, eligible, terms, pending, request)
    return FittedModels(
        objectives=tuple(objectives),
        models=tuple(models),
        acquisition=acquisition,
        effort=effort,
        anchors=_anchors(history.codes[rows], models[0], merged_into, may_be_best),
    )


def _diverged(history: History, request: ProposalRequest) -> BoolArray:
    """Return which finished trials diverged, `n`; none if too little else is known."""
    none = np.zeros(len(history.codes), dtype=np.bool_)
    if len(request.maximize) > 1 or history.constraints.shape[1]:
        return none
    lost = diverged(history.values[:, 0], maximize=request.maximize[0])
    return lost if (~lost).sum() >= MIN_MEASURED else none


def _count_as_failed(history: History, lost: BoolArray) -> History:
    """Return the history with trials that diverged among those failed through their parameters.

    As values they would dig a hole into the model wherever one trial in twenty diverges by chance,
    near the optimum too. As failures they count only if they can be predicted.
    """
    if not lost.any():
        return history
    return replace(
        history,
        codes=history.codes[~lost],
        values=history.values[~lost],
        noise_factors=history.noise_factors[~lost],
        constraints=history.constraints[~lost],
        failed=np.concatenate([history.failed, history.codes[lost]]),
        n_completed=int((~lost[: history.n_completed]).sum()),
    )


def active_set(features: FloatArray, targets: FloatArray, limit: int) -> IntArray:
    """Return the rows that represent a long history, at most `limit`, in their order.

    A quarter are the best points, half the nearest to the best one, and the rest evenly spaced in
    time, which keeps the model honest about the remainder of the space.
    """
    n = len(targets)
    if n <= limit:
        return np.arange(n)
    order = np.argsort(-targets, kind="stable")
    best = order[: limit // 4]
    distance = ((features - features[order[0]]) ** 2).sum(axis=1)
    distance[best] = np.inf
    near = np.argsort(distance, kind="stable")[: limit // 2]
    rest = np.setdiff1d(np.arange(n), np.concatenate([best, near]))
    spread = rest[np.linspace(0, len(rest) - 1, limit - len(best) - len(near)).astype(np.int64)]
    return np.unique(np.concatenate([best, near, spread]))


def _fit(
    data: TrainingData, structure: Structure, *, exact: bool, deadline: Deadline
) -> GaussianProcess:
    fit_rows = None
    n = len(data.targets)
    if n > MAX_FIT_POINTS:
        order = np.argsort(-data.targets, kind="stable")
        half = MAX_FIT_POINTS // 2
        rest = np.sort(order[half:])
        spread = rest[np.linspace(0, len(rest) - 1, MAX_FIT_POINTS - half).astype(np.int64)]
        fit_rows = np.unique(np.concatenate([order[:half], spread]))
    if np.ptp(data.targets) == 0.0:
        # Equal values say nothing of lengthscales: fitted, they grow until all the space looks
        # known, and only its corners are left to try.
        structure = "prior"
    return fit(data, structure=structure, exact=exact, fit_rows=fit_rows, deadline=deadline)


def _feasibility(
    history: History, encoding: Encoding, structure: Structure, deadline: Deadline
) -> list[Feasibility]:
    """Return a term for each measured constraint, and one for the risk of failure if it is real."""
    terms: list[Feasibility] = []
    features = encoding.features(history.codes)
    for k in range(history.constraints.shape[1]):
        known = np.flatnonzero(~np.isnan(history.constraints[:, k]))
        if not len(known):
            continue
        values, bound = standardise_constraint(history.constraints[known, k])
        rows = known[active_set(features[known], values, MAX_MODEL_POINTS)]
        values = values[np.searchsorted(known, rows)]
        data = TrainingData(features[rows], values, encoding.groups, np.ones(len(rows)))
        deadline.check()
        model = _fit(merge_repeats(data)[0], structure, exact=False, deadline=deadline)
        terms.append(Feasibility(model, bound))
    risk = _failure_risk(history, encoding, structure, deadline)
    return [*terms, risk] if risk is not None else terms


def _failure_risk(
    history: History, encoding: Encoding, structure: Structure, deadline: Deadline
) -> Feasibility | None:
    """Return the model of which parameters make trials fail, or `None` if it predicts nothing.

    A regression on +1 (failed) and -1 (finished), read as a probit. It is used only if it predicts
    each trial from the others better than the mere rate of failures does; a few failures that hit
    at random must not fence off the regions they happened in.
    """
    failures = len(history.failed)
    if not failures:
        return None
    codes = np.concatenate([history.codes, history.failed])
    labels = np.concatenate([-np.ones(len(history.codes)), np.ones(failures)])
    features = encoding.features(codes)
    rows = active_set(features, labels, MAX_FIT_POINTS)
    data = TrainingData(features[rows], labels[rows], encoding.groups, np.ones(len(rows)))
    # A step, not a measurement: without noise it would be explained by short lengthscales, and
    # every gap between failures would look safe.
    merged, _ = merge_repeats(data)
    deadline.check()
    model = fit(merged, structure=structure, noise_floor=RISK_NOISE, deadline=deadline)
    seen = model.data.targets
    mean, variance = model.leave_one_out()
    by_model = float(log_ndtr(np.sign(seen) * mean / np.sqrt(variance)).sum())
    # Laplace's rule, leaving one out: how often the other trials failed.
    failed = seen > 0
    rates = (failed.sum() - failed + 1.0) / (len(seen) - 1 + 2.0)
    by_rate = float(np.log(np.where(failed, rates, 1.0 - rates)).sum())
    return Feasibility(model, 0.0) if by_model > by_rate else None


def _acquisition(
    models: Sequence[GaussianProcess],
    eligible: BoolArray,
    terms: Sequence[Feasibility],
    pending: FloatArray,
    request: ProposalRequest,
) -> tuple[Acquisition, SearchEffort]:
    if not eligible.any() and terms:
        return LogFeasibility(terms, pending=pending), SearchEffort()
    if len(models) == 1:
        acquisition = LogExpectedImprovement(
            models[0],
            pending=pending,
            eligible=eligible if eligible.any() else None,
            feasibility=terms,
            fantasy_seed=request.fantasy_seed,
            noisy=models[0].hyperparameters.noise > NOISY,
        )
        return acquisition, SearchEffort()
    from studyflow.samplers.acquisition.pareto import multi_objective_acquisition

    function = multi_objective_acquisition(
        models,
        feasibility=terms,
        eligible=eligible,
        pending=pending,
        seed=request.fantasy_seed,
        device=request.device,
        deadline=request.deadline,
    )
    return function, CHEAP_SEARCH


def _anchors(
    codes: FloatArray, model: GaussianProcess, merged_into: IntArray, may_be_best: BoolArray
) -> FloatArray:
    """Return the codes of the finished points the model thinks best, at most `N_ANCHORS`."""
    score = np.where(may_be_best, model.fitted[merged_into], -np.inf)
    # One anchor per merged point, whichever repeat comes first.
    _, first = np.unique(merged_into, return_index=True)
    order = first[np.argsort(-score[first], kind="stable")]
    return codes[order[:N_ANCHORS]]
