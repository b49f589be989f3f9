"""Trains the best configurations of a study again, with fresh seeds, to tell luck from merit.

The best value of a study is too good: it is the smallest of many, and some of what made it so was
the seed. Here each of the best configurations is trained again with the same few new seeds, the
one with the best mean is chosen, and its model goes to MLflow's registry.

The repeats are a study of their own, `NAME-retrain`, whose points are all enqueued: it runs on the
same executors, is continued after a crash, and finishes at once when it is asked for again.
"""

from __future__ import annotations

import importlib.util
import json
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from studyflow.errors import SpecError, StudyError, StudyNotFound, TrackingError
from studyflow.executors import Executor
from studyflow.observer import Observer
from studyflow.record import TrialRecord, TrialState
from studyflow.reports import StudyData
from studyflow.runner import (
    StudyResult,
    make_mlflow_tracker,
    run_study,
    tracking_uri,
)
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.storage import open_storage
from studyflow.study import find_study, load_records
from studyflow.trial import Cause, ParamValue

SEED_PARAMETER: Final = "seed"
"""What most scripts call it."""

RETRAINS_TAG: Final = "studyflow.retrains"
"""Tag of a study that trains configurations of another one again: names that one."""

LARGEST_SEED: Final = 999_999
"""Largest seed drawn: short enough to be read, small enough for every generator."""

CONFIDENCE: Final = 0.95

NO_MODEL: Final = (
    "No model was registered: no artifact of the trials is one, as far as its name says. "
    "Hint: keep it by sdk.artifact(path) before sdk.finish(), or name it by --artifact."
)


@dataclass(frozen=True)
class Configuration:
    """Parameters without their seed, and the trials of the study that had them."""

    params: Mapping[str, ParamValue]
    """The searched ones."""
    trials: tuple[TrialRecord, ...]
    """Complete and feasible, by number; several when the study itself searched the seed."""

    @property
    def value(self) -> float:
        """What the study says of it: the mean of its trials."""
        return statistics.fmean(_value(record) for record in self.trials)

    @property
    def label(self) -> str:
        """Its first trial, for people."""
        return f"trial {self.trials[0].number}"

    def holds(self, params: Mapping[str, ParamValue], seed_parameter: str) -> bool:
        """Whether a trial with these searched parameters is a repeat of this configuration."""
        return _key(_without(params, seed_parameter)) == _key(self.params)


@dataclass(frozen=True)
class RetrainPlan:
    """What is to be trained, before anything is."""

    source: StudyData
    """The study whose configurations these are."""
    configurations: tuple[Configuration, ...]
    """The best first."""
    seeds: tuple[int, ...]
    """The same for every configuration, so that they are compared under equal luck."""
    seed_parameter: str
    spec: StudySpec
    """The study of the repeats."""


@dataclass(frozen=True)
class Repeats:
    """The trainings of one configuration."""

    configuration: Configuration
    records: tuple[TrialRecord, ...]
    """Finished ones, by number; cancelled ones are left out."""
    seed_parameter: str

    @cached_property
    def values(self) -> Mapping[int, float]:
        """The objective by seed, of the repeats that ended with a feasible value."""
        return {
            _whole(record.params[self.seed_parameter]): _value(record)
            for record in self.records
            if record.is_feasible
        }

    @property
    def n_failed(self) -> int:
        """How many ended without a feasible value."""
        return len(self.records) - len(self.values)

    @property
    def mean(self) -> float | None:
        """Mean of the values; `None` without any."""
        return statistics.fmean(self.values.values()) if self.values else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where the mean of ever more repeats would lie, with 95 % confidence (Student's t).

        `None` for fewer than two values.
        """
        return confidence_interval(tuple(self.values.values()))

    @property
    def typical(self) -> TrialRecord:
        """The repeat whose value is the (lower) median: what the configuration usually gives.

        The best one would be chosen by its luck again. There is none without values.
        """
        good = sorted((_value(r), r.number, r) for r in self.records if r.is_feasible)
        return good[(len(good) - 1) // 2][2]


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


@dataclass(frozen=True)
class Champion:
    """The model that was registered."""

    name: str
    version: str
    alias: str
    run_id: str
    artifact: str


@dataclass(frozen=True)
class RetrainResult:
    """What the repeats say."""

    plan: RetrainPlan
    ranking: tuple[Repeats, ...]
    """The best mean first; configurations of which repeats failed come after the others."""
    run: StudyResult
    champion: Champion | None = None
    notes: tuple[str, ...] = ()
    """What a person should know before believing the numbers, one sentence each."""
    problem: TrackingError | None = None
    """Why MLflow does not have the means or the model; the same command tries again."""

    @property
    def best(self) -> Repeats | None:
        """The configuration of the best mean; `None` when no repeat returned a value."""
        first = self.ranking[0] if self.ranking else None
        return first if first is not None and first.values else None


def plan_retrain(
    source: StudyData,
    settings: Settings,
    *,
    top: int = 1,
    repeats: int = 5,
    seed_parameter: str | None = None,
    max_parallel_trials: int | None = None,
) -> RetrainPlan:
    """Return what would be trained; starts nothing.

    Args:
        source: The study, with its trials.
        settings: Where studies are.
        top: How many of its configurations to train again.
        repeats: Trainings of each one.
        seed_parameter: Parameter by which the script takes its seed; by default `seed`, if the
            study has one.
        max_parallel_trials: Trials that run at once; the study's own number by default.

    Raises:
        StudyError: No trial has finished with a feasible value, or there are several objectives.
        SpecError: The script has no input for a seed, as far as the study file says.
    """
    if source.is_multi_objective:
        raise StudyError(
            f"{source.spec.name!r} has {len(source.metrics)} objectives, and a mean of several "
            "ranks nothing.",
            hint="retrain works on studies with one objective.",
        )
    name = choose_seed_parameter(source.spec, seed_parameter)
    configurations = rank_configurations(source, name)[:top]
    if not configurations:
        raise StudyError(
            f"No trial of {source.spec.name!r} has finished with a feasible value yet.",
            hint="run the study first: studyflow run.",
        )
    seeds = fresh_seeds(source, name, repeats)
    known = _known_records(retrain_name(source.spec), settings)
    spec = retrain_spec(
        source.spec,
        configurations,
        seeds,
        name,
        known=known,
        max_parallel_trials=max_parallel_trials,
    )
    return RetrainPlan(source, configurations, seeds, name, spec)


def retrain(
    plan: RetrainPlan,
    settings: Settings,
    observer: Observer,
    *,
    folder: Path,
    registration: Registration | None = Registration(),
    on_executor: Callable[[Executor], None] | None = None,
    ends_trials: Callable[[], bool] = lambda: True,
) -> RetrainResult:
    """Train what is planned, choose by the mean, and register the model of the chosen one.

    What MLflow refuses is the result's `problem`: the repeats are kept, and asking again trains
    nothing twice.

    Args:
        plan: What to train.
        settings: Where storage, MLflow and files are.
        observer: Hears of every trial.
        folder: Folder that relative paths in `trial.command` start from.
        registration: How the model is registered; `None` for not at all.
        on_executor: Is given the executor before the first trial, for reading logs.
        ends_trials: Asked when this runner is told to end: whether its trials end with it.

    Raises:
        StudyflowError: The repeats cannot be run.
    """
    run = run_study(
        _linked(plan, settings),
        settings,
        observer,
        folder=folder,
        on_executor=on_executor,
        ends_trials=ends_trials,
    )
    ranking = rank_repeats(plan, run.data.records)
    result = RetrainResult(plan, ranking, run, notes=tuple(describe_luck(plan, ranking)))
    if importlib.util.find_spec("mlflow") is None:
        return result
    try:
        _note_results(result, settings)
        if registration is not None and result.best is not None:
            champion = _register(result, result.best, settings, registration)
            note = () if champion else (NO_MODEL,)
            result = replace(result, champion=champion, notes=(*result.notes, *note))
    except TrackingError as error:
        return replace(result, problem=error)
    return result


# What to train: pure


def choose_seed_parameter(spec: StudySpec, wanted: str | None = None) -> str:
    """Return the parameter by which a study's script takes its seed.

    Raises:
        SpecError: The study has none of the usual name, and none was named.
    """
    if wanted is not None:
        return wanted
    if SEED_PARAMETER in spec.fixed or SEED_PARAMETER in spec.search_space:
        return SEED_PARAMETER
    raise SpecError(
        f"The study {spec.name!r} has no parameter {SEED_PARAMETER!r}, so its script has no input "
        "for a fresh seed, and training a configuration again would return the same value. Hint: "
        "name the parameter by which the script takes its seed (--seed-parameter NAME), or give "
        f"the script one and the study file `fixed: {{{SEED_PARAMETER}: 0}}`."
    )


def rank_configurations(source: StudyData, seed_parameter: str) -> tuple[Configuration, ...]:
    """Return the configurations of a study, the best first; trials that differ by seed are one."""
    groups: dict[str, list[TrialRecord]] = {}
    space = source.space
    for record in source.complete:
        params = {name: v for name, v in record.params.items() if name in space}
        if record.is_feasible and not space.problems(params):
            groups.setdefault(_key(_without(params, seed_parameter)), []).append(record)
    configurations = [
        Configuration(
            {
                name: value
                for name, value in records[0].params.items()
                if name in space and name != seed_parameter
            },
            tuple(records),
        )
        for records in groups.values()
    ]
    sign = _sign(source.spec)
    return tuple(sorted(configurations, key=lambda c: (sign * c.value, c.trials[0].number)))


def fresh_seeds(source: StudyData, seed_parameter: str, n: int) -> tuple[int, ...]:
    """Return seeds that no trial of the study had.

    The same study gives the same ones, and more of them begin with those: so repeats can be added.
    """
    used = {record.params.get(seed_parameter) for record in source.records}
    stream = random.Random(source.spec.name)
    seeds: list[int] = []
    while len(seeds) < n:
        seed = stream.randint(1, LARGEST_SEED)
        if seed not in used and seed not in seeds:
            seeds.append(seed)
    return tuple(seeds)


def retrain_name(spec: StudySpec) -> str:
    """Return the name of the study that holds the repeats."""
    return f"{spec.name}-retrain"


def retrain_spec(
    spec: StudySpec,
    configurations: Sequence[Configuration],
    seeds: Sequence[int],
    seed_parameter: str,
    *,
    known: Sequence[TrialRecord] = (),
    max_parallel_trials: int | None = None,
) -> StudySpec:
    """Return the study that trains every configuration with every seed.

    Nothing is pruned: a mean needs whole trainings.

    Args:
        spec: The study that the configurations come from.
        configurations: What to train.
        seeds: What to train each one with.
        seed_parameter: Parameter that the seed is.
        known: Trials that this study has already. Those that were asked for earlier and are not
            among these points stay part of its budget, and are finished first.
        max_parallel_trials: Trials that run at once; the study's own number by default.

    Raises:
        SpecError: The result is no study, because its name is too long for one.
    """
    points = [{**c.params, seed_parameter: seed} for seed in seeds for c in configurations]
    wanted = {_key(point) for point in points}
    searched = {*spec.search_space, seed_parameter}
    n_others = sum(
        record.cause is not Cause.CANCELLED
        and _key({n: v for n, v in record.params.items() if n in searched}) not in wanted
        for record in known
    )
    document = spec.model_dump(mode="json", exclude_unset=True)
    for section in ("pruner", "stop"):
        document.pop(section, None)
    document |= {
        "name": retrain_name(spec),
        "description": f"The best configurations of {spec.name}, trained again with other seeds.",
        "tags": {**document.get("tags", {}), RETRAINS_TAG: spec.name},
        "experiment": spec.experiment or spec.name,
        "search_space": {
            **document["search_space"],
            seed_parameter: {"type": "int", "low": 0, "high": LARGEST_SEED},
        },
        "fixed": {n: v for n, v in document.get("fixed", {}).items() if n != seed_parameter},
        "enqueue": points,
        "sampler": {"type": "random", "seed": 0},
        "budget": {
            "n_trials": n_others + len(points),
            "max_parallel_trials": max_parallel_trials or spec.budget.max_parallel_trials,
        },
    }
    return StudySpec.from_mapping(document)


# What came out: pure


def rank_repeats(plan: RetrainPlan, records: Sequence[TrialRecord]) -> tuple[Repeats, ...]:
    """Return the repeats of every planned configuration, the best mean first.

    A configuration that sometimes fails comes after those that never do, whatever its mean.
    """
    searched = set(plan.spec.search_space)
    groups = []
    for configuration in plan.configurations:
        found = [
            record
            for record in records
            if record.state.is_finished
            and record.cause is not Cause.CANCELLED
            and configuration.holds(
                {n: v for n, v in record.params.items() if n in searched}, plan.seed_parameter
            )
        ]
        groups.append(Repeats(configuration, tuple(found), plan.seed_parameter))
    sign = _sign(plan.spec)

    def place(repeats: Repeats) -> tuple[bool, float, float]:
        mean = repeats.mean
        return (mean is None, repeats.n_failed, math.inf if mean is None else sign * mean)

    return tuple(sorted(groups, key=place))


def confidence_interval(
    values: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """Return Student's interval of the mean; `None` for fewer than two values."""
    if len(values) < 2:
        return None
    from scipy.stats import t  # takes a second to import

    mean = statistics.fmean(values)
    error = statistics.stdev(values) / math.sqrt(len(values))
    reach = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * error
    return mean - reach, mean + reach


def describe_luck(plan: RetrainPlan, ranking: Sequence[Repeats]) -> list[str]:
    """Return what a person should know before believing the means."""
    notes = []
    if any(len(r.values) > 1 for r in ranking) and all(
        len(set(r.values.values())) <= 1 for r in ranking
    ):
        notes.append(
            "The repeats of each configuration returned exactly the same value: either nothing in "
            f"the training is random, or the script does not use {plan.seed_parameter!r}."
        )
    elif len(ranking) > 1 and ranking[0].values and ranking[1].values:
        first, second = ranking[0], ranking[1]
        common = [seed for seed in first.values if seed in second.values]
        gaps = confidence_interval([first.values[s] - second.values[s] for s in common])
        if gaps is not None and gaps[0] <= 0 <= gaps[1]:
            notes.append(
                f"The difference between {first.configuration.label} and "
                f"{second.configuration.label} may be luck: with the same {len(common)} seeds, its "
                f"95 % interval {gaps[0]:.3g} to {gaps[1]:.3g} holds 0."
            )
    return notes


def results_table(result: RetrainResult) -> list[dict[str, object]]:
    """Return one row of JSON values for each configuration, the best first."""
    return [
        {
            "trials": [record.number for record in r.configuration.trials],
            "params": dict(r.configuration.params),
            "value_in_study": r.configuration.value,
            "mean": r.mean,
            "interval": None if r.interval is None else list(r.interval),
            "values": {str(seed): value for seed, value in r.values.items()},
            "n_failed": r.n_failed,
        }
        for r in result.ranking
    ]


def results_markdown(result: RetrainResult) -> str:
    """Return the results as MLflow shows them beside the run."""
    metric = result.plan.source.metrics[0]
    name, n_seeds = result.plan.source.spec.name, len(result.plan.seeds)
    lines = [
        f"The best configurations of **{name}**, trained again with {n_seeds} other seeds.",
        "",
        f"| configuration | {metric} in the study | mean | 95 % interval | repeats | failed |",
        "|---|---|---|---|---|---|",
    ]
    for r in result.ranking:
        mean = "" if r.mean is None else f"{r.mean:.6g}"
        interval = "" if r.interval is None else f"{r.interval[0]:.6g} to {r.interval[1]:.6g}"
        lines.append(
            f"| {r.configuration.label} | {r.configuration.value:.6g} | {mean} | {interval} | "
            f"{len(r.values)} | {r.n_failed} |"
        )
    return "\n".join([*lines, *(f"\n{note}" for note in result.notes)])


# MLflow


def _linked(plan: RetrainPlan, settings: Settings) -> StudySpec:
    """Return the study of the repeats, its run placed below the run of the study they repeat."""
    if importlib.util.find_spec("mlflow") is None:
        return plan.spec
    tracker = make_mlflow_tracker(settings, plan.source.spec)
    try:
        parent = tracker.find_study()
    except TrackingError:
        parent = None  # MLflow is away; the name of the study is a tag all the same
    finally:
        tracker.close()
    if parent is None:
        return plan.spec
    document = plan.spec.model_dump(mode="json", exclude_unset=True)
    document["tags"] |= {"mlflow.parentRunId": parent}
    return StudySpec.from_mapping(document)


def _note_results(result: RetrainResult, settings: Settings) -> None:
    """Leave the means on the run of the repeats."""
    tracker = make_mlflow_tracker(settings, result.plan.spec)
    try:
        tracker.note_study(
            results_markdown(result),
            {"retrain.json": json.dumps(results_table(result), indent=2, ensure_ascii=False)},
        )
    finally:
        tracker.close()


def _register(
    result: RetrainResult, best: Repeats, settings: Settings, registration: Registration
) -> Champion | None:
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
    registry = ModelRegistry(tracking_uri(settings))
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
        f"repeat in the middle, with {metric} {_value(typical):.6g}."
    )


# Small


def _known_records(name: str, settings: Settings) -> tuple[TrialRecord, ...]:
    try:
        stored = find_study(name, open_storage(settings.storage_url, create=False))
    except StudyNotFound:
        return ()
    return load_records(stored)[1]


def _value(record: TrialRecord) -> float:
    assert record.state is TrialState.COMPLETE, "only complete trials have values"
    assert record.values is not None, "a complete trial has values"
    return record.values[0]


def _whole(value: ParamValue) -> int:
    assert isinstance(value, int), "a seed is a whole number"
    return value


def _sign(spec: StudySpec) -> float:
    return 1.0 if spec.directions[0] == "minimize" else -1.0


def _without(params: Mapping[str, ParamValue], name: str) -> dict[str, ParamValue]:
    return {key: value for key, value in params.items() if key != name}


def _key(params: Mapping[str, ParamValue]) -> str:
    """Return a text that equal points share; `1`, `1.0` and `true` differ in it."""
    return json.dumps(dict(params), sort_keys=True)
