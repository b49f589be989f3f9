"""Durations, values and trials on one line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.cli.shown import BROKEN, DONE, SPEC, progress
from tests.unit.study.studies import make_spec

from studyflow.cli.texts import best_text, progress_text, result_text, seconds_text, value_text
from studyflow.trial.record import TrialRecord, TrialState


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (4.24, "4.2 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (10.4, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (60.0, "1 min 0 s"),
        (200.0, "3 min 20 s"),
        (3599.4, "59 min 59 s"),
        (3600.0, "1 h 0 min"),
        (18600.0, "5 h 10 min"),
        (360000.0, "100 h 0 min"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.000123456, "0.0001235"),
        (1e-9, "1e-09"),
        (12, "12"),
        (True, "True"),
        ("a", "a"),
        (None, "None"),
    ],
)
def test_values_are_short(value: Any, text: str) -> None:
    assert value_text(value) == text


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (DONE, "lo[/]ss=1.5 after 4.2 s"),
        (
            replace(DONE, constraints={"a <= 1": 0.5}),
            "lo[/]ss=1.5 (breaks a constraint) after 4.2 s",
        ),
        (
            replace(DONE, state=TrialState.PRUNED, values=None, message="too slow"),
            "pruned after 4.2 s: too slow",
        ),
        (BROKEN, "failed (user-error) after 4.2 s: IndexError: list[int] at [/weights]"),
        (replace(DONE, finished_at=None), "lo[/]ss=1.5"),
    ],
)
def test_a_trials_end_on_one_line(record: TrialRecord, text: str) -> None:
    assert result_text(SPEC, record) == text


def test_the_best_of_several_objectives_is_a_front() -> None:
    two = make_spec(objectives=[{"metric": m, "direction": "minimize"} for m in ("loss", "size")])
    front = tuple(replace(DONE, number=n, values=(float(n), -float(n))) for n in range(3))

    assert best_text(two, front) == "3 trials on the Pareto front"
    assert best_text(two, ()) == "none yet"


def test_progress_says_what_is_spent_before_the_time_left() -> None:
    line = progress_text(SPEC, progress(spent="1.2 of 40 GPU-hours"))
    assert "1 running, 1.2 of 40 GPU-hours, 10 s so far, about" in line


def test_progress_without_a_number_of_trials_names_none() -> None:
    endless = progress(n_trials=None, remaining_seconds=None, spent="1 of 40 GPU-hours")
    assert progress_text(SPEC, endless).startswith(
        "1 trial, 1 running, 1 of 40 GPU-hours, 10 s so far, time left unknown, best "
    )
    assert progress_text(SPEC, progress(n_trials=None, n_finished=12)).startswith("12 trials, ")
