"""What a running study looks like: live in a terminal, plain lines in a log or a pipe."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from studyflow.cli.texts import (
    best_text,
    ended_text,
    params_text,
    progress_text,
    result_text,
    seconds_text,
    time_left_text,
    varied,
)
from studyflow.observers.observer import Observer
from studyflow.observers.observer import Progress as StudyProgress
from studyflow.spec import StudySpec
from studyflow.study import n_trials_to_finish
from studyflow.trial import MetricPoint
from studyflow.trial.record import TrialRecord, TrialState

MAX_RUNNING_ROWS = 8
"""Running trials shown one by one; the others are counted."""

QUIET_SECONDS = 1.0
"""What a start does is said in a log only if it takes longer."""

_Later = Callable[[float, Callable[[], None]], Callable[[], None]]
"""Makes a call after some seconds, in a thread; returns what cancels it."""


def make_view(spec: StudySpec, stream: TextIO | None = None) -> StudyView:
    """Return the view that fits the stream (standard error by default)."""
    stream = stream or sys.stderr
    return LiveView(spec, stream) if stream.isatty() else PlainView(spec, _printer(stream))


class StudyView(Observer):
    """A view; entered for the time that the study runs."""

    def shown(self) -> AbstractContextManager[object]:
        """Return a context within which the view is on the screen."""
        return nullcontext()


class PlainView(StudyView):
    """One line per event, trial number first; for logs.

    Args:
        spec: The study.
        write: Takes one line without its end.
        clock: Seconds, monotonic; lines about progress come at most every ten.
        later: Makes a call after some seconds; returns what cancels it.
    """

    def __init__(
        self,
        spec: StudySpec,
        write: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        later: _Later | None = None,
    ) -> None:
        self._spec = spec
        self._print = write
        self._clock = clock
        self._later = _after if later is None else later
        self._best: tuple[int, ...] = ()
        self._next_progress = clock() + 10.0
        self._hush: Callable[[], None] = lambda: None

    def _write(self, line: str) -> None:
        self._hush()
        self._print(line)

    def starting(self, what: str) -> None:
        """Write what the start does, if that takes longer than `QUIET_SECONDS`."""
        self._hush()
        self._hush = self._later(QUIET_SECONDS, lambda: self._print(f"{what} …"))

    def launched(self, record: TrialRecord) -> None:
        """Write that an attempt started, and its parameters."""
        attempt = f" (attempt {record.attempt})" if record.attempt > 1 else ""
        params = params_text(varied(self._spec, record.params))
        self._write(f"trial {record.number} started{attempt}: {params}")

    def attempt_lost(self, record: TrialRecord, message: str) -> None:
        """Write why an attempt was lost."""
        self._write(f"trial {record.number} lost attempt {record.attempt}: {message}")

    def paused(self, record: TrialRecord) -> None:
        """Write why a trial was paused."""
        self._write(f"trial {record.number} paused: {record.pauses[-1].message}")

    def recorded(self, record: TrialRecord) -> None:
        """Write what a trial ended with."""
        self._write(f"trial {record.number} {result_text(self._spec, record)}")

    def progressed(self, progress: StudyProgress) -> None:
        """Write where the study stands: when the best changes, else every ten seconds."""
        best = tuple(record.number for record in progress.best)
        now = self._clock()
        if best == self._best and now < self._next_progress:
            return
        self._best, self._next_progress = best, now + 10.0
        self._write(progress_text(self._spec, progress))

    def noted(self, message: str) -> None:
        """Write a note."""
        self._write(message)


class LiveView(StudyView):
    """A progress bar, the best so far, the running trials and the time left, redrawn in place."""

    def __init__(
        self, spec: StudySpec, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._spec = spec
        self._console = Console(file=stream)
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("[progress.download]{task.fields[count]}"),
            TextColumn("{task.fields[left]}"),
            console=self._console,
        )
        n_trials = n_trials_to_finish(spec)
        self._task = self._bar.add_task(
            escape(spec.name),
            total=1.0 if n_trials is None else n_trials,
            count=_count(0, n_trials),
            left="starting",
        )
        self._clock = clock
        self._step: tuple[str, float] | None = None
        """What the start does, and since when; `None` once a trial has started."""
        self._progress: StudyProgress | None = None
        self._latest: dict[int, MetricPoint] = {}
        self._live = Live(
            get_renderable=self.draw, console=self._console, refresh_per_second=4, transient=True
        )

    def shown(self) -> AbstractContextManager[object]:
        """Return a context within which the view is on the screen."""
        return self._live

    def starting(self, what: str) -> None:
        """Show beside the bar what the start does."""
        self._step = what, self._clock()

    def launched(self, record: TrialRecord) -> None:  # noqa: ARG002
        """Show no step of the start any more."""
        self._step = None

    def reported(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        """Show the newest value of the objective beside its trial."""
        metric = self._spec.objectives[0].metric
        for point in points:
            if point.name == metric:
                self._latest[record.number] = point

    def attempt_lost(self, record: TrialRecord, message: str) -> None:
        """Print why an attempt was lost, above the view."""
        self._say(f"[yellow]trial {record.number} lost attempt {record.attempt}:[/] ", message)

    def paused(self, record: TrialRecord) -> None:
        """Print why a trial was paused, above the view."""
        self._say(f"[blue]trial {record.number} paused:[/] ", record.pauses[-1].message)

    def recorded(self, record: TrialRecord) -> None:
        """Print what a trial ended with, above the view."""
        self._step = None
        self._latest.pop(record.number, None)
        colour = {TrialState.COMPLETE: "green", TrialState.PRUNED: "cyan"}.get(record.state, "red")
        self._say(f"[{colour}]trial {record.number}[/] ", result_text(self._spec, record))

    def progressed(self, progress: StudyProgress) -> None:
        """Redraw the bar and the trials."""
        self._progress = progress
        self._bar.update(
            self._task,
            completed=progress.n_finished
            if progress.n_trials is not None
            else progress.share or 0.0,
            total=1.0 if progress.n_trials is None else progress.n_trials,
            count=_count(progress.n_finished, progress.n_trials),
        )

    def noted(self, message: str) -> None:
        """Print a note, above the view."""
        self._say("", message)

    def _say(self, prefix: str, text: str) -> None:
        self._console.print(prefix + escape(text), highlight=False, soft_wrap=True)

    def draw(self) -> RenderableType:
        """Return the view as it is now."""
        progress = self._progress
        self._bar.update(self._task, left=escape(self._left_text()))
        rows: list[RenderableType] = [self._bar]
        if progress is not None:
            best = escape(best_text(self._spec, progress.best))
            rows.append(f"  best  {best}")
            if ended := ended_text(progress):
                rows.append(f"  ended {ended}")
            if progress.spent:
                rows.append(f"  spent {escape(progress.spent)}")
            running = [record for record in progress.running if not record.is_paused]
            shown = running[:MAX_RUNNING_ROWS]
            rows.extend(f"  [dim]trial {r.number}[/]  {self._running_text(r)}" for r in shown)
            if len(running) > len(shown):
                rows.append(f"  [dim]and {len(running) - len(shown)} more running[/]")
            if len(progress.running) > len(running):
                rows.append(f"  [dim]{len(progress.running) - len(running)} paused[/]")
            if progress.note:
                rows.append(f"  [yellow]{escape(progress.note)}[/]")
        return Group(*rows)

    def _left_text(self) -> str:
        """Return what stands beside the bar: a step of the start, or the time so far and left."""
        if self._step is not None:
            what, since = self._step
            took = self._clock() - since
            return f"{what} … {seconds_text(took)}" if took > QUIET_SECONDS else f"{what} …"
        if self._progress is None:
            return "starting …"
        elapsed = seconds_text(self._progress.elapsed_seconds)
        return f"{elapsed}, {time_left_text(self._progress)}"

    def _running_text(self, record: TrialRecord) -> str:
        """Return a trial's newest value, then as many parameters as fit into the line."""
        point = self._latest.get(record.number)
        params = varied(self._spec, record.params)
        if point is None:
            return f"[dim]{escape(params_text(params))}[/]"
        value = f"step {point.step}  {point.name}={point.value:.6g}"
        room = self._console.width - cell_len(f"  trial {record.number}  {value}  ")
        shown = params_text(params)
        if cell_len(shown) > room:
            shown = " ".join(_fitting(shown.split(" "), room - 2)) + " …"
        return f"{escape(value)}  [dim]{escape(shown)}[/]"


def _fitting(words: Sequence[str], room: int) -> list[str]:
    """Return the first words that fit into so many columns."""
    kept: list[str] = []
    for word in words:
        room -= cell_len(word) + (1 if kept else 0)
        if room < 0:
            break
        kept.append(word)
    return kept


def _after(seconds: float, call: Callable[[], None]) -> Callable[[], None]:
    """Make a call after some seconds, in a thread that keeps nobody waiting."""
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()
    return timer.cancel


def _count(n_finished: int, n_trials: int | None) -> str:
    """Return how many trials are finished: of how many, or of a number without a limit."""
    if n_trials is None:
        return f"{n_finished} trials"
    return f"{n_finished:>{len(str(n_trials))}}/{n_trials}"


def _printer(stream: TextIO) -> Callable[[str], None]:
    def write(line: str) -> None:
        stream.write(f"{line}\n")
        stream.flush()

    return write
