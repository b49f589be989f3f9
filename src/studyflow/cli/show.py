"""`studyflow status`, `best`, `trials` and `report`: what is known about studies."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from studyflow.cli import exits
from studyflow.cli.options import json_option, settings_options
from studyflow.cli.studies import load_study
from studyflow.cli.texts import model_lines
from studyflow.reports import StudyData, best_config, best_config_yaml
from studyflow.settings import Settings
from studyflow.storage import open_storage, redacted
from studyflow.study import (
    find_study,
    is_counted,
    is_paused,
    load_records,
    n_trials_to_finish,
    study_names,
)
from studyflow.trial import Consequence
from studyflow.trial.record import TrialRecord, TrialState


@click.command()
@click.argument("study", required=False)
@json_option
@settings_options()
def status(
    study: str | None,
    as_json: bool,
    settings: Settings,
) -> None:
    """Show how far a study (file or name), or every study, has come."""
    rows = [_status(load_study(study, settings))] if study else _all_statuses(settings)
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not rows:
        click.echo(
            f"No studies in {redacted(settings.storage_url)} yet. Begin one: studyflow run FILE"
        )
        return
    table = Table()
    for heading in ("study", "trials", "running", "spent", "best", "problems"):
        table.add_column(heading)
    for row in rows:
        problems = ", ".join(f"{n} {cause}" for cause, n in row["problems"].items())
        table.add_row(
            escape(row["study"]) + (" [yellow](paused)[/]" if row["is_paused"] else ""),
            str(row["n_finished"])
            if row["n_trials"] is None
            else f"{row['n_finished']} of {row['n_trials']}",
            str(row["n_running"]) + (f", {n} paused" if (n := row["n_paused"]) else ""),
            _spent_cell(row["spending"]),
            escape(_best_cell(row["best"])),
            escape(problems),
        )
    Console().print(table)


def _all_statuses(settings: Settings) -> list[dict[str, Any]]:
    storage = open_storage(settings.storage_url, create=False)
    rows = []
    for name in study_names(storage):
        stored = find_study(name, storage)
        spec, records = load_records(stored)
        if spec is not None:
            rows.append(_status(StudyData(spec, records, stored)))
    return rows


def _status(data: StudyData) -> dict[str, Any]:
    """Return a study's progress as JSON values."""
    problems = {
        cause.value: n
        for cause, n in data.causes.items()
        if cause.consequence not in (Consequence.TELL, Consequence.END)
    }
    n_finished = sum(is_counted(record) for record in data.records)
    n_trials = n_trials_to_finish(data.spec)
    return {
        "study": data.spec.name,
        "is_paused": data.optuna_study is not None and is_paused(data.optuna_study),
        # An earlier run may have been given more trials than the file has now.
        "n_trials": None if n_trials is None else max(n_trials, n_finished),
        "n_finished": n_finished,
        "n_running": sum(
            record.state is TrialState.RUNNING and not record.is_paused for record in data.records
        ),
        "n_paused": sum(record.is_paused for record in data.records),
        "best": [_record_json(data, record) for record in data.best],
        "problems": problems,
        "spending": data.statement.numbers(),
    }


def _spent_cell(spending: dict[str, Any]) -> str:
    """Return what a study has spent: of its budget in hours, if it has one."""
    unit = "slot-h" if spending["unit"] == "slot-hours" else "GPU-h"
    balance = spending["budget"].get("gpu_hours")
    if balance is None:
        return f"{_hours(spending['hours'])} {unit}" if spending["n_attempts"] else ""
    return f"{_hours(balance['spent'])} of {balance['limit']:g} {unit}"


def _hours(hours: float) -> str:
    """Return hours without a power of ten, which nobody reads as a few seconds."""
    return "< 0.001" if 0 < hours < 0.001 else f"{hours:.3g}"


def _best_cell(best: list[dict[str, Any]]) -> str:
    if not best:
        return ""
    if len(best) > 1:
        return f"{len(best)} on the front"
    return ", ".join(f"{k}={v:.6g}" for k, v in best[0]["values"].items())


def _record_json(data: StudyData, record: TrialRecord) -> dict[str, Any]:
    return {
        "trial": record.number,
        "state": record.state.value,
        "cause": None if record.cause is None else record.cause.value,
        "message": str(record.reason),
        "values": dict(zip(data.metrics, record.values or (), strict=False)),
        "params": dict(record.params),
        "metrics": {k: v for k, v in record.metrics.items() if math.isfinite(v)},
        "attempt": record.attempt,
        "duration_seconds": record.duration_seconds,
        "mlflow_run_id": record.run_id,
    }


@click.command()
@click.argument("study")
@click.option(
    "--model",
    "is_about_model",
    is_flag=True,
    help="Print the model that `retrain` registered instead. Its files are compared with those "
    "that were registered; exit code 1 if they differ.",
)
@json_option
@settings_options()
def best(study: str, is_about_model: bool, as_json: bool, settings: Settings) -> None:
    """Print the best configuration of a study (file or name), as YAML."""
    data = load_study(study, settings)
    if is_about_model:
        sys.exit(_print_models(data, settings, as_json=as_json))
    if not data.best:
        raise click.ClickException("No trial has finished with a feasible value yet.")
    if as_json:
        click.echo(json.dumps(best_config(data), indent=2, ensure_ascii=False))
    else:
        click.echo(best_config_yaml(data), nl=False)


def _print_models(data: StudyData, settings: Settings, *, as_json: bool) -> int:
    """Print the registered models of a study, each checked; return the exit code."""
    from studyflow.context import StudyContext
    from studyflow.tracking.registry import ModelRegistry

    with StudyContext(data.spec, settings) as context:
        models = ModelRegistry(context.mlflow.uri).of_study(data.spec.name)
    if not models:
        name = data.spec.name
        raise click.ClickException(
            f"No model of {name!r} is registered. Hint: studyflow retrain {name}"
        )
    if as_json:
        rows = [{**asdict(model), "is_sound": model.is_sound} for model in models]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        for model in models:
            click.echo("\n".join(model_lines(model)))
    return 0 if all(model.problem is None for model in models) else exits.FAILED


@click.command()
@click.argument("study")
@click.option("--wide", is_flag=True, help="Show all parameters, however wide the terminal is.")
@json_option
@settings_options()
def trials(study: str, wide: bool, as_json: bool, settings: Settings) -> None:
    """List the trials of a study (file or name)."""
    from studyflow.cli.results import trials_table

    data = load_study(study, settings)
    if as_json:
        rows = [_record_json(data, record) for record in data.trials]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        console = Console()
        if wide:
            table = trials_table(data)
            wanted = Measurement.get(console, console.options.update(max_width=10_000), table)
            console = Console(width=max(console.width, wanted.maximum))
            console.print(table)
        else:
            console.print(trials_table(data, console.width))


@click.command()
@click.argument("study")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write to; the study's own folder by default.",
)
@json_option
@settings_options()
def report(
    study: str,
    output: Path | None,
    as_json: bool,
    settings: Settings,
) -> None:
    """Write the report of a study (file or name): one page, figures and tables."""
    from studyflow.context import StudyContext
    from studyflow.reports import build_report
    from studyflow.runner.trial_links import trial_links

    data = load_study(study, settings)
    if output is None:
        with StudyContext(data.spec, settings) as context:
            links = trial_links(context, data.records)
        written = build_report(data, settings.report_folder(data.spec.name), trial_links=links)
    else:
        written = build_report(data, output)
    if as_json:
        document = {
            "html": str(written.html),
            "figures": {name: str(path) for name, path in written.figures.items()},
            "files": {name: str(path) for name, path in written.files.items()},
            "animation": None if written.animation is None else str(written.animation),
            "omitted": dict(written.omitted),
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    click.echo(written.html)
    for name, reason in written.omitted.items():
        click.echo(f"left out {name}: {reason}", err=True)
