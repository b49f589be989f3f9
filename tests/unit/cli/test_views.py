"""What a running study looks like in a terminal and in a log."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console
from tests.unit.cli.shown import BROKEN, DONE, RUNNING, SPEC, progress
from tests.unit.study.studies import make_spec

from studyflow.cli.views import LiveView, PlainView, make_view
from studyflow.testing.fake_clock import FakeClock
from studyflow.trial import MetricPoint
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
    assert "12 trials about 1 min 15 s left" in " ".join(drawn(view).split())
