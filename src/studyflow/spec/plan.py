"""What a study will do, in rows for a human: shown by `studyflow check` when all is well."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from studyflow.spec.budget import LIMITS
from studyflow.spec.models import StudySpec
from studyflow.spec.parameters import CategoricalParameter
from studyflow.spec.values import show_number


def describe_plan(spec: StudySpec) -> tuple[tuple[str, str], ...]:
    """Return (what, how much) for everything that a person would check before a study starts."""
    rows = [
        ("study", spec.name),
        ("dimensions", _dimensions(spec)),
        ("size of the space", _size(spec)),
        *_cut_ranges(spec),
        *_priors(spec),
        ("objectives", "; ".join(f"{o.direction} {o.metric}" for o in spec.objectives)),
    ]
    if spec.constraints:
        bounds = [name for c in spec.constraints for name in c.violations(0.0)]
        rows.append(("constraints", "; ".join(bounds)))
    seed = "drawn" if spec.sampler.seed is None else str(spec.sampler.seed)
    rows += [
        ("sampler", _named(spec.sampler.type, {**spec.sampler.arguments, "seed": seed})),
        ("pruner", _named(spec.pruner.type, spec.pruner.arguments)),
        ("trials", _trials(spec)),
        ("parallelism", f"{spec.budget.max_parallel_trials} at once"),
        ("longest possible time", _longest_time(spec)),
        ("GPUs at once", _gpus(spec)),
        *_limits(spec),
        ("command", shlex.join(spec.trial.command)),
    ]
    if spec.trial.image is not None:
        rows.append(("image", spec.trial.image))
    return tuple(rows)


def longest_seconds(spec: StudySpec, n_trials: int | None = None) -> float | None:
    """Return how long the study can take at most; `None` without a limit.

    Counts the time of running trials only: not waiting for room on the cluster, and not the
    attempts that are lost to it.

    Args:
        spec: The study.
        n_trials: Trials that are left; the whole budget by default.
    """
    trial = spec.trial.timeout_seconds
    if trial is None:
        return None
    left = spec.budget.n_trials if n_trials is None else n_trials
    limits = []
    if left is not None:
        limits.append(math.ceil(left / spec.budget.max_parallel_trials) * trial)
    elif spec.budget.gpu_hours is not None:
        # One trial at a time makes the hours last longest; the last ones begin within the limit.
        hours = spec.budget.gpu_hours / max(spec.trial.resources.gpu, 1)
        limits.append(hours * 3600 + trial)
    if spec.budget.timeout_seconds is not None:
        # A trial that starts just before the study's time is up still has its own.
        limits.append(spec.budget.timeout_seconds + trial)
    return min(limits, default=None)


def largest_gpu_hours(spec: StudySpec, n_trials: int | None = None) -> float | None:
    """Return how many GPU-hours the study can use at most; `None` without a limit.

    Counts running trials only, as `longest_seconds` does.

    Args:
        spec: The study.
        n_trials: Trials that are left; the whole budget by default.
    """
    gpus, longest = spec.trial.resources.gpu, longest_seconds(spec, n_trials)
    if gpus == 0:
        return 0.0
    trial = spec.trial.timeout_seconds
    if trial is None:
        return None
    left = spec.budget.n_trials if n_trials is None else n_trials
    slots = slots_of(spec, left)
    limits = []
    if longest is not None:
        limits.append(slots * longest * gpus / 3600)
    if left is not None:
        limits.append(left * trial * gpus / 3600)
    elif spec.budget.gpu_hours is not None:  # and what is in flight when they are spent
        limits.append(spec.budget.gpu_hours + slots * trial * gpus / 3600)
    return min(limits, default=None)


def slots_of(spec: StudySpec, n_left: int | None) -> int:
    """Return how many trials run in parallel.

    Args:
        spec: The study.
        n_left: Trials that are left: fewer than slots leave slots empty. `None` for any number.
    """
    slots = spec.budget.max_parallel_trials
    return slots if n_left is None else min(slots, n_left)


def times(quantity: str, n: int) -> str:
    """Return `n` times an amount as Kubernetes writes it, such as `16Gi` for 4 times `4Gi`."""
    number = quantity.rstrip("numkKMGTPEi")
    unit = quantity[len(number) :]
    product = Decimal(number) * n
    if unit == "m" and product % 1000 == 0:
        product, unit = product / 1000, ""
    return f"{product.normalize():f}{unit}"


def show_duration(seconds: float) -> str:
    """Return a time in its two largest units, such as `4 h 30 min`."""
    if seconds < 60:
        return f"{seconds:g} s"
    whole = round(seconds)
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    first = next(i for i, (_, size) in enumerate(units) if whole >= size)
    parts = []
    for name, size in units[first : first + 2]:
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count:,} {name}")
    return " ".join(parts)


def _dimensions(spec: StudySpec) -> str:
    n = len(spec.search_space)
    n_conditional = sum(bool(parameter.when) for parameter in spec.search_space.values())
    text = f"{n} parameter{'' if n == 1 else 's'}"
    if n_conditional:
        text += f", {n_conditional} conditional"
    if spec.fixed:
        text += f", {len(spec.fixed)} fixed"
    return text


def _size(spec: StudySpec) -> str:
    size = spec.space.cardinality
    if size is None:
        return "continuous"
    # Beyond this nobody reads digits, and Python refuses to write out numbers of thousands.
    return f"{size:,} point{'' if size == 1 else 's'}" if size < 10**12 else "over 10^12 points"


def _priors(spec: StudySpec) -> Iterator[tuple[str, str]]:
    """Yield a row of the parameters with a prior, if any, and whether the sampler heeds it."""
    names = [name for name, parameter in spec.search_space.items() if parameter.prior is not None]
    if names:
        is_heeded = spec.sampler.type == "botorch"
        unused = "" if is_heeded else f"; sampler {spec.sampler.type} makes no use of them"
        yield "priors", ", ".join(names) + unused


def _cut_ranges(spec: StudySpec) -> Iterator[tuple[str, str]]:
    """Yield a row for every range that is no whole number of steps: its bound is never tried."""
    for name, parameter in spec.search_space.items():
        if not isinstance(parameter, CategoricalParameter) and parameter.last != parameter.high:
            last, high = show_number(parameter.last), show_number(parameter.high)
            text = f"{name}: {last}, not {high}, since the range is no whole number of steps"
            yield "largest value", text


def _trials(spec: StudySpec) -> str:
    n = spec.budget.n_trials
    given = [name for name in LIMITS if getattr(spec.budget, name) is not None]
    allow = "allows" if len(given) == 1 else "allow"
    text = f"as many as {' and '.join(given)} {allow}" if n is None else str(n)
    return f"{text} ({len(spec.enqueue)} enqueued)" if spec.enqueue else text


def _longest_time(spec: StudySpec) -> str:
    longest = longest_seconds(spec)
    if longest is None:
        return unbounded_time(spec)
    return show_duration(longest)


def unbounded_time(spec: StudySpec) -> str:
    """Return why nothing bounds the time of a study: `longest_seconds` has none."""
    if spec.trial.timeout_seconds is None:
        return "unlimited: no trial.timeout_seconds"
    budget = spec.budget
    names = [name for name in ("cost", "finish_by") if getattr(budget, name) is not None]
    return f"until {' or '.join(f'budget.{name}' for name in names)} ends it"


def _limits(spec: StudySpec) -> Iterator[tuple[str, str]]:
    """Yield a row for limits beside trials, and what a trial counts as before any has ended."""
    budget, gpus = spec.budget, spec.trial.resources.gpu
    unit = "GPU-hours" if gpus else "slot-hours"
    parts = [] if budget.gpu_hours is None else [f"{budget.gpu_hours:g} {unit}"]
    parts += [] if budget.cost is None else [f"cost {budget.cost:g}"]
    parts += [] if budget.finish_by is None else [f"finished by {budget.finish_by}"]
    if not parts:
        return
    yield "limits", f"{', '.join(parts)}; at a limit running trials {budget.at_limit}"
    if budget.gpu_hours is None and budget.cost is None:
        return
    seconds = spec.trial.timeout_seconds
    if seconds is None:
        what = "is not known until one has ended"
        if budget.n_trials is not None:
            what = f"counts as 1/{budget.n_trials} of the limit until one has ended"
        yield (
            "a first trial",
            f"{what}; without trial.timeout_seconds nothing bounds what it takes",
        )
        return
    hours = max(gpus, 1) * seconds / 3600
    text = f"counts as {hours:.4g} {unit} until one has ended (trial.timeout_seconds)"
    if budget.gpu_hours is not None and hours > budget.gpu_hours:
        text += ": more than the limit, so none starts in a new study"
    yield "a first trial", text


def _gpus(spec: StudySpec) -> str:
    return str(slots_of(spec, spec.budget.n_trials) * spec.trial.resources.gpu)


def _named(name: str, arguments: Mapping[str, Any]) -> str:
    inside = ", ".join(f"{k}={_argument(v)}" for k, v in arguments.items())
    return f"{name} ({inside})" if inside else name


def _argument(value: Any) -> str:
    if isinstance(value, Mapping):
        return _named(str(value["type"]), {k: v for k, v in value.items() if k != "type"})
    return str(value).lower() if isinstance(value, bool) else str(value)
