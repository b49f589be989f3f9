from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from typing import Any

import pytest

from studyflow.errors import DocumentError
from studyflow.trial import (
    MESSAGE_LIMIT_CHARS,
    OUTCOME_LIMIT_BYTES,
    Cause,
    Consequence,
    MetricPoint,
    Outcome,
    TrackingRef,
    Trial,
)

TRIAL = {"version": 1, "study": "mnist", "number": 7, "attempt": 2, "params": {"lr": 0.1}}
OUTCOME = {
    "version": 1,
    "study": "mnist",
    "number": 7,
    "attempt": 1,
    "cause": "ok",
    "metrics": {"loss": 0.5},
    "message": "",
}


def test_what_follows_from_every_cause() -> None:
    assert {cause.value: cause.consequence for cause in Cause} == {
        "ok": Consequence.TELL,
        "pruned": Consequence.TELL,
        "evicted": Consequence.RETRY,
        "preempted": Consequence.RETRY,
        "node-lost": Consequence.RETRY,
        "node-fault": Consequence.RETRY,
        "image-pull": Consequence.RETRY,
        "quota": Consequence.RETRY,
        "api-unavailable": Consequence.RETRY,
        "lost": Consequence.RETRY,
        "host-oom": Consequence.INFEASIBLE,
        "cuda-oom": Consequence.INFEASIBLE,
        "nan": Consequence.INFEASIBLE,
        "timeout": Consequence.INFEASIBLE,
        "user-error": Consequence.FAIL,
        "bad-metric": Consequence.FAIL,
        "unschedulable": Consequence.WAIT,
        "cancelled": Consequence.END,
        "budget": Consequence.END,
        "paused": Consequence.PAUSE,
    }


def test_the_causes_that_nobody_is_to_blame_for() -> None:
    assert {cause.value for cause in Cause if cause.is_infrastructure} == {
        "evicted",
        "preempted",
        "node-lost",
        "node-fault",
        "image-pull",
        "quota",
        "api-unavailable",
        "lost",
        "unschedulable",
    }


def test_the_trial_document() -> None:
    trial = Trial(
        study="mnist",
        number=7,
        params={"lr": 0.1, "opt": None},
        metrics=("loss",),
        tracking=TrackingRef(uri="http://mlflow:5000", run_id="abc"),
    )

    assert json.loads(trial.to_json()) == {
        "version": 1,
        "study": "mnist",
        "number": 7,
        "attempt": 1,
        "params": {"lr": 0.1, "opt": None},
        "budget": None,
        "metrics": ["loss"],
        "outcome_path": None,
        "metrics_path": None,
        "artifact_dir": None,
        "checkpoint_dir": None,
        "stop_path": None,
        "tracking": {"uri": "http://mlflow:5000", "run_id": "abc"},
    }


def test_a_trial_document_needs_only_what_has_no_default() -> None:
    assert Trial.from_json(json.dumps(TRIAL)) == Trial(
        study="mnist", number=7, attempt=2, params={"lr": 0.1}
    )


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": True},
        {"version": None},
        {"study": 3},
        {"number": "7"},
        {"number": True},
        {"params": []},
        {"params": {"lr": [1]}},
        {"metrics": 3},
        {"metrics": [3]},
        {"budget": "ten"},
        {"tracking": "http://mlflow"},
        {"tracking": {"uri": "http://mlflow"}},
        {"tracking": {"uri": 3, "run_id": "a"}},
        {"checkpoints": "/a"},
        {"checkpoints": {"own": "/a", "trial": "/b"}},
        {"checkpoints": {"own": "/a", "trial": "/b", "retired": [1]}},
        {"checkpoints": {"own": None, "trial": "/b", "retired": []}},
    ],
)
def test_a_malformed_trial_document_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DocumentError):
        Trial.from_json(json.dumps({**TRIAL, **change}))


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), b"x"])
def test_a_parameter_that_json_does_not_know_is_refused(value: Any) -> None:
    with pytest.raises(DocumentError, match="Trial 7 cannot be written as JSON"):
        Trial(study="mnist", number=7, params={"lr": value}).to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"cause": "meteor"},
        {"cause": None},
        {"metrics": {"": 1}},
        {"metrics": {"m" * 251: 1}},
        {"metrics": {"a\0b": 1}},
        {"metrics": {"loss": "one"}},
        {"metrics": {"loss": True}},
        {"metrics": {"loss": None}},
        {"metrics": []},
        {"attempt": 1.0},
        {"stopped": "yes"},
        {"stopped": 1},
        {"stopped": None},
    ],
)
@pytest.mark.fault("F41")
def test_a_malformed_outcome_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DocumentError):
        Outcome.from_json(json.dumps({**OUTCOME, **change}))


def test_an_outcome_says_only_when_the_script_had_been_told_to_stop() -> None:
    outcome = Outcome("mnist", 7, 1, Cause.OK, {"loss": 0.5})

    assert json.loads(outcome.to_json()) == OUTCOME
    assert Outcome.from_json(json.dumps(OUTCOME)) == outcome
    stopped = dataclasses.replace(outcome, stopped=True)
    assert json.loads(stopped.to_json()) == {**OUTCOME, "stopped": True}
    assert Outcome.from_json(stopped.to_json()) == stopped


@pytest.mark.fault("F57")
def test_fields_that_a_later_studyflow_adds_are_passed_over() -> None:
    later = {"colour": "blue", "node": {"name": "gpu-3"}}

    assert Outcome.from_json(json.dumps({**OUTCOME, **later})) == Outcome.from_json(
        json.dumps(OUTCOME)
    )
    assert Trial.from_json(json.dumps({**TRIAL, **later})) == Trial.from_json(json.dumps(TRIAL))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xff", "not UTF-8"),
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"version": 1, "version": 1}', "a key stands twice"),
        ("[" * 2000, "not JSON"),
        ("\ud800", "not UTF-8"),
        (" " * (OUTCOME_LIMIT_BYTES + 1), "4097 bytes long; the limit is 4096"),
    ],
)
@pytest.mark.fault("F41")
def test_what_is_no_outcome_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        Outcome.from_json(text)


def test_metrics_keep_nan_and_infinities() -> None:
    text = Outcome(
        study="m",
        number=0,
        attempt=1,
        cause=Cause.NAN,
        metrics={"a": math.nan, "b": math.inf, "c": -math.inf},
    ).to_json()

    assert json.loads(text)["metrics"] == {"a": "nan", "b": "inf", "c": "-inf"}
    metrics = Outcome.from_json(text).metrics
    assert math.isnan(metrics["a"])
    assert metrics["b"] == math.inf
    assert metrics["c"] == -math.inf


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e999", math.inf),
        ("-1e999", -math.inf),
        ("9" * 400, math.inf),
        ("-" + "9" * 400, -math.inf),
    ],
)
@pytest.mark.fault("F39")
def test_numbers_beyond_floats_are_infinite(written: str, value: float) -> None:
    assert MetricPoint.from_json(f'["loss", 1, {written}, 2]').value == value


def test_a_nan_that_python_wrote_stays_one() -> None:
    assert math.isnan(MetricPoint.from_json('["loss", 1, NaN, 2]').value)


def test_a_long_message_is_cut_so_that_the_metrics_fit() -> None:
    outcome = Outcome(
        study="m",
        number=0,
        attempt=1,
        cause=Cause.USER_ERROR,
        metrics={f"metric_{i}": 0.1 for i in range(150)},
        message="é" * 5000,
        stopped=True,
    )

    text = outcome.to_json()

    assert len(text.encode()) <= OUTCOME_LIMIT_BYTES
    assert len(Outcome.from_json(text).metrics) == 150
    assert set(Outcome.from_json(text).message) <= {"é"}


def test_too_many_metrics_are_refused() -> None:
    metrics = {f"metric_{i}": 0.1 for i in range(500)}

    with pytest.raises(DocumentError, match="holds 500 metrics and is longer than 4096 bytes"):
        Outcome(study="m", number=0, attempt=1, cause=Cause.OK, metrics=metrics).to_json()


def test_a_message_loses_what_no_database_stores() -> None:
    text = json.dumps({**OUTCOME, "message": "a\0b\ud800c" + "x" * 2000})

    message = Outcome.from_json(text).message

    assert message.startswith("a?b?cxxx")
    assert len(message) == MESSAGE_LIMIT_CHARS


@pytest.mark.parametrize(
    "line",
    [
        "",
        '["loss", 1, 0.5',
        '["loss", 1, 0.5]',
        '["loss", true, 0.5, 1]',
        '["loss", 1.5, 0.5, 1]',
        '["loss", 1, 0.5, 9223372036854775808]',
        '["", 1, 0.5, 1]',
        "[3, 1, 0.5, 1]",
        '{"a": 1, "b": 2, "c": 3, "d": 4}',
        '"abcd"',
        "7",
    ],
)
def test_a_torn_line_is_no_metric_point(line: str) -> None:
    with pytest.raises(DocumentError, match="Not a line of a metrics file"):
        MetricPoint.from_json(line)


def test_a_trial_image_needs_only_the_standard_library() -> None:
    code = (
        "import sys, studyflow.trial;"
        "sys.exit(bool({'pydantic', 'yaml', 'click', 'optuna'} & sys.modules.keys()))"
    )

    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0
