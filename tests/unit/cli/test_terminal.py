"""What a study looks like in a terminal and in a log."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.unit.study.studies import make_spec

from studyflow.cli.terminal import (
    MAX_RESULT_ROWS,
    LiveView,
    PlainView,
    best_text,
    make_view,
    print_result,
    result_text,
    seconds_text,
    trials_table,
    value_text,
)
from studyflow.observers.observer import Progress
from studyflow.reports import StudyData
from studyflow.runner import StudyResult
from studyflow.testing.fake_clock import FakeClock
from studyflow.trial import Cause, MetricPoint
from studyflow.trial.record import TrialRecord, TrialState
from studyflow.tuner import TunerResult

SPEC = make_spec(
    name="st[red]udy",
    objectives=[{"metric": "lo[/]ss", "direction": "minimize"}],
    search_space={
        "x[bold]": {"type": "float", "low": 0.0, "high": 1.0},
        "kind": {"type": "categorical", "choices": ["[blue]", "plain"]},
    },
)
DONE = TrialRecord(
    3,
    TrialState.COMPLETE,
    {"x[bold]": 0.123456, "kind": "[blue]"},
    values=(1.5,),
    cause=Cause.OK,
    attempt=1,
    started_at=100.0,
    finished_at=104.25,
)
RUNNING = TrialRecord(4, TrialState.RUNNING, {"x[bold]": 0.5, "kind": "plain"}, attempt=2)
BROKEN = replace(
    DONE,
    number=5,
    state=TrialState.FAILED,
    values=None,
    cause=Cause.USER_ERROR,
    message="IndexError: list[int] at [/weights]",
)


def progress(**changes: Any) -> Progress:
    known: dict[str, Any] = {
        "study": "st[red]udy",
        "n_finished": 1,
        "n_trials": 5,
        "running": (RUNNING,),
        "best": (DONE,),
        "elapsed_seconds": 10.0,
        "remaining_seconds": 75.0,
    }
    return Progress(**{**known, **changes})


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


def test_the_plain_view_tells_the_story_line_by_line() -> None:
    lines: list[str] = []
    best = "best lo[/]ss=1.5 (trial 3: x[bold]=0.1235 kind=[blue])"
    clock = FakeClock(0.0)
    view = PlainView(SPEC, lines.append, clock)
    with view.shown():
        view.launched(RUNNING)
        view.attempt_lost(RUNNING, "evicted: node drained")
        view.recorded(DONE)
        view.recorded(BROKEN)
        view.progressed(progress())
        view.progressed(progress(n_finished=2))
        clock.advance(10)
        view.progressed(progress(n_finished=5, note="Quota is full."))
        view.noted("Something [odd] happened.")

    assert lines == [
        "trial 4 started (attempt 2): x[bold]=0.5 kind=plain",
        "trial 4 lost attempt 2: evicted: node drained",
        "trial 3 lo[/]ss=1.5 after 4.2 s",
        "trial 5 failed (user-error) after 4.2 s: IndexError: list[int] at [/weights]",
        f"1 of 5 trials, 1 running, about 1 min 15 s left, {best}",
        f"5 of 5 trials, 1 running, done, {best}; Quota is full.",
        "Something [odd] happened.",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_view_fits_the_stream() -> None:
    assert isinstance(make_view(SPEC, Terminal()), LiveView)
    stream = io.StringIO()
    view = make_view(SPEC, stream)
    assert isinstance(view, PlainView)
    view.noted("one line")
    assert stream.getvalue() == "one line\n"


def drawn(view: LiveView) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(view._draw())
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def test_the_live_view_shows_names_with_brackets_as_they_are() -> None:
    stream = Terminal()
    view = LiveView(SPEC, stream)
    assert "st[red]udy" in drawn(view)
    assert "starting" in drawn(view)
    with view.shown():
        view.launched(RUNNING)
        view.reported(
            RUNNING, [MetricPoint("lo[/]ss", 7, 0.25, 0), MetricPoint("other", 9, 1.0, 0)]
        )
        view.progressed(progress(note="Waiting for [gpu]."))
        picture = drawn(view)
        view.attempt_lost(RUNNING, "evicted: [node] drained")
        view.recorded(BROKEN)
        view.noted("A [word] of advice.")

    assert "1/5" in picture
    assert "about 1 min 15 s left" in picture
    assert "best  lo[/]ss=1.5 (trial 3: x[bold]=0.1235 kind=[blue])" in picture
    assert "trial 4  step 7  lo[/]ss=0.25" in picture
    assert "Waiting for [gpu]." in picture
    said = stream.getvalue()
    assert "evicted: [node] drained" in said
    assert "IndexError: list[int] at [/weights]" in said
    assert "A [word] of advice." in said


def test_many_running_trials_are_counted() -> None:
    view = LiveView(SPEC, Terminal())
    view.progressed(progress(running=tuple(replace(RUNNING, number=n) for n in range(11))))

    assert "and 3 more running" in drawn(view)
    assert "x[bold]=0.5 kind=plain" in drawn(view)


def table_text(records: list[TrialRecord]) -> str:
    stream = io.StringIO()
    Console(file=stream, width=160).print(trials_table(StudyData(SPEC, tuple(records)), 160))
    return stream.getvalue()


def test_the_table_shows_every_trial_and_marks_the_best() -> None:
    text = table_text([DONE, RUNNING, BROKEN])

    assert "★ 3" in text
    assert "lo[/]ss" in text
    assert "x[bold]" in text
    assert "[blue]" in text
    assert "failed (user-error)" in text
    assert "running" in text


def test_a_long_table_keeps_the_newest_the_best_and_the_improvements() -> None:
    records = [replace(DONE, number=n, values=(abs(n - 5.0),)) for n in range(100)]
    text = table_text(records)

    assert f"{MAX_RESULT_ROWS + 6} of 100 trials" in text
    assert "★ 5" in text
    assert "↑ 4" in text
    assert " 99 " in text
    assert " 30 " not in text


def test_parameters_without_room_are_named_below_the_table_instead_of_squeezed() -> None:
    stream = io.StringIO()
    table = trials_table(StudyData(SPEC, (DONE, BROKEN)), width=60)
    Console(file=stream, width=60).print(table)

    lines = stream.getvalue().splitlines()
    assert max(cell_len(line) for line in lines) <= 60
    assert "4.2 s" in stream.getvalue()
    assert "no room for kind" in stream.getvalue()


def result(**changes: Any) -> StudyResult:
    data = StudyData(SPEC, (DONE, BROKEN), optuna.create_study())
    known: dict[str, Any] = {
        "data": data,
        "outcome": TunerResult("All [5] trials are finished.", is_finished=True),
        "report": None,
        "tracking_uri": "sqlite:///home/mlflow.db",
        "run_url": None,
    }
    return StudyResult(**{**known, **changes})


def printed(shown: StudyResult) -> str:
    stream = io.StringIO()
    print_result(shown, Console(file=stream, width=160), ui_hint="studyflow ui")
    return stream.getvalue()


def test_the_result_says_what_is_best_and_where_to_look() -> None:
    text = printed(result())

    assert "All [5] trials are finished." in text
    assert "Best: trial 3" in text
    assert "lo[/]ss=1.5" in text
    assert "x[bold]: 0.123456" in text
    assert "MLflow  sqlite:///home/mlflow.db  (open it: studyflow ui)" in text
    assert "sync" not in text


def test_the_result_names_the_run_and_what_mlflow_lacks() -> None:
    text = printed(result(run_url="http://mlflow/#/runs/[1]", n_unsent=3))

    assert "MLflow  http://mlflow/#/runs/[1]" in text
    assert "MLflow does not have everything yet (3 parts are left)" in text
    assert "studyflow sync" in text


def test_a_server_that_is_away_is_named_without_the_way_to_the_embedded_pages() -> None:
    text = printed(result(tracking_uri="http://mlflow:5000"))

    assert "MLflow  http://mlflow:5000\n" in text
    assert "open it" not in text


@pytest.mark.fault("F78")
def test_without_mlflow_no_address_is_named() -> None:
    text = printed(result(tracking_uri="memory:"))

    assert "MLflow  not installed: pip install 'studyflow[mlflow]', then: studyflow sync" in text
    assert "memory:" not in text


def test_a_study_without_a_best_trial_prints_too(tmp_path: Path) -> None:
    data = StudyData(SPEC, (BROKEN,), optuna.create_study())

    assert "Best" not in printed(result(data=data))
