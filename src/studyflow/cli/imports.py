"""`studyflow import`: earlier results as the first trials of a study."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import click
import optuna

from studyflow import exits
from studyflow.cli.places import place_options, settings_of
from studyflow.errors import StudyError, StudyNotFound
from studyflow.runner import quiet_optuna
from studyflow.spec import StudySpec
from studyflow.storage import open_storage, redacted
from studyflow.study import find_study, study_names
from studyflow.study.earlier import Earlier, find_columns, from_rows, from_study, take_over
from studyflow.study.earlier import without_known as new_trials
from studyflow.study.study import check_identity

MAX_MISFITS = 20
"""Results that do not fit, shown one by one; the others are counted."""

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Say what would be taken over, and write nothing."
)


@click.group("import")
def import_() -> None:
    """Take earlier results into a study: they teach its sampler and cost no budget.

    What does not fit the study file is reported by row and reason. Importing again takes over only
    what is new.
    """


@import_.command("optuna")
@click.argument("study", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "source_url",
    required=True,
    help="Optuna storage of the earlier study, such as sqlite:///old.db.",
)
@click.option("--name", help="The earlier study's name; the only one of its storage.")
@dry_run_option
@place_options
def import_optuna(
    study: Path,
    source_url: str,
    name: str | None,
    dry_run: bool,
    home: Path | None,
    storage: str | None,
    tracking_uri: str | None,
) -> None:
    """Take the trials of an Optuna study into the study of a file."""
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
    _take(spec, earlier, settings_of(home, storage, tracking_uri).storage_url, dry_run)


@import_.command("csv")
@click.argument("study", type=click.Path(path_type=Path))
@click.argument("table", type=click.Path(path_type=Path))
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="NAME=COLUMN",
    help="Column of a parameter or metric, where it is called otherwise. May stand several times.",
)
@dry_run_option
@place_options
def import_csv(
    study: Path,
    table: Path,
    columns: tuple[str, ...],
    dry_run: bool,
    home: Path | None,
    storage: str | None,
    tracking_uri: str | None,
) -> None:
    """Take the rows of a CSV file into the study of a file.

    One row is one evaluation: a column for each parameter and metric, by its name, or with MLflow's
    `params.` or `metrics.` before it. Rows with a column `state` other than complete are left out.
    """
    spec = StudySpec.from_yaml(study)
    header, rows = _read_table(table)
    found = find_columns(spec, header, dict(_named_column(text) for text in columns))
    earlier = from_rows(spec, rows, table.name, found)
    _take(spec, earlier, settings_of(home, storage, tracking_uri).storage_url, dry_run)


def _named_column(text: str) -> tuple[str, str]:
    name, separator, column = text.partition("=")
    if not separator:
        raise click.UsageError(f"--column takes NAME=COLUMN, not {text!r}.")
    return name, column


def _read_table(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the header, and each row with its line number; separated by comma, semicolon or tab.

    Raises:
        StudyError: The file holds no table.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(f"{path} is not UTF-8.", hint="save it as UTF-8.") from error
    first = text.partition("\n")[0]
    reader = csv.DictReader(
        text.splitlines(keepends=True), delimiter=max(",;\t", key=first.count), restval=""
    )
    try:
        rows = [
            (reader.line_num, {k: v for k, v in row.items() if isinstance(k, str)})
            for row in reader
        ]
    except csv.Error as error:
        raise StudyError(f"{path}, line {reader.line_num}: {error}.") from error
    header = list(reader.fieldnames or ())
    if not header:
        raise StudyError(f"{path} is empty.", hint="the first line names the columns.")
    return header, rows


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
        click.echo(f"  {misfit.label} does not fit: {misfit.reason}")
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
