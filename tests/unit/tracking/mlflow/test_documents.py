"""What an MLflow shows of a study."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from studyflow.testing.tracker_contract import card, complete
from studyflow.tracking import StudySummary
from studyflow.tracking.mlflow.documents import (
    Latest,
    TrackedStudy,
    bounded,
    bounded_name,
    closing_metrics,
    lines_tag,
    read_value,
    summary_metrics,
    summary_tags,
    summary_texts,
)


def test_a_text_that_is_cut_says_so_and_equals_no_other() -> None:
    assert bounded("short", 60) == "short"
    one, other = (bounded("x" * 6000 + end, 6000) for end in "ab")
    assert len(one) == 6000
    assert one.endswith("… [6001 characters, sha256 " + one[-9:])
    assert one != other


def test_lines_are_kept_whole_and_the_rest_is_counted() -> None:
    assert lines_tag(["a", "b"]) == "a\nb"
    many = lines_tag([f"model-{number:04d}.bin: refused" for number in range(1000)])
    assert len(many) <= 8000
    *whole, last = many.split("\n")
    assert whole[-1].endswith(".bin: refused")
    assert last == f"and {1000 - len(whole)} more"


def test_a_final_value_goes_after_the_last_point_of_its_metric() -> None:
    latest = {"loss": Latest(9, 2_000, 0.75), "accuracy": Latest(4, 100, 0.9)}
    record = complete(0, 0.25, constraints={}, started_at=None)
    assert closing_metrics(record, ("loss",), latest, 1_000) == [
        ("loss", 0.25, 2_001, 9),
        ("objective", 0.25, 1_000, 0),
    ]


@pytest.mark.parametrize("reported", [0.125, 0.25, 0.5])
@pytest.mark.parametrize("lasted_seconds", [0.0, 0.001, 60.0])
def test_a_final_value_is_the_latest_also_of_a_trial_that_took_no_time(
    reported: float, lasted_seconds: float
) -> None:
    record = complete(
        0,
        0.25,
        constraints={},
        intermediate={0: 0.75, 5: reported},
        metrics={"accuracy": 0.9, "loss": 0.25},
        started_at=1.0 - lasted_seconds,
        finished_at=1.0,
    )

    points = [p for p in closing_metrics(record, ("loss",), {}, 1_000) if p.key == "loss"]

    # As MLflow has it: the highest step, then time, then value.
    assert max(points, key=lambda p: (p.step, p.timestamp_ms, p.value)).value == 0.25
    assert {p.step: p.value for p in points[:2]} == {0: 0.75, 5: reported}


def test_a_value_that_is_the_latest_already_is_not_logged_again() -> None:
    latest = {
        "loss": Latest(9, 2_000, 0.25),
        "objective": Latest(0, 1_000, 0.25),
        "accuracy": Latest(0, 1_000, 0.9),
        "duration_seconds": Latest(0, 1_000, 7.0),
    }
    assert closing_metrics(complete(0, 0.25, constraints={}), ("loss",), latest, 1_000) == []


def test_the_largest_float_is_an_infinity_again() -> None:
    assert [read_value(v) for v in (1.7976931348623157e308, -1.8e308, 0.5)] == [
        math.inf,
        -math.inf,
        0.5,
    ]


def test_a_name_longer_than_a_column_is_cut_and_equals_no_other() -> None:
    assert bounded_name("study") == "study"
    one, other = (bounded_name("x" * 300 + end) for end in "ab")
    assert (len(one), len(other)) == (250, 250)
    assert one != other


def test_objectives_have_names_before_the_study_is_opened() -> None:
    study = TrackedStudy("demo")
    assert study.objectives_of(complete(0)) == ("objective",)
    two = complete(0, values=(1.0, 2.0))
    assert study.objectives_of(two) == ("objective_0", "objective_1")
    summary = StudySummary(True, (two,), (two,))
    assert study.objectives_in(summary) == (("objective_0", "objective_1"), ("minimize",) * 2)
    study.card = card(objectives=("loss", "size"))
    assert study.objectives_of(two) == ("loss", "size")


def test_of_a_front_the_best_of_each_objective_is_a_metric() -> None:
    records = tuple(complete(n, values=(float(n), 2.0 - n)) for n in range(2))
    summary = StudySummary(True, records, records)
    points = summary_metrics(summary, ("loss", "gain"), ("minimize", "maximize"), 7)
    assert {point.key: point.value for point in points} == {
        "n_trials": 2.0,
        "n_complete": 2.0,
        "n_pruned": 0.0,
        "n_failed": 0.0,
        "n_pareto": 2.0,
        "best/loss": 0.0,
        "best/gain": 2.0,
    }
    assert {(point.timestamp_ms, point.step) for point in points} == {(7, 2)}


def test_a_tag_names_at_most_500_best_trials() -> None:
    best = tuple(complete(n) for n in range(502))
    tags = summary_tags(StudySummary(False, best, best), ("a", "b"))
    assert tags["studyflow.state"] == "interrupted"
    assert tags["studyflow.best_trials"].endswith(",498,499, and 2 more")


def test_texts_that_the_summary_brings_as_files_are_left_out(tmp_path: Path) -> None:
    summary = StudySummary(True, (), (complete(0),), files={"trials.csv": tmp_path / "t.csv"})
    assert list(summary_texts(summary, ("loss",))) == ["trials.json"]
