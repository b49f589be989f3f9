"""What a running study looks like in a terminal and in a log."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console
from tests.unit.cli.shown import BROKEN, DONE, RUNNING, SPEC, progress
from tests.unit.study.studies import make_spec

from studyflow.cli.views import QUIET_SECONDS, LiveView, PlainView, make_view
from studyflow.testing.fake_clock import FakeClock
from studyflow.trial import MetricPoint, ParamValue
from studyflow.trial.record import PausedAttempt


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
        f"1 of 5 trials, 1 running, 10 s so far, about 1 min 15 s left, {best}",
        f"5 of 5 trials, 1 running, 10 s so far, done, {best}; Quota is full.",
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


class Later:
    """Keeps the calls that are to be made later."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def __call__(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        assert seconds == QUIET_SECONDS
        self.calls.append(call)
        return lambda: self.calls.remove(call) if call in self.calls else None

    def come(self) -> None:
        for call in self.calls:
            call()
        self.calls.clear()


def test_a_log_says_what_a_start_does_only_where_that_takes_a_while() -> None:
    lines: list[str] = []
    later = Later()
    view = PlainView(SPEC, lines.append, FakeClock(0.0), later)

    view.starting("opening the study's storage")
    view.starting("creating MLflow's database, once")
    later.come()
    view.starting("preparing the first trial")
    view.progressed(progress(n_finished=0, best=()))
    view.launched(RUNNING)
    later.come()

    assert lines == [
        "creating MLflow's database, once …",
        "trial 4 started (attempt 2): x[bold]=0.5 kind=plain",
    ]


def test_the_live_view_says_what_a_start_does_and_for_how_long() -> None:
    clock = FakeClock(0.0)
    view = LiveView(SPEC, Terminal(), clock)
    view.starting("creating MLflow's database, once")
    assert "creating MLflow's database, once …\n" in drawn(view)
    clock.advance(12)
    assert "creating MLflow's database, once … 12 s" in drawn(view)
    view.progressed(progress(n_finished=0, best=()))
    assert "creating" in drawn(view)
    view.launched(RUNNING)
    assert "10 s, about 1 min 15 s left" in drawn(view)


def test_the_live_view_counts_trials_that_failed_or_were_pruned() -> None:
    view = LiveView(SPEC, Terminal())
    view.progressed(progress())
    assert "ended" not in drawn(view)
    view.progressed(progress(n_failed=2, n_pruned=1))
    assert "ended 2 failed, 1 pruned" in drawn(view)


def test_a_running_trial_shows_step_and_parameters_but_no_constants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    space = {f"p{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(9)}
    only = {"type": "categorical", "choices": ["adam"]}
    spec = make_spec(search_space={"optimizer": only, **space}, fixed={"epochs": 20})
    params: dict[str, ParamValue] = {
        "epochs": 20,
        "optimizer": "adam",
        **dict.fromkeys(space, 0.25),
    }
    record = replace(RUNNING, params=params)
    view = LiveView(spec, Terminal())
    view.progressed(progress(running=(record,), best=()))
    view.reported(record, (MetricPoint("loss", 3, 0.5, 0),))

    line = next(line for line in drawn(view).splitlines() if "trial 4" in line)

    assert line == "  trial 4  step 3  loss=0.5  p0=0.25 p1=0.25 p2=0.25 …"


def drawn(view: LiveView) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(view.draw())
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
        view.progressed(progress(note="Waiting for [gpu].", spent="1.2 of 40 GPU-hours"))
        picture = drawn(view)
        view.attempt_lost(RUNNING, "evicted: [node] drained")
        view.recorded(BROKEN)
        view.noted("A [word] of advice.")

    assert "1/5" in picture
    assert "about 1 min 15 s left" in picture
    assert "best  lo[/]ss=1.5 (trial 3: x[bold]=0.1235 kind=[blue])" in picture
    assert "trial 4  step 7  lo[/]ss=0.25" in picture
    assert "Waiting for [gpu]." in picture
    assert "spent 1.2 of 40 GPU-hours" in picture
    said = stream.getvalue()
    assert "evicted: [node] drained" in said
    assert "IndexError: list[int] at [/weights]" in said
    assert "A [word] of advice." in said


def test_many_running_trials_are_counted() -> None:
    view = LiveView(SPEC, Terminal())
    view.progressed(progress(running=tuple(replace(RUNNING, number=n) for n in range(11))))

    assert "and 3 more running" in drawn(view)
    assert "x[bold]=0.5 kind=plain" in drawn(view)


def test_paused_trials_are_told_of_and_counted_apart() -> None:
    paused = replace(RUNNING, number=7, attempt=1, pauses=(PausedAttempt(1, "Paused at step 3."),))
    view = LiveView(SPEC, Terminal())
    view.progressed(progress(running=(RUNNING, paused)))
    assert "1 paused" in drawn(view)
    assert "trial 7" not in drawn(view)

    written: list[str] = []
    plain = PlainView(SPEC, written.append)
    plain.paused(paused)
    plain.progressed(progress(running=(RUNNING, paused)))
    assert written[0] == "trial 7 paused: Paused at step 3."
    assert "1 running, 1 paused, " in written[1]


def test_without_a_number_of_trials_the_bar_shows_the_budget() -> None:
    view = LiveView(make_spec(budget={"gpu_hours": 40}), Terminal())
    assert "0 trials starting" in " ".join(drawn(view).split())
    view.progressed(progress(n_trials=None, n_finished=12, share=0.5, spent="20 of 40 GPU-hours"))
    assert "12 trials 10 s, about 1 min 15 s left" in " ".join(drawn(view).split())
