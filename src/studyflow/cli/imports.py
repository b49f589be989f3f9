"""`studyflow import`: earlier results as the first trials of a study; Katib's experiments."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import optuna

from studyflow.cli import exits
from studyflow.cli.katib import import_katib
from studyflow.cli.options import settings_options
from studyflow.errors import StudyNotFound
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.storage import open_storage, quiet_optuna, redacted
from studyflow.study import find_study, study_names
from studyflow.study.earlier import (
    Earlier,
    column_names,
    column_owners,
    find_columns,
    from_rows,
    from_study,
    take_over,
)
from studyflow.study.earlier import without_known as new_trials
from studyflow.study.identity import check_identity
from studyflow.study.table import read_table

MAX_MISFITS = 20
"""Results that do not fit, shown one by one; the others are counted."""

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Say what would be imported, and write nothing."
)


@click.group("import")
def import_() -> None:
    """Import earlier results into a study, or an experiment of Katib as a study file.

    The sampler learns from earlier results, and they use no budget. What does not fit is reported,
    with its reason. Importing results again takes over only what is new.
    """


import_.add_command(import_katib)


@import_.command("optuna")
@click.argument("study", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "source_url",
    required=True,
    help="Optuna storage of the earlier study, such as sqlite:///old.db.",
)
@click.option("--name", help="The earlier study's name; not needed if it is the only one.")
@dry_run_option
@settings_options()
def import_optuna(
    study: Path,
    source_url: str,
    name: str | None,
    dry_run: bool,
    settings: Settings,
) -> None:
    """Import the trials of an Optuna study into the study of a file."""
    spec = StudySpec.from_yaml(study)
    source = open_storage(source_url, create=False)
    names = study_names(source)
    if name is None and len(names) != 1:
        raise StudyNotFound(
            f"{redacted(source_url)} holds {len(names)} studies: {', '.join(names) or 'none'}.",
            hint="name one by --name." if names else "is the address right?",
        )
    chosen = names[0] if name is None else name
    earlier = from_study(spec, find_study(chosen, source), chosen)
    _take(spec, earlier, settings.storage_url, dry_run)


@import_.command("csv")
@click.argument("study", type=click.Path(path_type=Path))
@click.argument("table", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="NAME=COLUMN",
    help="Column of a parameter or metric that has another name there. May be given several times.",
)
@dry_run_option
@settings_options()
def import_csv(
    study: Path,
    table: Path,
    columns: tuple[str, ...],
    dry_run: bool,
    settings: Settings,
) -> None:
    """Import the rows of a CSV file into the study of a file.

    One row is one evaluation: a column for each parameter and metric, by its name, or with MLflow's
    `params.` or `metrics.` before it. Rows with a column `state` other than complete are left out.
    A table that can be read in more than one way (cells too many or too few, two columns of one
    name, decimal commas) is refused as a whole, with each row and column.
    """
    spec = StudySpec.from_yaml(study)
    named = _named_columns(spec, columns)
    read = read_table(table.read_bytes(), table.name, {*column_names(spec), *named.values()})
    found = find_columns(spec, read.header, named)
    earlier = from_rows(spec, read.rows, table.name, found, read.flaws)
    _take(spec, earlier, settings.storage_url, dry_run)


def _named_columns(spec: StudySpec, texts: tuple[str, ...]) -> dict[str, str]:
    """Return the columns that a person named; the names of parameters may hold `=` themselves."""
    named: dict[str, str] = {}
    for text in texts:
        splits = [(text[:i], text[i + 1 :]) for i, c in enumerate(text) if c == "="]
        if not splits:
            raise click.UsageError(f"--column takes NAME=COLUMN, not {text!r}.")
        known = (split for split in splits if column_owners(spec, split[0]))
        name, column = next(known, splits[0])
        if named.get(name, column) != column:
            raise click.UsageError(f"--column names two columns for {name}; name one.")
        named[name] = column
    return named


def _take(spec: StudySpec, earlier: Earlier, storage_url: str, dry_run: bool) -> None:
    """Take over what fits, and say what was and what was not."""
    quiet_optuna()
    if dry_run:
        new = new_trials(earlier, _existing(spec, storage_url))
    else:
        new = take_over(spec, open_storage(storage_url), earlier) if earlier.fitting else ()
    total = len(earlier.fitting) + len(earlier.misfits)
    there = len(earlier.fitting) - len(new)
    verb = "would take over" if dry_run else "took over"
    click.echo(
        f"{spec.name}: {verb} {len(new)} of {total} results of {earlier.source}"
        + (f"; {there} were there already" if there else "")
    )
    if earlier.ignored:
        click.echo(f"  left out, not in the study file: {', '.join(earlier.ignored)}")
    for misfit in earlier.misfits[:MAX_MISFITS]:
        click.echo(f"  {misfit.label} does not fit: {misfit}")
    if len(earlier.misfits) > MAX_MISFITS:
        click.echo(f"  and {len(earlier.misfits) - MAX_MISFITS} more that do not fit")
    if not earlier.fitting:
        sys.exit(exits.BAD_INPUT)


def _existing(spec: StudySpec, storage_url: str) -> list[optuna.trial.FrozenTrial]:
    storage = open_storage(storage_url, create=False)
    try:
        study = find_study(spec.name, storage)
    except StudyNotFound:
        return []
    check_identity(spec, study)
    return study.get_trials(deepcopy=False)
