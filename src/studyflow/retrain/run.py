"""Trains what is planned, shows the means in MLflow and registers the chosen model."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from studyflow.context import StudyContext
from studyflow.errors import SpecError, StudyNotFound, TrackingError
from studyflow.observers.observer import Observer
from studyflow.reports.stored import stored_study
from studyflow.retrain.plan import RetrainPlan, retrain_name, value_of
from studyflow.retrain.results import (
    Champion,
    Repeats,
    RetrainResult,
    describe_luck,
    rank_repeats,
    results_markdown,
    results_table,
)
from studyflow.runner import RunOptions, cancel_study, run_study
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.trial.record import TrialRecord

NO_MODEL: Final = (
    "No model was registered: no artifact of the trials is one, as far as its name says. "
    "Hint: keep it by sdk.artifact(path) before sdk.finish(), or name it by --artifact."
)


@dataclass(frozen=True)
class Registration:
    """How the model of the best configuration goes to MLflow's registry."""

    artifact: str | None = None
    """Which artifact of a trial is the model; `None` for the only one that is no table, picture or
    text, or the one called `model` with any ending."""
    model: str | None = None
    """Its name in the registry; `None` for the study's."""
    alias: str = "champion"
    """Alias that the version gets, and that an earlier version loses."""


def retrain(
    plan: RetrainPlan,
    settings: Settings,
    observer: Observer,
    options: RunOptions,
    *,
    registration: Registration | None = Registration(),
) -> RetrainResult:
    """Train what is planned, choose by the mean, and register the model of the chosen one.

    What MLflow refuses is the result's `problem`: the repeats are kept, and asking again trains
    nothing twice.

    Args:
        plan: What to train.
        settings: Where storage, MLflow and files are.
        observer: Hears of every trial.
        options: How the repeats are run.
        registration: How the model is registered; `None` for not at all.

    Raises:
        StudyflowError: The repeats cannot be run.
    """
    context = StudyContext(_linked(plan, settings), settings)
    run = run_study(context, observer, options)
    ranking = rank_repeats(plan, run.data.records)
    result = RetrainResult(plan, ranking, run, notes=tuple(describe_luck(plan, ranking)))
    if not result.is_complete:
        unfinished = f"Not everything was trained, so nothing is chosen: {run.outcome.reason}"
        result = replace(result, notes=(*result.notes, unfinished))
    if not context.has_mlflow:
        return result
    try:
        _note_results(result, settings)
        if registration is not None and result.best is not None and result.is_complete:
            champion = _register(result, result.best, registration)
            note = () if champion else (NO_MODEL,)
            result = replace(result, champion=champion, notes=(*result.notes, *note))
    except TrackingError as error:
        return replace(result, problem=error)
    return result


def cancel_retrain(
    spec: StudySpec, settings: Settings, observer: Observer, *, folder: Path
) -> None:
    """End the running trials of a study and of its repeats, whose process was killed.

    Args:
        spec: The study whose configurations were trained again.
        settings: Where storage, MLflow and files are.
        observer: Hears of everything, and of what could not be ended.
        folder: Folder that relative paths in `trial.command` start from.

    Raises:
        StudyflowError: They cannot be ended.
    """
    for name in (spec.name, retrain_name(spec)):
        try:
            known = stored_study(name, settings).spec
        except (StudyNotFound, SpecError):
            continue
        cancel_study(StudyContext(known, settings), observer, folder=folder)


def _linked(plan: RetrainPlan, settings: Settings) -> StudySpec:
    """Return the study of the repeats, its run placed below the run of the study they repeat."""
    with StudyContext(plan.source.spec, settings) as source:
        if not source.has_mlflow:
            return plan.spec
        try:
            parent = source.mlflow.find_study()
        except TrackingError:
            parent = None  # MLflow is away; the name of the study is a tag all the same
    if parent is None:
        return plan.spec
    document = plan.spec.model_dump(mode="json", exclude_unset=True)
    document["tags"] |= {"mlflow.parentRunId": parent}
    return StudySpec.from_mapping(document)


def _note_results(result: RetrainResult, settings: Settings) -> None:
    """Leave the means on the run of the repeats."""
    table = json.dumps(results_table(result), indent=2, ensure_ascii=False)
    with StudyContext(result.plan.spec, settings) as context:
        context.mlflow.note_study(results_markdown(result), {"retrain.json": table})


def _register(result: RetrainResult, best: Repeats, registration: Registration) -> Champion | None:
    """Register the model of the best configuration's typical repeat; `None` if it keeps none.

    Raises:
        TrackingError: MLflow refuses, or it is not clear which artifact is the model.
    """
    from studyflow.tracking.registry import ModelRegistry, choose_artifact, model_name

    typical = best.typical
    if typical.run_id is None:
        raise TrackingError(
            f"Trial {typical.number} of {result.plan.spec.name!r} has no MLflow run yet.",
            hint=f"studyflow sync {result.plan.spec.name}",
        )
    registry = ModelRegistry(result.run.tracking_uri)
    chosen = choose_artifact(registry.artifacts(typical.run_id), registration.artifact)
    if chosen is None:
        return None
    name = model_name(registration.model or result.plan.source.spec.name)
    version = registry.register(
        typical.run_id,
        chosen,
        name=name,
        alias=registration.alias,
        description=_describe_champion(result, best, typical),
        tags={
            "studyflow.study": result.plan.source.spec.name,
            "studyflow.trial": str(best.configuration.trials[0].number),
            "studyflow.mean": f"{best.mean:.12g}",
            "studyflow.repeats": str(len(best.values)),
        },
    )
    return Champion(name, version, registration.alias, typical.run_id, chosen)


def _describe_champion(result: RetrainResult, best: Repeats, typical: TrialRecord) -> str:
    metric = result.plan.source.metrics[0]
    interval = best.interval
    spread = "" if interval is None else f" (95 % interval {interval[0]:.6g} to {interval[1]:.6g})"
    return (
        f"{best.configuration.label} of study {result.plan.source.spec.name}: {metric} "
        f"{best.mean:.6g} on average of {len(best.values)} repeats{spread}. This version is the "
        f"repeat in the middle, with {metric} {value_of(typical):.6g}."
    )
