"""`studyflow plan`: what a run of a study would do and cost at most, before it does."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from studyflow.cli.options import json_option, settings_options
from studyflow.errors import StudyNotFound
from studyflow.executors.registry import executor_kind
from studyflow.ledger.expected import ExpectedTrials, expected_trials
from studyflow.ledger.statement import Statement, statement
from studyflow.settings import ExecutorName, Settings
from studyflow.spec import (
    StudySpec,
    describe_plan,
    is_time_of_day,
    largest_gpu_hours,
    longest_seconds,
)
from studyflow.spec.plan import show_duration, slots_of, times, unbounded_time
from studyflow.storage import open_storage, redacted
from studyflow.study import (
    find_study,
    is_counted,
    load_records,
    n_trials_left,
    n_trials_to_finish,
)
from studyflow.study.attributes import coming_finish_at
from studyflow.trial.record import TrialRecord, TrialState

if TYPE_CHECKING:
    import optuna

_OF_THE_WHOLE = (
    "trials",
    "parallelism",
    "longest possible time",
    "GPUs at once",
    "a first trial",
)
"""Rows of `studyflow check` that a plan says better: for what is left, and where it would run."""


@dataclass(frozen=True)
class Plan:
    """What the next run would do. Made by `make_plan`."""

    spec: StudySpec
    n_trials: int | None
    """Trials to finish in all; `None` for as many as another limit allows."""
    n_finished: int
    """Those that are finished already."""
    n_running: int
    """Those that an earlier run has started, which are taken over or repeated."""
    statement: Statement
    """What it has spent, and how its budget stands."""
    executor: ExecutorName
    per_trial: Mapping[str, str]
    """What one trial asks for by resource; empty where nothing holds it to a share."""

    @property
    def n_left(self) -> int | None:
        """Trials that the run would finish; `None` for as many as another limit allows."""
        return n_trials_left(self.n_trials, self.n_finished)

    @property
    def slots(self) -> int:
        """Trials in parallel."""
        return slots_of(self.spec, self.n_left)

    @property
    def at_once(self) -> dict[str, str]:
        """What all trials that run in parallel ask for together."""
        return {name: times(amount, self.slots) for name, amount in self.per_trial.items()}

    @property
    def longest_seconds(self) -> float | None:
        """Longest time of the run; `None` without a limit."""
        return longest_seconds(self.spec, self.n_left)

    @property
    def gpu_hours(self) -> float | None:
        """Most GPU-hours of the run; `None` without a limit."""
        return largest_gpu_hours(self.spec, self.n_left)

    @property
    def expected(self) -> ExpectedTrials | None:
        """Trials that the budget is expected to make; `None` with `n_trials`, or if not known."""
        return expected_trials(self.statement, self.slots) if self.n_trials is None else None


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@json_option
@settings_options(with_executor=True)
def plan(
    study: Path,
    as_json: bool,
    settings: Settings,
) -> None:
    """Print what running a study file would start, ask for and cost at most; start nothing.

    Of a study that exists already, only what is left counts. Time and GPU-hours are those of
    running trials: waiting for free capacity comes on top, and so do attempts that are lost.
    """
    spec = StudySpec.from_yaml(study)
    stored = _stored(spec, settings)
    made = make_plan(spec, settings, () if stored is None else load_records(stored)[1], stored)
    if as_json:
        click.echo(json.dumps(_as_json(made), indent=2, ensure_ascii=False))
        return
    rows = [*_rows(made), ("storage", redacted(settings.storage_url))]
    rows.append(("MLflow", redacted(settings.tracking_uri or f"embedded in {settings.home}")))
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        click.echo(f"{label:<{width}}  {text}")


def make_plan(
    spec: StudySpec,
    settings: Settings,
    known: tuple[TrialRecord, ...],
    stored: optuna.Study | None = None,
) -> Plan:
    """Return what the next run of a study would do.

    Args:
        spec: The study file.
        settings: Where trials run.
        known: The study's trials so far.
        stored: The stored study; `None` before its first run.
    """
    now = time.time()
    return Plan(
        spec=spec,
        n_trials=n_trials_to_finish(spec),
        n_finished=sum(is_counted(record) for record in known),
        n_running=sum(record.state is TrialState.RUNNING for record in known),
        statement=statement(
            spec,
            known,
            n_left=n_trials_left(n_trials_to_finish(spec), sum(map(is_counted, known))),
            prices=settings.prices,
            now=now,
            finish_at=coming_finish_at(spec, stored, now),
        ),
        executor=settings.executor,
        per_trial=dict(executor_kind(settings.executor).requests(spec, settings)),
    )


def _stored(spec: StudySpec, settings: Settings) -> optuna.Study | None:
    try:
        return find_study(spec.name, open_storage(settings.storage_url, create=False))
    except StudyNotFound:
        return None


def _rows(made: Plan) -> list[tuple[str, str]]:
    spec = made.spec
    done = f", {made.n_finished} finished already" if made.n_finished else ""
    running = f", {made.n_running} of them started" if made.n_running else ""
    enqueued = f", {len(spec.enqueue)} enqueued" if spec.enqueue and not made.n_finished else ""
    kind = executor_kind(made.executor)
    what = kind.description
    if kind.needs_image and spec.trial.image is None:
        what += ": not possible, trial.image is missing"
    longest, hours = made.longest_seconds, made.gpu_hours
    return [
        *(row for row in describe_plan(spec) if row[0] not in _OF_THE_WHOLE),
        ("trials to run", f"{_to_run(made)}{done}{running}{enqueued}"),
        ("trials are", f"{what}, {made.slots} in parallel"),
        ("each asks for", _amounts(made.per_trial)),
        ("all together", _amounts(made.at_once)),
        (
            "attempts",
            f"up to {spec.retry.max_attempts} of a trial without progress; lost ones use no budget",
        ),
        (
            "longest time",
            unbounded_time(spec) if longest is None else show_duration(longest),
        ),
        _gpu_hours(spec, hours),
        *((what, _with_zone(made, what, text)) for what, text in made.statement.rows()),
    ]


def _with_zone(made: Plan, what: str, text: str) -> str:
    """Return when a time of day is next, and by whose clock."""
    finish_at = made.statement.account.finish_at
    if what != "budget.finish_by" or finish_at is None or not is_time_of_day(text):
        return text
    moment = datetime.fromtimestamp(finish_at, UTC).astimezone().isoformat(timespec="minutes")
    return (
        f"{text}, which is {moment} by this machine's zone; a run of a deployment takes that of "
        "its schedule, if it names one"
    )


def _to_run(made: Plan) -> str:
    if made.n_trials is not None:
        return f"{made.n_left} of {made.n_trials}"
    expected = made.expected
    return "not known yet: no trial has ended" if expected is None else str(expected)


def _gpu_hours(spec: StudySpec, hours: float | None) -> tuple[str, str]:
    if not spec.trial.resources.gpu:
        return "GPU-hours", "no GPU asked for (trial.resources.gpu)"
    text = unbounded_time(spec) if hours is None else f"{hours:.4g}"
    return "GPU-hours at most", text


def _amounts(amounts: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {amount}" for name, amount in amounts.items()) or "whatever is free"


def _as_json(made: Plan) -> dict[str, Any]:
    return {
        "study": made.spec.name,
        "n_trials": made.n_trials,
        "n_finished": made.n_finished,
        "n_running": made.n_running,
        "n_left": made.n_left,
        "n_expected": None if made.expected is None else made.expected.number,
        "executor": made.executor,
        "max_parallel_trials": made.slots,
        "per_trial": dict(made.per_trial),
        "at_once": made.at_once,
        "longest_seconds": made.longest_seconds,
        "gpu_hours": made.gpu_hours,
        "spending": made.statement.numbers(),
    }
