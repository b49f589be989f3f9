"""`studyflow backup` and `studyflow restore`: all that a study cannot be rebuilt from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from studyflow.backup import back_up, check_archive, find_places
from studyflow.backup import restore as bring_back
from studyflow.backup.manifest import Manifest
from studyflow.backup.retention import archive_name, outdated
from studyflow.backup.save import now_utc, size
from studyflow.cli.options import settings_options
from studyflow.settings import Settings

_Command = Callable[..., Any]


def _mlflow_options(command: _Command) -> _Command:
    """Add the options that say where MLflow's server keeps what it has."""
    for option in (
        click.option(
            "--artifacts",
            envvar="MLFLOW_ARTIFACTS_DESTINATION",
            help="Folder of MLflow's artifacts; MLFLOW_ARTIFACTS_DESTINATION, else beside an "
            "embedded database.",
        ),
        click.option(
            "--mlflow-database",
            envvar="MLFLOW_BACKEND_STORE_URI",
            help="Database of MLflow, where it is a server; MLFLOW_BACKEND_STORE_URI.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument(
    "destination", type=click.Path(path_type=Path), default=Path(), metavar="[FILE OR FOLDER]"
)
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    help="In a folder: remove all backups but the newest so many, once this one is complete.",
)
@_mlflow_options
@settings_options()
def backup(
    destination: Path,
    keep: int | None,
    mlflow_database: str | None,
    artifacts: str | None,
    settings: Settings,
) -> None:
    """Write studies, MLflow's database and artifacts, and trials' files to one archive.

    Runners go on meanwhile. A file's name that ends in .gz has it compressed; in a folder (the
    present one by default) the archive is named by the time. It is readable for you alone.
    """
    is_folder = destination.is_dir()
    if keep is not None and not is_folder:
        raise click.UsageError(f"--keep needs a folder that is there, and {destination} is none.")
    path = destination / archive_name(now_utc()) if is_folder else destination
    places = find_places(settings, mlflow_database=mlflow_database, artifacts=artifacts)
    manifest = back_up(places, path, tell=_tell)
    click.echo(f"{path}: {size(path.stat().st_size)}, {_parts(manifest)}")
    if keep is not None:
        for name in outdated((entry.name for entry in destination.iterdir()), keep):
            (destination / name).unlink(missing_ok=True)
            _tell(f"removed {name}: --keep {keep}")


@click.command()
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Put it in place of what is there.")
@click.option("--check", is_flag=True, help="Only check the archive, and say what is in it.")
@_mlflow_options
@settings_options()
def restore(
    archive: Path,
    replace: bool,
    check: bool,
    mlflow_database: str | None,
    artifacts: str | None,
    settings: Settings,
) -> None:
    """Bring back what `studyflow backup` wrote; all runners have to be stopped.

    The whole archive is checked before anything is touched. What is not empty is replaced only with
    --replace; replaced files are kept beside their places. Exit code 3 when somebody works on what
    would be replaced.
    """
    if check:
        manifest = check_archive(archive)
        click.echo(f"{archive} is whole: made {manifest.created_at}, {_parts(manifest)}")
        for entry in manifest.parts:
            click.echo(f"  {entry.part:<10} {size(entry.n_bytes):>10}  {entry.source}")
        for part, why in manifest.left_out.items():
            click.echo(f"  {part:<10} {'left out':>10}  {why}")
        return
    places = find_places(settings, mlflow_database=mlflow_database, artifacts=artifacts)
    done = bring_back(archive, places, replace=replace, tell=_tell)
    click.echo(f"restored {', '.join(done.parts)} of {done.manifest.created_at}")


def _parts(manifest: Manifest) -> str:
    return f"with {', '.join(entry.part for entry in manifest.parts)}"


def _tell(line: str) -> None:
    click.echo(line, err=True)
