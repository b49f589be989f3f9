"""The trial's value of each metric, from the runs that its script logged to by itself.

Pure: the runs come from a tracker, and a gap is data; only `why_no_value` writes sentences.

The rule for one metric: of a run that has it and the runs nested in that run, only the outer one
counts. All runs that count must have the same value. Values that an earlier attempt logged do not
count.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from studyflow.reasons import Code, Reason
from studyflow.spec.problems import suggest_name
from studyflow.tracking import keys
from studyflow.trial.former_names import former_arguments

SHOWN_LIMIT: Final = 4
"""How many runs or metrics a message names."""

_MADE_UP: Final = re.compile(r"[a-z]+-[a-z]+-[0-9]+")
"""A run's name that MLflow made up. No message holds one: messages of failures for the same reason
must be equal, so that the failures are known as alike."""


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """One run of a tracker, as an attempt's script left it."""

    run_id: str
    name: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The last value of each metric that this attempt logged: that of the highest step, and of
    several at one step the latest."""
    outdated: frozenset[str] = frozenset()
    """Metrics that have values only from before this attempt."""
    parent_id: str | None = None
    """The run that it is nested in."""
    experiment: str = ""
    """Name of its experiment; empty for the study's."""


@former_arguments(
    strangers="unrelated",
    trouble=("failure", lambda text: None if text is None else Reason(Code.UNSPECIFIED, text)),
    is_away="is_retryable",
)
@dataclass(frozen=True, slots=True)
class LoggedRuns:
    """What an attempt's script logged to a tracker, or why that is not known."""

    uri: str | None = None
    """Where the runs are; `None` for a tracker that scripts cannot log to."""
    runs: tuple[LoggedRun, ...] = ()
    """The trial's own run first, then others that the script started."""
    unrelated: tuple[LoggedRun, ...] = ()
    """Runs that began meanwhile and have every wanted metric, but no tag of a trial. They never
    count; a message names one."""
    failure: Reason | None = None
    """Why the runs could not be read; `None` when they were."""
    is_retryable: bool = False
    """Whether they could not be read now, and may be later."""


class Gap(enum.Enum):
    """Why a trial has no value of a metric."""

    UNREADABLE = "unreadable"
    """The tracker did not answer, or refused."""
    AMBIGUOUS = "ambiguous"
    """Several runs that count have different values."""
    OUTDATED = "outdated"
    """Only an earlier attempt logged it."""
    ABSENT = "absent"
    """No run has it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric of a trial, as its runs have it."""

    name: str
    value: float | None = None
    gap: Gap | None = None
    """`None` with a value."""
    runs: tuple[LoggedRun, ...] = ()
    """The runs that have it and count."""


def read_metrics(
    names: Sequence[str], logged: LoggedRuns, reported: Mapping[str, float]
) -> tuple[Reading, ...]:
    """Return the trial's value of each metric, or why there is none.

    Args:
        names: The metrics that the study needs.
        logged: What the script logged to the tracker.
        reported: Last values reported by the SDK. They count before all others.
    """
    return tuple(
        Reading(name, reported[name]) if name in reported else _read(name, logged) for name in names
    )


def why_no_value(
    said: Reason, number: int, readings: Sequence[Reading], logged: LoggedRuns
) -> Reason:
    """Return why a script that finished without a result has none in its runs either.

    Args:
        said: The reason as it is without the runs.
        number: The trial.
        readings: One for each metric that the study needs, of which one or more have a gap.
        logged: What the script logged to the tracker.
    """
    if logged.uri is None and logged.failure is None:
        return said
    gaps = [reading for reading in readings if reading.gap is not None]
    reading = min(gaps, key=lambda gap: list(Gap).index(gap.gap or Gap.ABSENT))
    name = reading.name
    ended = f"Trial {number} ended without sdk.finish(...) (exit code 0)"
    match reading.gap:
        case Gap.UNREADABLE:
            failure = logged.failure or Reason(Code.TRACKER_UNAVAILABLE, "it did not answer.")
            way_out = failure.hint or "make MLflow available and run the study again."
            return Reason(
                failure.code,
                f"{ended}, and what it logged to MLflow is not known: {failure.message}",
                f"{way_out} Or call sdk.finish(...), which does not need MLflow.",
            )
        case Gap.AMBIGUOUS:
            return Reason(
                Code.METRIC_AMBIGUOUS,
                f"{ended}, and its MLflow runs disagree on {name}: {_values(reading)}.",
                "log the one that counts to a run around them: with mlflow.start_run(): (...) "
                f'mlflow.log_metric("{name}", ...); or call sdk.finish({_call(name)}).',
            )
        case Gap.OUTDATED:
            return Reason(
                Code.METRIC_OUTDATED,
                f"{ended}, and the {name} in its MLflow run is older than this attempt: an earlier "
                "one logged it.",
                f"log {name} in each attempt, or call sdk.finish({_call(name)}).",
            )
        case _:
            return _why_absent(said, ended, name, logged)


def _meant(name: str, known: Iterable[str]) -> str:
    """Return a question for the metric that was probably meant; empty without one."""
    close = suggest_name(name, known)
    return "" if close is None else f"did you mean {close!r}? "


def _why_absent(said: Reason, ended: str, name: str, logged: LoggedRuns) -> Reason:
    known = dict.fromkeys(metric for run in logged.runs for metric in run.metrics)
    if known:
        return Reason(
            Code.METRIC_MISSING,
            f"{ended}, and its MLflow runs have no {name}; they have {_enumerate(list(known))}.",
            f"{_meant(name, known)}the study file and the script must use the same name: "
            f'mlflow.log_metric("{name}", ...) or sdk.finish({_call(name)}).',
        )
    if logged.unrelated:
        run = logged.unrelated[0]
        value = run.metrics[keys.key_for(name)]
        return Reason(
            Code.OUTCOME_MISSING,
            f"{ended}, and its MLflow run has no metric. A run of experiment {run.experiment!r} "
            f"began meanwhile and has {name}={value:g}, but nothing ties it to this trial.",
            "log to the run that the variable MLFLOW_RUN_ID names, as mlflow.start_run() does and "
            f"MlflowClient().create_run(...) does not; or call sdk.finish({_call(name)}).",
        )
    if not logged.runs:
        also = "There is no MLflow run of this trial either: MLflow did not answer when it started."
        return replace(said, message=f"{said.message} {also}")
    other = "script that logs by MLflow must log there, so it must set no other tracking URI."
    return replace(
        said,
        message=f"{said.message} Its MLflow run at {logged.uri} has no metric either.",
        hint=f"{said.hint} A {other}" if said.hint else f"a {other}",
    )


def _read(name: str, logged: LoggedRuns) -> Reading:
    if logged.failure is not None:
        return Reading(name, gap=Gap.UNREADABLE)
    values = {run.run_id: value for run in logged.runs if (value := _value(run, name)) is not None}
    parents = {run.run_id: run.parent_id for run in logged.runs}
    counting = tuple(
        run
        for run in logged.runs
        if run.run_id in values and not _is_inside_one_with_a_value(run.run_id, parents, values)
    )
    if not counting:
        is_outdated = any({name, keys.key_for(name)} & run.outdated for run in logged.runs)
        return Reading(name, gap=Gap.OUTDATED if is_outdated else Gap.ABSENT)
    first = values[counting[0].run_id]
    if all(_are_same(values[run.run_id], first) for run in counting):
        return Reading(name, first, runs=counting)
    return Reading(name, gap=Gap.AMBIGUOUS, runs=counting)


def _is_inside_one_with_a_value(
    run_id: str, parents: Mapping[str, str | None], values: Mapping[str, float]
) -> bool:
    """Return whether any run around this one has the metric."""
    around: list[str] = []
    parent = parents.get(run_id)
    while parent is not None:
        if parent == run_id or parent in around:
            return False  # tags may hold anything: of runs in a circle, none is the outer one
        around.append(parent)
        parent = parents.get(parent)
    return any(outer in values for outer in around)


def _are_same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _value(run: LoggedRun, name: str) -> float | None:
    return run.metrics.get(name, run.metrics.get(keys.key_for(name)))


def _values(reading: Reading) -> str:
    said = []
    for run in reading.runs:
        who = "one" if _MADE_UP.fullmatch(run.name) else repr(run.name)
        said.append(f"{who} has {_value(run, reading.name):g}")
    return _enumerate(said)


def _enumerate(words: Sequence[str]) -> str:
    shown = ", ".join(words[:SHOWN_LIMIT])
    left = len(words) - SHOWN_LIMIT
    return f"{shown} and {left} more" if left > 0 else shown


def _call(name: str) -> str:
    return f"{name}=..." if name.isidentifier() else f'**{{"{name}": ...}}'
