"""Tables, counts and files of trials, as trackers show them."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from studyflow.spec.cells import write_cell
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState
from studyflow.trial.user_files import Artifact, Gathered, gather

Cell = str | int | float | bool | None


def trials_table(
    records: Sequence[TrialRecord], objectives: Sequence[str]
) -> tuple[list[str], list[list[Cell]]]:
    """Return columns and one row per trial, ordered by number.

    Parameters, other metrics and constraints get a column each in order of first appearance, with
    a prefix that keeps their names apart. Cells without a value are `None`. A parameter that is
    null, and a text that could be read as another value, are written as by `studyflow.spec.cells`.
    """
    ordered = sorted(records, key=lambda record: record.number)
    params = _names(record.params for record in ordered)
    metrics = [n for n in _names(record.metrics for record in ordered) if n not in objectives]
    constraints = _names(record.constraints for record in ordered)
    columns = [
        "trial", "state", "cause", "attempt", "duration_seconds",
        *objectives,
        *(f"param.{name}" for name in params),
        *(f"metric.{name}" for name in metrics),
        *(f"constraint.{name}" for name in constraints),
        "message",
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for record in ordered:
        values = record.values or (None,) * len(objectives)
        rows.append(
            [
                record.number,
                record.state.value,
                record.cause.value if record.cause else None,
                record.attempt,
                record.duration_seconds,
                *values,
                *(_param_cell(record, name) for name in params),
                *(record.metrics.get(name) for name in metrics),
                *(record.constraints.get(name) for name in constraints),
                str(record.reason),
            ]
        )
    return columns, rows


def as_csv(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return the table as CSV text; a missing cell is empty.

    Text that a spreadsheet would run as a formula begins with an apostrophe: messages come from
    user code.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_harmless(column) for column in columns])
    writer.writerows([[_harmless(cell) for cell in row] for row in rows])
    return text.getvalue()


def as_mlflow_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return the table in the JSON form that MLflow's artifact viewer shows as a table."""
    data = [[_json_cell(cell) for cell in row] for row in rows]
    return json.dumps({"columns": list(columns), "data": data}, ensure_ascii=False, allow_nan=False)


def run_status(state: TrialState, cause: Cause | None) -> str:
    """Return MLflow's status of a trial's run."""
    if state in (TrialState.COMPLETE, TrialState.PRUNED):
        return "FINISHED"
    if state is TrialState.FAILED:
        return "KILLED" if cause in (Cause.CANCELLED, Cause.BUDGET) else "FAILED"
    return "RUNNING"


def state_counts(records: Iterable[TrialRecord]) -> dict[str, int]:
    """Return how many trials were suggested, and how many are in each final state."""
    suggested = [record for record in records if record.state is not TrialState.WAITING]
    return {
        "n_trials": len(suggested),
        "n_complete": sum(record.state is TrialState.COMPLETE for record in suggested),
        "n_pruned": sum(record.state is TrialState.PRUNED for record in suggested),
        "n_failed": sum(record.state is TrialState.FAILED for record in suggested),
    }


def artifact_files(artifacts: Sequence[Path]) -> Gathered:
    """Return each file with its path among the artifacts: files by name, folders as a tree.

    Pipes, broken links and links that lead out of an artifact's folder are left out; see
    `studyflow.trial.user_files`. An artifact that is gone counts as a file: its upload fails, and a
    later sync tries again.
    """
    found = gather((path, path.name, path.parent) for path in artifacts if os.path.lexists(path))
    found.files += [Artifact(path, path.name, 0) for path in artifacts if not os.path.lexists(path)]
    return found


def _names(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _param_cell(record: TrialRecord, name: str) -> Cell:
    if name not in record.params:
        return None
    value = record.params[name]
    return write_cell(value) if value is None or isinstance(value, str) else value


def _harmless(cell: Cell) -> Cell:
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{cell}"
    return cell


def _json_cell(cell: Cell) -> Cell:
    return str(cell) if isinstance(cell, float) and not math.isfinite(cell) else cell
