"""What a terminal shows of a study, a comparison or a retraining when it has ended."""

from __future__ import annotations

from collections.abc import Mapping

from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from studyflow.cli.texts import seconds_text, sentences, value_text, values_text
from studyflow.comparison import ComparisonFiles
from studyflow.reports import StudyData, describe_state, improvements
from studyflow.reports.comparison import Comparison, comparison_table
from studyflow.reports.figures.importances import parameter_importances
from studyflow.reports.wording import one_line, plural
from studyflow.retrain import RetrainResult
from studyflow.runner import StudyResult
from studyflow.runner.log_tail import LogTail
from studyflow.trial.record import TrialRecord

MAX_RESULT_ROWS = 40
"""Newest trials in the closing table, beside the best and the improvements; the report has all."""

MAX_CELL_CHARS = 32
"""Longest text in a cell of that table."""


def print_result(
    result: StudyResult, console: Console, *, ui_hint: str = "make ui", again: str | None = None
) -> None:
    """Print the table of trials, the best configuration, where to look, and how to go on.

    Args:
        result: The study.
        console: Where to print.
        ui_hint: The command that opens the embedded MLflow.
        again: The command that goes on with the study; `None` if none would.
    """
    data = result.data
    console.print(trials_table(data, console.width))
    _print_log_tail(result.failed_log, console)
    console.print(escape(sentences(result.outcome.reason)), highlight=False)
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
    if again is not None:
        console.print(escape(f"\nContinue: {again}"), highlight=False, soft_wrap=True)


def _print_log_tail(tail: LogTail | None, console: Console) -> None:
    if tail is None:
        return
    console.print(f"\n[bold]The log of trial {tail.number} ends with[/]", highlight=False)
    for line in tail.lines:
        console.print(escape(f"  {line}"), highlight=False, soft_wrap=True)
    console.print()


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
        console.print(escape(str(result.run.outcome.reason)), highlight=False)
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

    Columns that are empty are left out, and so are parameters with one and the same value in all
    rows. Those and what does not fit are named below the table.

    Args:
        data: The study.
        width: Columns of the terminal. Where they are too few, the parameters that matter least go
            first, or the last ones of the file while that is not known; never an objective.
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
        ("state", [_state(r) for r in shown]),
        ("took", [_took(r) for r in shown]),
    ]
    columns = [column for column in columns if any(column[1]) or not shown]
    params = [
        (name, [value_text(r.params[name]) if name in r.params else "" for r in shown])
        for name in data.space
        if any(name in r.params for r in shown)
    ]
    constants = {
        name: texts[0]
        for name, texts in params
        if len(shown) > 1 and len({record.params.get(name) for record in shown}) == 1
    }
    params = [column for column in params if column[0] not in constants]
    room = width - 1 - sum(_width(column) for column in columns)
    kept = _kept(data, {column[0]: _width(column) for column in params}, room)
    left_out = [name for name, _ in params if name not in kept]
    columns += [column for column in params if column[0] in kept]
    is_whole = len(shown) == len(data.trials)
    table = Table(title=None if is_whole else f"{len(shown)} of {len(data.trials)} trials")
    rows = []
    for heading, texts in columns:
        justify: JustifyMethod = "left" if heading == "state" else "right"
        table.add_column(escape(_cell(heading)), justify=justify, no_wrap=True)
        rows.append([_cell(text) for text in texts])
    for record, row in zip(shown, zip(*rows, strict=True), strict=True):
        style = "bold green" if record.number in data.best_numbers else None
        table.add_row(*(escape(cell) for cell in row), style=style)
    legend = ["★ best  ↑ best when it came"] if data.best else []
    if constants:
        same = " ".join(f"{_cell(name)}={_cell(text)}" for name, text in constants.items())
        legend.append(f"the same in all rows: {same}")
    if left_out:
        names = ", ".join(map(_cell, left_out))
        legend.append(
            f"{plural(len(left_out), 'parameter')} left out: {names}; "
            "`studyflow trials --wide` shows all"
        )
    table.caption = escape("\n".join(legend))
    table.caption_justify = "left"
    return table


def _cell(text: str) -> str:
    return one_line(text, MAX_CELL_CHARS)


def _width(column: tuple[str, list[str]]) -> int:
    """Return how many columns of the terminal a column takes, with its border and padding."""
    heading, texts = column
    return max(cell_len(_cell(text)) for text in (heading, *texts)) + 3


def _kept(data: StudyData, widths: Mapping[str, int], room: int) -> set[str]:
    """Return the parameters that fit into so many columns, those that matter most first."""
    if sum(widths.values()) <= room:
        return set(widths)
    shares = {} if data.is_multi_objective else parameter_importances(data)
    ranks = list(shares) if isinstance(shares, Mapping) else []
    by_rank = sorted(widths, key=lambda name: ranks.index(name) if name in ranks else len(ranks))
    kept = set()
    for name in by_rank:
        room -= widths[name]
        if room < 0:
            break
        kept.add(name)
    return kept


def _mark(data: StudyData, improved: frozenset[int], record: TrialRecord) -> str:
    if record.number in data.best_numbers:
        return "★ "
    return "↑ " if record.number in improved else ""


def _state(record: TrialRecord) -> str:
    return f"{describe_state(record)}, imported" if record.is_taken_over else describe_state(record)


def _took(record: TrialRecord) -> str:
    seconds = record.duration_seconds
    return "" if seconds is None else seconds_text(seconds)
