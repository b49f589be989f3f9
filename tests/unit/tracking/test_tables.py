from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from studyflow.testing.tracker_contract import complete, running
from studyflow.tracking import tables
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState


def test_a_table_has_a_row_for_each_trial_by_number() -> None:
    records = [
        complete(1, 0.25, params={"lr": 0.1}),
        running(0, params={"layers": 2}, message="=HYPERLINK(1)"),
    ]
    columns, rows = tables.trials_table(records, ("loss",))
    assert columns == [
        "trial", "state", "cause", "attempt", "duration_seconds", "loss",
        "param.layers", "param.lr", "metric.accuracy", "constraint.latency_ms <= 20", "message",
    ]  # fmt: skip
    assert rows == [
        [0, "running", None, 1, None, None, 2, None, None, None, "=HYPERLINK(1)"],
        [1, "complete", "ok", 1, 7.0, 0.25, None, 0.1, 0.9, -3.0, ""],
    ]
    assert tables.as_csv(columns, rows).splitlines()[1] == "0,running,,1,,,2,,,,'=HYPERLINK(1)"


@pytest.mark.fault("F72")
def test_parameters_that_look_like_something_else_are_marked_and_absent_ones_are_empty() -> None:
    records = [
        complete(0, 0.5, params={"a": None, "b": "=1", "c": "1"}),
        complete(1, 0.5, params={"a": True, "b": "x"}),
    ]
    columns, rows = tables.trials_table(records, ("loss",))
    indices = [columns.index(f"param.{name}") for name in "abc"]

    assert [[row[index] for index in indices] for row in rows] == [
        ["null", '"=1"', '"1"'],
        [True, "x", None],
    ]


def test_mlflows_table_is_strict_json() -> None:
    text = tables.as_mlflow_table(["a"], [[math.nan], [math.inf], [1.5], [None]])
    assert json.loads(text) == {"columns": ["a"], "data": [["nan"], ["inf"], [1.5], [None]]}


@pytest.mark.parametrize(
    ("state", "cause", "status"),
    [
        (TrialState.WAITING, None, "RUNNING"),
        (TrialState.RUNNING, None, "RUNNING"),
        (TrialState.COMPLETE, Cause.OK, "FINISHED"),
        (TrialState.FAILED, None, "FAILED"),
        (TrialState.FAILED, Cause.CANCELLED, "KILLED"),
    ],
)
def test_a_status_follows_state_and_cause(
    state: TrialState, cause: Cause | None, status: str
) -> None:
    assert tables.run_status(state, cause) == status


def test_waiting_trials_are_not_counted() -> None:
    records = [TrialRecord(5, TrialState.WAITING, {}), running(0), complete(1)]
    assert tables.state_counts(records) == {
        "n_trials": 2,
        "n_complete": 1,
        "n_pruned": 0,
        "n_failed": 0,
    }


def test_a_folder_keeps_its_name_and_tree(tmp_path: Path) -> None:
    (tmp_path / "plots" / "deep").mkdir(parents=True)
    (tmp_path / "plots" / "deep" / "a.svg").write_text("")
    (tmp_path / "b.txt").write_text("")
    found = tables.artifact_files([tmp_path / "b.txt", tmp_path / "plots"])
    assert [file.name for file in found.files] == ["b.txt", "plots/deep/a.svg"]
