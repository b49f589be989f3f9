"""Trials and the best configuration as tables and files. Pure functions of `StudyData`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml

from studyflow.reports import wording
from studyflow.reports.data import StudyData
from studyflow.spec.cells import write_cell
from studyflow.spec.parameters import CategoricalParameter
from studyflow.trial import Cause, ParamValue
from studyflow.trial.record import TrialRecord, TrialState


@dataclass(frozen=True)
class TrialRow:
    """One trial as a line of a table."""

    number: int
    state: TrialState
    cause: Cause | None
    values: tuple[float, ...] | None
    """One value per objective; `None` unless complete."""
    params: Mapping[str, ParamValue]
    """Searched and fixed parameters; inactive conditional ones are missing."""
    duration_seconds: float | None
    attempt: int
    message: str
    is_best: bool
    """Whether this is the best trial, or one of the Pareto front."""
    is_enqueued: bool
    is_feasible: bool


def trial_rows(data: StudyData) -> tuple[TrialRow, ...]:
    """Return one row for every trial, by number."""
    return tuple(
        TrialRow(
            number=record.number,
            state=record.state,
            cause=record.cause,
            values=record.values,
            params=data.params(record),
            duration_seconds=record.duration_seconds,
            attempt=record.attempt,
            message=str(record.reason),
            is_best=record.number in data.best_numbers,
            is_enqueued=record.number in data.enqueued,
            is_feasible=record.is_feasible,
        )
        for record in data.trials
    )


def parameter_names(data: StudyData) -> tuple[str, ...]:
    """Return the searched parameters, the fixed ones, then any other that a trial has."""
    names = dict.fromkeys((*data.space, *data.spec.fixed))
    for record in data.trials:
        names.update(dict.fromkeys(record.params))
    return tuple(names)


def trials_csv(data: StudyData) -> str:
    """Return all trials as CSV: one line each, every digit, empty where there is no value.

    Metrics, constraints and parameters are named as in MLflow: `metrics.val_loss`,
    `constraints.size <= 20`, `params.lr`. Values of parameters that a cell alone would leave open
    are marked, see `studyflow.spec.cells`: `studyflow import csv` reads the same values again.
    Times are ISO 8601 in UTC. A message that a spreadsheet would run as a formula begins with `'`.
    """
    names = parameter_names(data)
    choices = {n: p.choices for n, p in data.space.items() if isinstance(p, CategoricalParameter)}
    others = tuple(name for name in data.spec.metrics if name not in data.metrics)
    constraints = tuple(dict.fromkeys(n for r in data.trials for n in r.constraints))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            "number",
            "state",
            "cause",
            *(f"metrics.{name}" for name in data.metrics),
            *(f"metrics.{name}" for name in others),
            *(f"constraints.{name}" for name in constraints),
            *(f"params.{name}" for name in names),
            "attempt",
            "duration_seconds",
            "started_at",
            "finished_at",
            "message",
        ]
    )
    for record in data.trials:
        params = data.params(record)
        values = record.values or ("",) * len(data.metrics)
        writer.writerow(
            [
                record.number,
                record.state.value,
                "" if record.cause is None else record.cause.value,
                *values,
                *(record.metrics.get(name, "") for name in others),
                *(record.constraints.get(name, "") for name in constraints),
                *(
                    write_cell(params[name], choices.get(name, ())) if name in params else ""
                    for name in names
                ),
                record.attempt,
                "" if record.duration_seconds is None else round(record.duration_seconds, 3),
                _iso(record.started_at),
                _iso(record.finished_at),
                _no_formula(wording.one_line(str(record.reason))),
            ]
        )
    return out.getvalue()


def best_config(data: StudyData) -> dict[str, Any]:
    """Return the best configuration, ready for YAML or JSON.

    Holds `study`, and for one objective `trial`, `objectives` by metric and `params` with the fixed
    ones (`trial` is `None` and `params` empty while nothing is known); for several objectives
    `front`, a list of such entries.
    """
    entries = [
        {
            "trial": record.number,
            "objectives": dict(zip(data.metrics, record.values or (), strict=False)),
            "params": data.params(record),
        }
        for record in data.best
    ]
    if data.is_multi_objective:
        return {"study": data.spec.name, "front": entries}
    empty: dict[str, Any] = {"trial": None, "objectives": {}, "params": {}}
    return {"study": data.spec.name, **(entries[0] if entries else empty)}


def best_config_yaml(data: StudyData) -> str:
    """Return the best configuration as YAML."""
    return yaml.safe_dump(best_config(data), sort_keys=False, allow_unicode=True)


def markdown_table(data: StudyData, *, limit: int = 20) -> str:
    """Return the trials as a Markdown table of at most `limit` lines, the best first.

    Complete trials come by their first objective, all others after them by number. All that stands
    in a study file or comes from a script is escaped.
    """
    sign = 1.0 if data.spec.directions[0] == "minimize" else -1.0
    order = {record.number: i for i, record in enumerate(data.trials)}
    ranked = sorted(
        data.trials,
        key=lambda r: (r.values is None, sign * r.values[0] if r.values else 0.0, order[r.number]),
    )
    heads = ["trial", "state", *data.metrics, "parameters", "duration"]
    lines = [
        "| " + " | ".join(wording.markdown(head, 40) for head in heads) + " |",
        "|" + " --- |" * len(heads),
    ]
    for record in ranked[:limit]:
        star = " ★" if record.number in data.best_numbers else ""
        params = ", ".join(f"{k}={wording.value(v)}" for k, v in data.searched(record).items())
        cells = [
            f"{record.number}{star}",
            wording.markdown(describe_state(record)),
            *_value_cells(data, record),
            wording.markdown(params, 160),
            wording.seconds(record.duration_seconds),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    left = len(ranked) - limit
    if left > 0:
        lines += ["", f"… and {wording.plural(left, 'more trial')}; `trials.csv` has them all."]
    return "\n".join(lines) + "\n"


def describe_state(record: TrialRecord) -> str:
    """Return a trial's state in a few words: `complete`, `failed (nan)`, `paused`."""
    if record.state is TrialState.FAILED and record.cause is not None:
        return f"failed ({record.cause.value})"
    if record.state is TrialState.COMPLETE and not record.is_feasible:
        return "infeasible"
    return "paused" if record.is_paused else record.state.value


def improvements(data: StudyData) -> frozenset[int]:
    """Return the trials that were the best, or on the front, among those up to themselves."""
    signs = [1.0 if direction == "minimize" else -1.0 for direction in data.spec.directions]
    found = set()
    front: list[tuple[float, ...]] = []
    for record in data.complete:
        if not record.is_feasible:
            continue
        cost = tuple(s * v for s, v in zip(signs, record.values or (), strict=True))
        if any(all(o <= c for o, c in zip(other, cost, strict=True)) for other in front):
            continue
        front = [o for o in front if not all(c <= x for c, x in zip(cost, o, strict=True))]
        front.append(cost)
        found.add(record.number)
    return frozenset(found)


def _value_cells(data: StudyData, record: TrialRecord) -> list[str]:
    if record.values is None:
        return ["–"] * len(data.metrics)
    return [wording.number(value) for value in record.values]


def _iso(timestamp: float | None) -> str:
    if timestamp is None:
        return ""
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")


def _no_formula(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
