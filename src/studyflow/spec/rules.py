"""Rules that need more than one part of a study, as pure functions of what is known so far.

They work on a `Draft`, which may lack parts: a part with a problem of its own is left out, and what
would need it is not checked. So nothing is reported twice, and nothing hides anything else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel

from studyflow.spec.arguments import (
    AshaArguments,
    BotorchArguments,
    CurveArguments,
    HyperbandArguments,
)
from studyflow.spec.budget import BudgetSpec
from studyflow.spec.conditions import condition_problems
from studyflow.spec.models import (
    KEY_LIMIT,
    NAME_LIMIT,
    ConstraintSpec,
    ObjectiveSpec,
    PrunerSpec,
    SamplerSpec,
    StopSpec,
    TrialSpec,
)
from studyflow.spec.parameters import CategoricalParameter, FloatParameter, IntParameter, describe
from studyflow.spec.problems import BrokenRule, Path, suggest_name
from studyflow.spec.space import SearchSpace
from studyflow.spec.values import Scalar, show_scalar

GRID_LIMIT: Final = 100_000
"""Most points of a grid: Optuna's GridSampler holds them all in memory, for every runner."""

_ENV_FIRST: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_ENV_OTHER: Final = _ENV_FIRST | frozenset("0123456789")


@dataclass(frozen=True)
class Draft:
    """The parts of a study that are free of problems of their own."""

    name: str | None = None
    experiment: str | None = None
    objectives: Mapping[int, ObjectiveSpec] = field(default_factory=dict)
    """By position; the missing ones have problems."""
    n_objectives: int | None = None
    """How many there are, broken ones too; `None` when that is not known."""
    constraints: Mapping[int, ConstraintSpec] = field(default_factory=dict)
    parameters: Mapping[str, FloatParameter | IntParameter | CategoricalParameter] = field(
        default_factory=dict
    )
    broken_parameters: frozenset[str] = frozenset()
    """Parameters that exist but have problems; `parameters` lacks them."""
    stand_ins: Mapping[str, CategoricalParameter] = field(default_factory=dict)
    """For broken parameters whose `when` is sound: something with the same conditions."""
    metrics: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    """Metric by section and position, of broken objectives and constraints too."""
    is_space_known: bool = False
    """Whether `parameters` and `broken_parameters` are all there are."""
    fixed: Mapping[str, Scalar] = field(default_factory=dict)
    enqueue: Mapping[int, Mapping[str, Scalar]] = field(default_factory=dict)
    sampler: SamplerSpec | None = None
    sampler_arguments: BaseModel | None = None
    """Those given, with defaults."""
    pruner: PrunerSpec | None = None
    pruner_arguments: BaseModel | None = None
    """Those given, with defaults."""
    budget: BudgetSpec | None = None
    stop: StopSpec | None = None
    trial: TrialSpec | None = None
    tags: tuple[str, ...] = ()
    """Names of the tags."""
    env: tuple[str, ...] = ()
    """Names of the environment variables."""
    secret_env: tuple[str, ...] = ()
    """Names of those that come from Secrets."""


def broken_rules(draft: Draft) -> tuple[BrokenRule, ...]:
    """Return every broken rule among the parts that are there."""
    conditions = tuple(_conditions(draft))
    findings = [
        *_names(draft),
        *_metrics(draft),
        *_number_of_objectives(draft),
        *conditions,
        *_fixed(draft),
        *_sampler(draft),
        *_cost_aware(draft),
        *_pruner(draft),
        *_environment(draft),
    ]
    if draft.is_space_known:
        findings += _enqueue(draft, is_tree=not conditions)
    return tuple(findings)


def name_problem(name: str, limit: int = KEY_LIMIT) -> tuple[str, str] | None:
    """Return (message, hint) when a parameter, metric or study cannot have this name."""
    if not name:
        return "a name must not be empty", "give it a name"
    if len(name) > limit:
        return (
            f"a name must have at most {limit} characters, but this one has {len(name)}",
            "shorten it; the description has room for more",
        )
    if hidden := next((c for c in name if not c.isprintable()), None):
        # Also direction marks and zero-width characters, by which two names look like one.
        return (
            f"a name must hold printable characters only, but it holds U+{ord(hidden):04X}",
            "remove that character",
        )
    if name != name.strip():
        return f"a name must not begin or end with a blank, but it is {name!r}", "remove the blank"
    return None


def _names(draft: Draft) -> Iterator[BrokenRule]:
    named: list[tuple[Path, str, bool]] = [
        (("objectives", i, "metric"), part.metric, False) for i, part in draft.objectives.items()
    ]
    named += [
        (("constraints", i, "metric"), part.metric, False) for i, part in draft.constraints.items()
    ]
    for section, names in (
        ("search_space", (*draft.parameters, *draft.broken_parameters)),
        ("fixed", tuple(draft.fixed)),
        ("tags", draft.tags),
    ):
        named += [((section, name), name, True) for name in names]
    for path, name, is_key in named:
        if problem := name_problem(name):
            yield BrokenRule(path, *problem, is_about_key=is_key)
    if draft.experiment is not None and (problem := name_problem(draft.experiment, NAME_LIMIT)):
        yield BrokenRule(("experiment",), *problem)
    if draft.name is None:
        return
    if problem := name_problem(draft.name, NAME_LIMIT):
        yield BrokenRule(("name",), *problem)
    elif "/" in draft.name or ".." in draft.name or draft.name == ".":
        yield BrokenRule(
            ("name",),
            f"the name of a study must not hold '/' or '..', but it is {draft.name!r}",
            "use '-' instead: the name becomes part of paths",
        )


def _metrics(draft: Draft) -> Iterator[BrokenRule]:
    for section, hint in (
        ("objectives", "drop one of them"),
        ("constraints", "give max and min in one constraint"),
    ):
        seen: dict[str, int] = {}
        for i, metric in draft.metrics.get(section, {}).items():
            if metric in seen:
                yield BrokenRule(
                    (section, i, "metric"),
                    f"metrics must differ, but {metric!r} stands in {section}[{seen[metric]}] too",
                    hint,
                )
            seen.setdefault(metric, i)


def _number_of_objectives(draft: Draft) -> Iterator[BrokenRule]:
    if draft.n_objectives is None or draft.n_objectives < 2:
        return
    n = draft.n_objectives
    if draft.stop is not None and draft.stop.target is not None:
        yield BrokenRule(
            ("stop", "target"),
            f"a target needs a single objective, but there are {n}",
            "drop the target, or make the other objectives constraints",
        )
    if draft.pruner is not None and draft.pruner.type != "none":
        yield BrokenRule(
            ("pruner", "type"),
            f"a pruner needs a single objective, but there are {n} and the pruner is "
            f"{draft.pruner.type}",
            "use pruner none, or make the other objectives constraints",
        )
    if draft.sampler is not None and draft.sampler.type == "cmaes":
        yield BrokenRule(
            ("sampler", "type"),
            f"cmaes needs a single objective, but there are {n}",
            "use botorch or nsga2, or make the other objectives constraints",
        )


def _conditions(draft: Draft) -> Iterator[BrokenRule]:
    if not draft.is_space_known:
        return
    for problem in condition_problems({**draft.parameters, **draft.stand_ins}):
        if problem.parent not in draft.broken_parameters:
            is_unknown = problem.parent not in draft.parameters
            hint = problem.hint
            if is_unknown:
                others = [*draft.parameters, *sorted(draft.broken_parameters)]
                others.remove(problem.name)
                close = suggest_name(problem.parent, others)
                known = ", ".join(others) or "no other parameter"
                hint = f"did you mean {close!r}?" if close else f"there are: {known}"
            if problem.parent in draft.fixed:
                hint = f"{problem.parent} is fixed: drop the condition, or drop the parameter"
            path = ("search_space", problem.name, "when", problem.parent)
            yield BrokenRule(path, problem.message, hint, is_about_key=is_unknown)


def _fixed(draft: Draft) -> Iterator[BrokenRule]:
    for name, value in draft.fixed.items():
        if name in draft.parameters or name in draft.broken_parameters:
            yield BrokenRule(
                ("fixed", name),
                f"a parameter is either searched or fixed, but {name!r} is both",
                "remove it from search_space or from fixed",
                is_about_key=True,
            )
        if isinstance(value, float) and not math.isfinite(value):
            yield BrokenRule(
                ("fixed", name),
                f"a fixed value must be finite, but it is {value!r}",
                "use a text such as 'none' for the special case, or leave it out",
            )


def _enqueue(draft: Draft, *, is_tree: bool) -> Iterator[BrokenRule]:
    # With a broken parameter or condition the tree cannot be built, but values can still be checked
    # one by one.
    can_build = is_tree and not draft.broken_parameters
    space = SearchSpace(draft.parameters) if can_build else None
    for i, point in draft.enqueue.items():
        wrong = set()
        for name, value in point.items():
            if name in draft.broken_parameters:
                continue
            path: Path = ("enqueue", i, name)
            if name in draft.fixed:
                yield BrokenRule(
                    path,
                    f"a point must name searched parameters, but {name!r} is fixed",
                    "remove it here; every trial gets the fixed value",
                    is_about_key=True,
                )
            elif name not in draft.parameters:
                names = [*draft.parameters, *sorted(draft.broken_parameters)]
                close, known = suggest_name(name, names), ", ".join(names)
                yield BrokenRule(
                    path,
                    f"a point must name searched parameters, but there is no {name!r}",
                    f"did you mean {close!r}?" if close else f"there are: {known}",
                    is_about_key=True,
                )
            elif not draft.parameters[name].contains(value):
                wrong.add(name)
                parameter = draft.parameters[name]
                yield BrokenRule(
                    path,
                    f"{name} must be in {describe(parameter)}, but it is {show_scalar(value)}",
                    _nearest(parameter, value),
                )
        if space is None:
            continue
        active = space.active(point)
        for name in space:
            if name not in point or name in active or name in wrong:
                continue
            parents = space[name].conditions
            if wrong & parents.keys():
                continue
            unmet = next(p for p, v in parents.items() if p not in point or point[p] not in v)
            state = f"is {show_scalar(point[unmet])}" if unmet in point else "is left out"
            values = " or ".join(show_scalar(v) for v in parents[unmet])
            yield BrokenRule(
                ("enqueue", i, name),
                f"{name} exists only where {unmet} is {values}, but here {unmet} {state}",
                f"remove {name} here, or set {unmet} to {values}",
                is_about_key=True,
            )


def _nearest(parameter: FloatParameter | IntParameter | CategoricalParameter, value: Scalar) -> str:
    """Return the way back into the parameter's domain."""
    if isinstance(parameter, CategoricalParameter):
        twin = next((c for c in parameter.choices if str(c) == str(value)), None)
        if twin is not None:
            return f"the type counts too: write {show_scalar(twin)}"
        close = suggest_name(str(value), [c for c in parameter.choices if isinstance(c, str)])
        return f"did you mean {close!r}?" if close else "choose one of these values"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "give a number, without quotes"
    if parameter.low <= value <= parameter.high:
        return f"the nearest is {parameter.from_unit(parameter.to_unit(value)):.12g}"
    return f"move it inside, or widen {'low' if value < parameter.low else 'high'}"


def _sampler(draft: Draft) -> Iterator[BrokenRule]:
    if draft.sampler is None or draft.sampler.type != "grid" or not draft.is_space_known:
        return
    path: Path = ("sampler", "type")
    hint = "give them a step, or use sampler qmc"
    continua = [n for n, p in draft.parameters.items() if p.cardinality is None]
    children = [n for n, p in draft.parameters.items() if p.when]
    if continua:
        yield BrokenRule(
            path, f"grid needs a finite space, but these are continua: {', '.join(continua)}", hint
        )
    elif children:
        yield BrokenRule(
            path,
            f"grid cannot follow conditions, but these have some: {', '.join(children)}",
            "use sampler tpe or botorch, or drop the conditions",
        )
    elif not draft.broken_parameters:
        size = math.prod(p.cardinality or 1 for p in draft.parameters.values())
        if size > GRID_LIMIT:
            yield BrokenRule(
                path,
                f"a grid must have at most {GRID_LIMIT} points, but this one has {size}",
                "use larger steps, or sampler qmc",
            )


def _cost_aware(draft: Draft) -> Iterator[BrokenRule]:
    arguments, budget = draft.sampler_arguments, draft.budget
    if not isinstance(arguments, BotorchArguments) or not arguments.cost_aware:
        return
    if budget is not None and budget.gpu_hours is None:
        yield BrokenRule(
            ("sampler", "cost_aware"),
            "cost_aware weighs trials against budget.gpu_hours, which is not set",
            "add budget.gpu_hours, or drop cost_aware",
        )


def _pruner(draft: Draft) -> Iterator[BrokenRule]:
    arguments = draft.pruner_arguments
    if isinstance(arguments, AshaArguments) and draft.trial is not None:
        yield from _promotion(arguments, draft.trial)
    if isinstance(arguments, CurveArguments):
        yield from _curve(draft)
    if not isinstance(arguments, HyperbandArguments) or draft.trial is None:
        return
    longest: Any = arguments.max_resource
    origin = "max_resource"
    if longest == "auto":
        longest, origin = draft.trial.budget, "trial.budget"
    if longest is None:
        if arguments.bootstrap_count > 0:
            yield BrokenRule(
                ("pruner", "bootstrap_count"),
                "bootstrap_count needs to know the steps of a full trial, but neither max_resource "
                "nor trial.budget is set",
                "set trial.budget",
            )
    elif arguments.min_resource > longest:
        yield BrokenRule(
            ("pruner", "min_resource"),
            f"min_resource must not be above {origin}, but min_resource={arguments.min_resource} "
            f"and {origin}={longest}",
            "let trials run longer, or decide earlier",
        )


def _curve(draft: Draft) -> Iterator[BrokenRule]:
    if draft.trial is not None and draft.trial.budget is None:
        yield BrokenRule(
            ("pruner", "type"),
            "curve forecasts the last step of a trial, but trial.budget is not set",
            "set trial.budget to the number of steps",
        )


def _promotion(arguments: AshaArguments, trial: TrialSpec) -> Iterator[BrokenRule]:
    if arguments.variant != "promotion":
        return
    if arguments.min_resource == "auto" and trial.budget is None:
        yield BrokenRule(
            ("pruner", "min_resource"),
            "min_resource must be in steps for variant promotion, or follow from trial.budget, but "
            "min_resource is auto and trial.budget is not set",
            "set trial.budget, or min_resource",
        )


def _environment(draft: Draft) -> Iterator[BrokenRule]:
    secret: Path = ("trial", "kubernetes", "secret_env")
    for section, names in ((("trial", "env"), draft.env), (secret, draft.secret_env)):
        for name in names:
            path: Path = (*section, name)
            if not name or name[0] not in _ENV_FIRST or not _ENV_OTHER.issuperset(name):
                yield BrokenRule(
                    path,
                    "the name of an environment variable must hold letters, digits and '_' only "
                    f"and not begin with a digit, but it is {name[:60]!r}",
                    "rename it",
                    is_about_key=True,
                )
            elif name.startswith("STUDYFLOW_"):
                yield BrokenRule(
                    path,
                    f"names with STUDYFLOW_ are reserved, but this one is {name!r}",
                    "rename it",
                    is_about_key=True,
                )
    for name in draft.secret_env:
        if name in draft.env:
            yield BrokenRule(
                (*secret, name),
                f"a variable must have one value, but {name!r} stands in trial.env too",
                "remove one of them",
                is_about_key=True,
            )
