"""The trial's values from its script's runs, and the reason where there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from studyflow.reasons import Code, Reason
from studyflow.tracking.logged import (
    Gap,
    LoggedRun,
    LoggedRuns,
    Reading,
    read_metrics,
    why_no_value,
)

pytestmark = pytest.mark.fault("F74")

URI = "http://mlflow:5000"
AWAY = Reason(Code.TRACKER_UNAVAILABLE, f"MLflow at {URI} does not answer.")
REFUSED = Reason(Code.TRACKER_REFUSED, "MLflow refused.", "set MLFLOW_TRACKING_TOKEN.")
SAID = Reason(Code.OUTCOME_MISSING, "It said nothing.")


def run(run_id: str, parent_id: str | None = None, /, **metrics: float) -> LoggedRun:
    return LoggedRun(run_id, f"name-{run_id}", metrics, parent_id=parent_id)


def read(*runs: LoggedRun, reported: Mapping[str, float] | None = None, **more: Any) -> Reading:
    (reading,) = read_metrics(("loss",), LoggedRuns(URI, runs, **more), reported or {})
    return reading


def say(*runs: LoggedRun, message: str = "It said nothing.", **more: Any) -> str:
    logged = LoggedRuns(more.pop("uri", URI), runs, **more)
    said = Reason(Code.OUTCOME_MISSING, message)
    return str(why_no_value(said, 3, read_metrics(("loss",), logged, {}), logged))


@pytest.mark.parametrize(
    "runs",
    [
        (run("own", loss=0.5),),
        (run("own"), run("second", loss=0.5)),
        (run("own", other=1.0), run("nested", "own", loss=0.5)),
        # Of runs around each other the outer one counts, at any distance and in any order.
        (run("own", loss=0.5), run("fold", "own", loss=0.1), run("fold2", "own", loss=0.9)),
        (run("own", loss=0.5), run("inner", "middle", loss=0.1), run("middle", "own")),
        (run("own"), run("outer", loss=0.5), run("fold", "outer", loss=0.1)),
        # Several that say the same.
        (run("own", loss=0.5), run("second", loss=0.5)),
        (run("own"), run("fold", "own", loss=0.5), run("fold2", "own", loss=0.5)),
        # A parent that is not the script's, such as the study's run.
        (run("own", "study", loss=0.5),),
    ],
)
def test_a_value_stands_where_the_runs_agree(runs: tuple[LoggedRun, ...]) -> None:
    assert (read(*runs).value, read(*runs).gap) == (0.5, None)


@pytest.mark.parametrize(
    "runs",
    [
        (run("own", loss=0.5), run("second", loss=0.4)),
        (run("own"), run("fold", "own", loss=0.5), run("fold2", "own", loss=0.4)),
        (run("own", loss=0.5), run("outer"), run("inner", "outer", loss=0.4)),
        (run("own", loss=0.5), run("second", loss=math.nan)),
        (
            run("own"),
            run("one", "other", loss=0.5),
            run("other", "one", loss=0.4),
            run("x", loss=1),
        ),
    ],
)
def test_where_runs_disagree_no_value_is_picked(runs: tuple[LoggedRun, ...]) -> None:
    assert read(*runs).value is None


def test_nan_agrees_with_nan() -> None:
    value = read(run("own", loss=math.nan), run("second", loss=math.nan)).value
    assert value is not None
    assert math.isnan(value)


def test_what_came_by_the_sdk_comes_first() -> None:
    assert read(run("own", loss=0.5), run("x", loss=0.4), reported={"loss": 0.3}).value == 0.3
    away = read(failure=AWAY, is_retryable=True, reported={"loss": 0.3})
    assert away.value == 0.3


def test_a_name_that_mlflow_does_not_take_is_found_by_its_key() -> None:
    from studyflow.tracking.keys import key_for

    logged = LoggedRuns(URI, (run("own", None, **{key_for("loss (%)"): 0.5}),))
    assert read_metrics(("loss (%)",), logged, {})[0].value == 0.5


def test_metrics_of_one_trial_may_stand_in_several_runs() -> None:
    logged = LoggedRuns(URI, (run("own", loss=0.5), run("second", latency=3.0)))
    readings = read_metrics(("loss", "latency"), logged, {})
    assert [reading.value for reading in readings] == [0.5, 3.0]


def test_why_there_is_no_value_is_data() -> None:
    assert read(run("own", other=1.0)).gap is Gap.ABSENT
    assert read(run("own", loss=0.5), run("x", loss=0.4)).gap is Gap.AMBIGUOUS
    assert read(LoggedRun("own", "", outdated=frozenset({"loss"}))).gap is Gap.OUTDATED
    assert read(failure=AWAY).gap is Gap.UNREADABLE


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            say(run("own", loss=0.5), LoggedRun("x", "bold-cat-12", {"loss": 0.4})),
            "its MLflow runs disagree on loss: 'name-own' has 0.5, one has 0.4. Hint: log the one",
        ),
        (
            say(run("own", accuracy=0.9), run("x", f1=0.8)),
            "its MLflow runs have no loss; they have accuracy, f1. Hint: the study file and",
        ),
        (
            say(run("own", None, **{f"m{i}": 1.0 for i in range(9)})),
            "they have m0, m1, m2, m3 and 5 more. Hint:",
        ),
        (
            say(LoggedRun("own", "", outdated=frozenset({"loss"}))),
            "the loss in its MLflow run is older than this attempt: an earlier one logged it.",
        ),
        (
            say(failure=AWAY),
            "what it logged to MLflow is not known: MLflow at http://mlflow:5000 does not answer.",
        ),
        (
            say(run("own"), unrelated=(LoggedRun("s", "a-b-1", {"loss": 0.4}, experiment="mine"),)),
            "A run of experiment 'mine' began meanwhile and has loss=0.4, but nothing ties it to",
        ),
        (
            say(run("own")),
            "Its MLflow run at http://mlflow:5000 has no metric either. Hint: a script",
        ),
        (say(), "It said nothing. There is no MLflow run of this trial either"),
    ],
)
def test_a_message_says_what_was_found_and_what_to_change(message: str, words: str) -> None:
    assert words in message


def test_an_mlflow_that_refuses_has_another_code_than_one_that_does_not_answer() -> None:
    why = [
        why_no_value(SAID, 3, [Reading("loss", gap=Gap.UNREADABLE)], LoggedRuns(failure=failure))
        for failure in (AWAY, REFUSED)
    ]
    assert [reason.code for reason in why] == [Code.TRACKER_UNAVAILABLE, Code.TRACKER_REFUSED]
    assert why[1].hint == (
        "set MLFLOW_TRACKING_TOKEN. Or call sdk.finish(...), which does not need MLflow."
    )


def test_without_mlflow_nothing_is_said_of_it() -> None:
    assert say(run("own"), uri=None) == "It said nothing."


def test_the_gravest_gap_is_told() -> None:
    logged = LoggedRuns(URI, (run("own", loss=0.5), run("x", loss=0.4)))
    found = why_no_value(SAID, 0, read_metrics(("latency", "loss"), logged, {}), logged)
    assert found.code is Code.METRIC_AMBIGUOUS
    assert "disagree on loss" in found.message


def test_the_call_in_a_hint_can_be_typed() -> None:
    logged = LoggedRuns(
        URI, (run("own", None, **{"val/loss": 0.5}), run("x", None, **{"val/loss": 0.4}))
    )
    found = why_no_value(SAID, 0, read_metrics(("val/loss",), logged, {}), logged)
    assert str(found).endswith('sdk.finish(**{"val/loss": ...}).')
