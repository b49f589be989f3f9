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
from studyflow.samplers.cost import WithCost
from studyflow.samplers.history import History
from studyflow.samplers.models.fitting import MAX_FIT_POINTS, Structure, fit
from studyflow.samplers.models.gaussian_process import GaussianProcess, TrainingData, merge_repeats
from studyflow.samplers.models.kernel_family import MATERN, SMOOTH, KernelFamily
from studyflow.samplers.outcome_transforms import (
    TransformedObjective,
    clean,
    diverged,
    standardise_constraint,
    transform_objective,
)
from studyflow.samplers.prior import WithPrior, power_of
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

PLAIN_SHAPE: Final = 0.9
"""Share of the variance of the plain values that a model has to predict, each trial from the
others, to be heard on where the bad half is. Chosen by measurement: with 0.7 the search misses the
best one of several hills."""

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
    history: History,
    encoding: Encoding,
    request: ProposalRequest,
    *,
    structure: Structure,
    early: History | None = None,
) -> FittedModels:
    """Return the models of a history, and the acquisition function to be maximised.

    Args:
        history: At least one completed trial.
        early: The same some trials earlier: what the objectives' hyperparameters are learnt from.
            `None` learns them from the history itself.
        encoding: The space.
        request: Directions, seeds and the time there is.
        structure: How much of the model to fit.

    Raises:
        LinAlgError: A model could not be fitted.
        OutOfTime: The deadline passed.
    """
    learning = None if early is None else _training(early, encoding, request)
    training = _training(history, encoding, request, learning)
    objectives, history, rows = training.objectives, training.history, training.rows
    models = _fit_objectives(training, learning, structure, request)
    merged_into = training.merged_into

    # An imputed value is no incumbent: nobody measured it.
    may_be_best = (history.feasible & (np.arange(len(history.codes)) < history.n_completed))[rows]
    eligible = np.bincount(merged_into, weights=may_be_best) > 0
    terms = _feasibility(history, encoding, structure, request)
    # Several objectives or a constraint are a reason to accept what is bad by one objective alone.
    if objectives[0].warp != "none" and len(objectives) == 1 and not history.constraints.shape[1]:
        terms += _better_half(history, early, encoding, structure, request)
    pending = encoding.features(history.pending)
    request.deadline.check()
    acquisition, effort = _acquisition(models, eligible, terms, pending, request)
    if request.prior is not None:
        known = np.mean([data.targets for data in training.data], axis=0)
        outcomes = np.concatenate([known, np.full(len(history.failed), known.min() - 1.0)])
        tried = np.concatenate([training.data[0].features, encoding.features(history.failed)])
        power = power_of(request.prior, tried, outcomes)
        acquisition = WithPrior(acquisition, request.prior, power)
    if request.cost is not None:
        acquisition = WithCost(acquisition, request.cost)
    return FittedModels(
        objectives=objectives,
        models=tuple(models),
        acquisition=acquisition,
        effort=effort,
        anchors=_anchors(history.codes[rows], models[0], merged_into, may_be_best),
    )


@dataclass(frozen=True)
class _Training:
    """What the objectives' models are made of."""

    history: History
    """Without the trials that diverged."""
    objectives: tuple[TransformedObjective, ...]
    rows: IntArray
    """Rows of the history that the models have as points."""
    data: tuple[TrainingData, ...]
    """By objective, without repeats."""
    merged_into: IntArray
    """For each of the rows the point that it went to."""
    n_base: int
    """The first so many points are those of the earlier history; 0 without one."""


def _training(
    history: History,
    encoding: Encoding,
    request: ProposalRequest,
    earlier: _Training | None = None,
) -> _Training:
    """Return what the models of a history are made of; the points of an earlier one come first."""
    objectives = tuple(
        transform_objective(history.values[:, k], maximize=maximize)
        for k, maximize in enumerate(request.maximize)
    )
    targets = np.stack([objective.targets for objective in objectives], axis=1)
    lost = _diverged(history, request)
    history, targets = _count_as_failed(history, lost), targets[~lost]
    n_base_rows = 0
    if earlier is None:
        rows = active_set(encoding.features(history.codes), targets.mean(axis=1), MAX_MODEL_POINTS)
    else:
        of_earlier = np.isin(history.numbers, earlier.history.numbers)
        in_base = np.isin(history.numbers, earlier.history.numbers[earlier.rows])
        base, later = np.flatnonzero(in_base), np.flatnonzero(~of_earlier)
        rows, n_base_rows = np.concatenate([base, later]), len(base)
    features = encoding.features(history.codes[rows])
    merged = [
        merge_repeats(
            TrainingData(features, targets[rows, k], encoding.groups, history.noise_factors[rows])
        )
        for k in range(len(objectives))
    ]
    merged_into = merged[0][1]
    n_base = int(merged_into[:n_base_rows].max(initial=-1)) + 1
    return _Training(
        history, objectives, rows, tuple(data for data, _ in merged), merged_into, n_base
    )


def _fit_objectives(
    training: _Training,
    learning: _Training | None,
    structure: Structure,
    request: ProposalRequest,
) -> list[GaussianProcess]:
    """Return the objectives' models, with hyperparameters learnt from the earlier data if any."""
    memory = request.memory
    models = []
    for k, data in enumerate(training.data):
        request.deadline.check()
        learnt_from = data if learning is None else learning.data[k]
        model = _fit(learnt_from, structure, exact=request.exact, request=request)
        if learning is not None:
            model = GaussianProcess(
                data, model.hyperparameters, training.n_base, memory.factors if memory else None
            )
        models.append(model)
    return models


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
        numbers=history.numbers[~lost],
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
    data: TrainingData,
    structure: Structure,
    *,
    exact: bool,
    request: ProposalRequest,
    family: KernelFamily = MATERN,
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
    return fit(
        data,
        structure=structure,
        family=family,
        exact=exact,
        fit_rows=fit_rows,
        deadline=request.deadline,
        fits=request.memory.fits if request.memory else None,
    )


def _feasibility(
    history: History, encoding: Encoding, structure: Structure, request: ProposalRequest
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
        request.deadline.check()
        model = _fit(merge_repeats(data)[0], structure, exact=False, request=request)
        terms.append(Feasibility(model, bound))
    risk = _failure_risk(history, encoding, structure, request)
    return [*terms, risk] if risk is not None else terms


def _failure_risk(
    history: History, encoding: Encoding, structure: Structure, request: ProposalRequest
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
    request.deadline.check()
    model = fit(
        merged,
        structure=structure,
        noise_floor=RISK_NOISE,
        deadline=request.deadline,
        fits=request.memory.fits if request.memory else None,
    )
    seen = model.data.targets
    mean, variance = model.leave_one_out()
    by_model = float(log_ndtr(np.sign(seen) * mean / np.sqrt(variance)).sum())
    # Laplace's rule, leaving one out: how often the other trials failed.
    failed = seen > 0
    rates = (failed.sum() - failed + 1.0) / (len(seen) - 1 + 2.0)
    by_rate = float(np.log(np.where(failed, rates, 1.0 - rates)).sum())
    return Feasibility(model, 0.0) if by_model > by_rate else None


def _better_half(
    history: History,
    early: History | None,
    encoding: Encoding,
    structure: Structure,
    request: ProposalRequest,
) -> list[Feasibility]:
    """Return a term for being better than the median, if the plain values say where that is.

    Of a search that succeeds the good half is short, whatever the function: its bad tail looks
    heavy, and ranks erase how bad the corners are, so that expected improvement goes back to them.
    A model of the values as they are knows it wherever they have a shape that it can predict. It
    takes them for a smooth function of any spread, because the objective's own model would not
    believe that a parabola goes on as it began, and would leave its corners open.
    """
    features = encoding.features(history.codes)
    values, _ = clean(history.values[:, 0], maximize=request.maximize[0])
    known = np.arange(len(values))
    if early is not None:
        known = np.flatnonzero(np.isin(history.numbers, early.numbers))
    badness = (values[known].mean() - values) / (float(values[known].std()) or 1.0)

    def data_of(eligible: IntArray) -> TrainingData:
        rows = eligible[active_set(features[eligible], -badness[eligible], MAX_FIT_POINTS)]
        data = TrainingData(
            features[rows], badness[rows], encoding.groups, history.noise_factors[rows]
        )
        return merge_repeats(data)[0]

    data = data_of(np.arange(len(values)))
    learnt_from = data if early is None else data_of(known)
    request.deadline.check()
    learnt = _fit(learnt_from, structure, exact=request.exact, request=request, family=SMOOTH)
    model = GaussianProcess(data, learnt.hyperparameters, family=SMOOTH)
    mean, _ = model.leave_one_out()
    seen = model.data.targets
    missed = float(((seen - mean) ** 2).sum())
    is_shaped = missed < (1.0 - PLAIN_SHAPE) * float(((seen - seen.mean()) ** 2).sum())
    return [Feasibility(model, float(np.median(badness)))] if is_shaped else []


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
