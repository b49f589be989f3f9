"""What to train again: configurations, seeds, and the study of the repeats."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from studyflow.errors import SpecError, StudyError, StudyNotFound
from studyflow.reports import StudyData
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.spec.parameters import CategoricalParameter, FloatParameter, describe
from studyflow.storage import open_storage
from studyflow.study import find_study, load_records
from studyflow.trial import Cause, ParamValue
from studyflow.trial.record import TrialRecord, TrialState

SEED_PARAMETER: Final = "seed"
"""What most scripts call it."""

RETRAINS_TAG: Final = "studyflow.retrains"
"""Tag of a study that trains configurations of another one again: names that one."""

LARGEST_SEED: Final = 999_999
"""Largest seed drawn: short enough to be read, small enough for every generator."""


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
        return statistics.fmean(value_of(record) for record in self.trials)

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
        max_parallel_trials: Trials that run in parallel; the study's own number by default.

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


def choose_seed_parameter(spec: StudySpec, wanted: str | None = None) -> str:
    """Return the parameter by which a study's script takes its seed.

    One that was named need not be in the study file: a script may have an input of its own for it.

    Raises:
        SpecError: The study has none of the usual name, and none was named; or what was named has
            values that are no seeds.
    """
    if wanted is not None:
        _check_seed_parameter(spec, wanted)
        return wanted
    if SEED_PARAMETER in spec.fixed or SEED_PARAMETER in spec.search_space:
        return SEED_PARAMETER
    raise SpecError(
        f"The study {spec.name!r} has no parameter {SEED_PARAMETER!r}, so its script has no input "
        "for a fresh seed, and training a configuration again would return the same value. Hint: "
        "name the parameter by which the script takes its seed (--seed-parameter NAME), or give "
        f"the script one and the study file `fixed: {{{SEED_PARAMETER}: 0}}`."
    )


def _check_seed_parameter(spec: StudySpec, name: str) -> None:
    """Make sure that a parameter may be a seed: its repeats get other whole numbers for its values.

    Raises:
        SpecError: The study gives it values that are no whole numbers.
    """
    parameter = spec.search_space.get(name)
    values: tuple[object, ...] = (spec.fixed[name],) if name in spec.fixed else ()
    if isinstance(parameter, CategoricalParameter):
        values = tuple(parameter.choices)
    is_other = isinstance(parameter, FloatParameter) or any(
        value is not None and (isinstance(value, bool) or not isinstance(value, int))
        for value in values
    )
    if is_other:
        what = describe(parameter) if parameter is not None else repr(spec.fixed[name])
        raise SpecError(
            f"{name} of the study {spec.name!r} is no seed: its values are {what}, and a seed is a "
            "whole number, drawn anew for each repeat.",
            hint="name the parameter by which the script takes its seed (--seed-parameter NAME).",
        )


def rank_configurations(source: StudyData, seed_parameter: str) -> tuple[Configuration, ...]:
    """Return the configurations of a study, the best first; trials that differ by seed are one."""
    groups: dict[str, list[TrialRecord]] = {}
    space = source.space
    for record in source.complete:
        params = space.on_grid({n: v for n, v in record.params.items() if n in space})
        if record.is_feasible and not space.problems(params):
            groups.setdefault(_key(_without(params, seed_parameter)), []).append(record)
    configurations = [
        Configuration(
            {
                name: value
                for name, value in space.on_grid(records[0].params).items()
                if name in space and name != seed_parameter
            },
            tuple(records),
        )
        for records in groups.values()
    ]
    sign = sign_of(source.spec)
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
        max_parallel_trials: Trials that run in parallel; the study's own number by default.

    Raises:
        SpecError: The result is no study, because its name is too long for one.
    """
    points = [{**c.params, seed_parameter: seed} for seed in seeds for c in configurations]
    wanted = {_key(spec.space.on_grid(point)) for point in points}
    searched = {*spec.search_space, seed_parameter}
    n_others = sum(
        record.cause not in (Cause.CANCELLED, Cause.BUDGET)
        and _key(spec.space.on_grid({n: v for n, v in record.params.items() if n in searched}))
        not in wanted
        for record in known
    )
    document = spec.model_dump(mode="json", exclude_unset=True)
    document.pop("pruner", None)
    document |= {
        # A repeat that fails stands for itself: no other point is to take its place.
        "stop": {"first_failures": 0},
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


def _known_records(name: str, settings: Settings) -> tuple[TrialRecord, ...]:
    try:
        stored = find_study(name, open_storage(settings.storage_url, create=False))
    except StudyNotFound:
        return ()
    return load_records(stored)[1]


def value_of(record: TrialRecord) -> float:
    """Return the objective of a complete trial."""
    assert record.state is TrialState.COMPLETE, "only complete trials have values"
    assert record.values is not None, "a complete trial has values"
    return record.values[0]


def sign_of(spec: StudySpec) -> float:
    """Return what makes an objective smaller when it gets better."""
    return 1.0 if spec.directions[0] == "minimize" else -1.0


def _without(params: Mapping[str, ParamValue], name: str) -> dict[str, ParamValue]:
    return {key: value for key, value in params.items() if key != name}


def _key(params: Mapping[str, ParamValue]) -> str:
    """Return a text that equal points share; `1`, `1.0` and `true` differ in it."""
    return json.dumps(dict(params), sort_keys=True)
