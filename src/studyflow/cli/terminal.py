"""What a study looks like in a terminal: live where it can be, plain lines in a log or a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from studyflow.comparison import ComparisonFiles
from studyflow.observers.observer import Observer
from studyflow.observers.observer import Progress as StudyProgress
from studyflow.reports import StudyData, describe_state, improvements
from studyflow.reports.comparison import Comparison, comparison_table
from studyflow.reports.wording import one_line
from studyflow.retrain import RetrainResult
from studyflow.runner import StudyResult
from studyflow.spec import StudySpec
from studyflow.trial import MetricPoint, ParamValue
from studyflow.trial.record import TrialRecord, TrialState

MAX_RUNNING_ROWS = 8
"""Running trials shown one by one; the others are counted."""

MAX_RESULT_ROWS = 40
"""Newest trials in the closing table, beside the best and the improvements; the report has all."""

MAX_CELL_CHARS = 32
"""Longest text in a cell of that table."""


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
    """

    def __init__(
        self,
        spec: StudySpec,
        write: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec = spec
        self._write = write
        self._clock = clock
        self._best: tuple[int, ...] = ()
        self._next_progress = 0.0

    def launched(self, record: TrialRecord) -> None:
        attempt = f" (attempt {record.attempt})" if record.attempt > 1 else ""
        self._write(f"trial {record.number} started{attempt}: {params_text(record.params)}")

    def attempt_lost(self, record: TrialRecord, message: str) -> None:
        self._write(f"trial {record.number} lost attempt {record.attempt}: {message}")

    def recorded(self, record: TrialRecord) -> None:
        self._write(f"trial {record.number} {result_text(self._spec, record)}")

    def progressed(self, progress: StudyProgress) -> None:
        best = tuple(record.number for record in progress.best)
        now = self._clock()
        if best == self._best and now < self._next_progress:
            return
        self._best, self._next_progress = best, now + 10.0
        self._write(progress_text(self._spec, progress))

    def noted(self, message: str) -> None:
        self._write(message)


class LiveView(StudyView):
    """A progress bar, the best so far, the running trials and the time left, redrawn in place."""

    def __init__(self, spec: StudySpec, stream: TextIO) -> None:
        self._spec = spec
        self._console = Console(file=stream)
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
        )
        self._task = self._bar.add_task(
            escape(spec.name), total=spec.budget.n_trials, left="starting"
        )
        self._progress: StudyProgress | None = None
        self._latest: dict[int, MetricPoint] = {}
        self._live = Live(
            get_renderable=self._draw, console=self._console, refresh_per_second=4, transient=True
        )

    def shown(self) -> AbstractContextManager[object]:
        return self._live

    def reported(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        metric = self._spec.objectives[0].metric
        for point in points:
            if point.name == metric:
                self._latest[record.number] = point

    def attempt_lost(self, record: TrialRecord, message: str) -> None:
        self._say(f"[yellow]trial {record.number} lost attempt {record.attempt}:[/] ", message)

    def recorded(self, record: TrialRecord) -> None:
        self._latest.pop(record.number, None)
        colour = {TrialState.COMPLETE: "green", TrialState.PRUNED: "cyan"}.get(record.state, "red")
        self._say(f"[{colour}]trial {record.number}[/] ", result_text(self._spec, record))

    def progressed(self, progress: StudyProgress) -> None:
        self._progress = progress
        self._bar.update(
            self._task,
            completed=progress.n_finished,
            total=progress.n_trials,
            left=time_left_text(progress),
        )

    def noted(self, message: str) -> None:
        self._say("", message)

    def _say(self, prefix: str, text: str) -> None:
        self._console.print(prefix + escape(text), highlight=False, soft_wrap=True)

    def _draw(self) -> RenderableType:
        rows: list[RenderableType] = [self._bar]
        progress = self._progress
        if progress is not None:
            best = escape(best_text(self._spec, progress.best))
            rows.append(f"  best  {best}")
            shown = progress.running[:MAX_RUNNING_ROWS]
            rows.extend(f"  [dim]trial {r.number}[/]  {self._running_text(r)}" for r in shown)
            if len(progress.running) > len(shown):
                rows.append(f"  [dim]and {len(progress.running) - len(shown)} more running[/]")
            if progress.note:
                rows.append(f"  [yellow]{escape(progress.note)}[/]")
        return Group(*rows)

    def _running_text(self, record: TrialRecord) -> str:
        point = self._latest.get(record.number)
        if point is None:
            return f"[dim]{escape(params_text(record.params))}[/]"
        return escape(f"step {point.step}  {point.name}={point.value:.6g}")


def _printer(stream: TextIO) -> Callable[[str], None]:
    def write(line: str) -> None:
        stream.write(f"{line}\n")
        stream.flush()

    return write


def value_text(value: ParamValue) -> str:
    """Return a parameter's value, short."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def params_text(params: Mapping[str, ParamValue]) -> str:
    """Return parameters on one line."""
    return " ".join(f"{name}={value_text(value)}" for name, value in params.items())


def result_text(spec: StudySpec, record: TrialRecord) -> str:
    """Return what a finished trial ended with, on one line."""
    took = (
        "" if record.duration_seconds is None else f" after {seconds_text(record.duration_seconds)}"
    )
    if record.state is TrialState.COMPLETE:
        infeasible = "" if record.is_feasible else " (breaks a constraint)"
        return f"{values_text(spec, record)}{infeasible}{took}"
    if record.state is TrialState.PRUNED:
        return f"pruned{took}: {record.reason}"
    return f"failed ({record.cause}){took}: {record.reason}"


def values_text(spec: StudySpec, record: TrialRecord) -> str:
    """Return the objectives of a complete trial."""
    values = record.values or ()
    return " ".join(f"{o.metric}={v:.6g}" for o, v in zip(spec.objectives, values, strict=False))


def best_text(spec: StudySpec, best: Sequence[TrialRecord]) -> str:
    """Return the best trial, or how many share the Pareto front."""
    if not best:
        return "none yet"
    if len(spec.objectives) > 1:
        return f"{len(best)} trials on the Pareto front"
    return f"{values_text(spec, best[0])} (trial {best[0].number}: {params_text(best[0].params)})"


def progress_text(spec: StudySpec, progress: StudyProgress) -> str:
    """Return a study's progress on one line."""
    note = f"; {progress.note}" if progress.note else ""
    return (
        f"{progress.n_finished} of {progress.n_trials} trials, {len(progress.running)} running, "
        f"{time_left_text(progress)}, best {best_text(spec, progress.best)}{note}"
    )


def time_left_text(progress: StudyProgress) -> str:
    """Return the time left if trials finish at the rate so far."""
    if progress.n_finished >= progress.n_trials:
        return "done"
    if progress.remaining_seconds is None:
        return "time left unknown"
    return f"about {seconds_text(progress.remaining_seconds)} left"


def seconds_text(seconds: float) -> str:
    """Return a duration as people say it: `4.2 s`, `3 min 20 s`, `5 h 10 min`."""
    if round(seconds) < 60:
        return f"{seconds:.1f} s" if round(seconds, 1) < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def print_result(result: StudyResult, console: Console, *, ui_hint: str = "make ui") -> None:
    """Print the table of trials, the best configuration and where to look."""
    data = result.data
    console.print(trials_table(data, console.width))
    console.print(escape(result.outcome.reason), highlight=False)
    for record in data.best[:5]:
        console.print(f"\n[bold green]Best:[/] trial {record.number}", highlight=False)
        console.print(escape(f"  {values_text(result.spec, record)}"), highlight=False)
        for name, value in record.params.items():
            console.print(escape(f"  {name}: {value}"), highlight=False, soft_wrap=True)
    if len(data.best) > 5:
        console.print(f"  and {len(data.best) - 5} more on the Pareto front: see the report")
    console.print("\n[bold]Where to look[/]")
    if result.report is not None:
        console.print(escape(f"  report  {result.report.html}"), highlight=False, soft_wrap=True)
    # `studyflow ui` opens the embedded database; a server that is away has its own page.
    way = f"  (open it: {ui_hint})" if result.tracking_uri.startswith("sqlite:") else ""
    where = result.run_url or result.tracking_uri + way
    if not result.is_shown:
        where = "not installed: pip install 'studyflow[mlflow]', then: studyflow sync"
    console.print(
        escape(f"  MLflow  {where}"),
        highlight=False,
        soft_wrap=True,
    )
    if result.refusal is not None:
        console.print(
            f"[yellow]MLflow refused the study: {escape(result.refusal)}[/]\n"
            "[yellow]Nothing is lost. Correct MLFLOW_TRACKING_URI (a folder needs "
            "MLFLOW_ALLOW_FILE_STORE=true), then: studyflow sync[/]",
            highlight=False,
        )
    elif result.n_unsent:
        console.print(
            f"[yellow]MLflow does not have everything yet ({result.n_unsent} parts are left); "
            "nothing is lost. Send the rest when it is back: studyflow sync[/]"
        )


def print_comparison(
    comparison: Comparison, files: ComparisonFiles, url: str | None, console: Console
) -> None:
    """Print the table of samplers, what it says, and where to look."""
    heads, rows = comparison_table(comparison)
    table = Table()
    for i, head in enumerate(heads):
        table.add_column(Text(head), justify="right" if i else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    console.print(escape(f"{comparison.verdict}."), highlight=False)
    console.print("\n[bold]Where to look[/]")
    for name, where in (("picture", files.picture), ("table", files.table), ("MLflow", url)):
        if where is not None:
            console.print(escape(f"  {name:8}{where}"), highlight=False, soft_wrap=True)


def print_retrain(result: RetrainResult, console: Console) -> None:
    """Print the mean of every configuration, what may be luck, and which model was registered."""
    console.print(retrain_table(result))
    if result.best is None and result.is_complete:
        console.print(escape(result.run.outcome.reason), highlight=False)
    if result.best is not None:
        console.print(f"[bold green]Best mean:[/] {result.best.configuration.label}")
        for name, value in result.best.configuration.params.items():
            console.print(escape(f"  {name}: {value}"), highlight=False, soft_wrap=True)
    for note in result.notes:
        console.print(f"[yellow]{escape(note)}[/]", highlight=False)
    if result.champion is not None:
        model = result.champion
        console.print(
            f"[bold]Registered[/] {escape(model.name)} version {model.version} as "
            f"{escape(model.alias)}: {escape(model.artifact)} of run {model.run_id}",
            highlight=False,
            soft_wrap=True,
        )
    if result.problem is not None:
        console.print(
            f"[yellow]{escape(str(result.problem))} The repeats are kept: run the same command "
            "again to continue.[/]",
            highlight=False,
        )


def retrain_table(result: RetrainResult) -> Table:
    """Return the configurations that were trained again, the best mean first."""
    metric = result.plan.source.metrics[0]
    table = Table()
    for heading in ("configuration", f"{metric} in the study", "mean", "95 % interval"):
        table.add_column(escape(heading), justify="left" if heading == "configuration" else "right")
    for heading in ("repeats", "failed"):
        table.add_column(heading, justify="right")
    for row in result.ranking:
        interval = row.interval
        table.add_row(
            row.configuration.label,
            f"{row.configuration.value:.6g}",
            "" if row.mean is None else f"{row.mean:.6g}",
            "" if interval is None else f"{interval[0]:.6g} to {interval[1]:.6g}",
            str(len(row.values)),
            str(row.n_failed),
        )
    return table


def trials_table(data: StudyData, width: int = 10_000) -> Table:
    """Return the trials as a table; of many, the newest, the best and every improvement.

    Args:
        data: The study.
        width: Columns of the terminal. Parameters that do not fit are named below the table rather
            than squeezed until nothing can be read.
    """
    improved = improvements(data)
    newest = {record.number for record in data.trials[-MAX_RESULT_ROWS:]}
    kept_numbers = newest | data.best_numbers | improved
    shown = [record for record in data.trials if record.number in kept_numbers]
    columns = [
        ("trial", [f"{_mark(data, improved, r)}{r.number}" for r in shown]),
        *(
            (metric, [f"{r.values[i]:.6g}" if r.values else "" for r in shown])
            for i, metric in enumerate(data.metrics)
        ),
        ("state", [describe_state(r) for r in shown]),
        ("took", [_took(r) for r in shown]),
    ]
    n_fixed = len(columns)
    columns += [
        (name, [value_text(r.params[name]) if name in r.params else "" for r in shown])
        for name in data.space
        if any(name in r.params for r in shown)
    ]
    is_whole = len(shown) == len(data.trials)
    table = Table(title=None if is_whole else f"{len(shown)} of {len(data.trials)} trials")
    used, kept, left_out = 1, [], []
    for position, (heading, texts) in enumerate(columns):
        cells = [one_line(text, MAX_CELL_CHARS) for text in (heading, *texts)]
        used += max(cell_len(cell) for cell in cells) + 3  # border and padding
        if position >= n_fixed and used > width:
            left_out.append(cells[0])
            continue
        kept.append(cells[1:])
        justify: JustifyMethod = "left" if heading == "state" else "right"
        table.add_column(escape(cells[0]), justify=justify, no_wrap=True)
    for record, row in zip(shown, zip(*kept, strict=True), strict=True):
        style = "bold green" if record.number in data.best_numbers else None
        table.add_row(*(escape(cell) for cell in row), style=style)
    legend = "★ best  ↑ best when it came"
    if left_out:
        legend += f"\nno room for {', '.join(left_out)}: widen the terminal, or see the report"
    table.caption = escape(legend)
    table.caption_justify = "left"
    return table


def _mark(data: StudyData, improved: frozenset[int], record: TrialRecord) -> str:
    if record.number in data.best_numbers:
        return "★ "
    return "↑ " if record.number in improved else ""


def _took(record: TrialRecord) -> str:
    seconds = record.duration_seconds
    return "" if seconds is None else seconds_text(seconds)
