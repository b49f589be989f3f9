"""`studyflow init` and `studyflow example`: files to begin with."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from string import Template
from typing import Final

import click
import yaml

from studyflow.cli import exits
from studyflow.cli.shipped import Example, examples
from studyflow.spec.reader import read_text

_TEMPLATES: Final = Path(__file__).parent / "templates"
_NOT_COPIED: Final = shutil.ignore_patterns("Dockerfile", "__pycache__", ".studyflow")
_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]*")
_LINES: Final = """\
from studyflow import sdk

params = sdk.current_trial().params     # what to try, by name
sdk.report(epoch, loss=loss)            # after each epoch
sdk.finish(loss=loss)                   # the result"""


@click.command()
@click.argument(
    "folder", type=click.Path(path_type=Path, file_okay=False), default=".", required=False
)
@click.option("--name", help="Name of the study; the folder's by default.")
@click.option(
    "--script",
    default="train.py",
    show_default=True,
    help="Your training script, within the folder; a small one is written if there is none.",
)
def init(folder: Path, name: str | None, script: str) -> None:
    """Write a commented study file, and a training script if there is none; replace nothing.

    Without FOLDER, into the working folder.
    """
    study, training = folder / "study.yaml", folder / script
    if study.exists():
        _refuse(
            f"{study} exists, and nothing is replaced.",
            f"run `studyflow check {study}`, or name another FOLDER.",
        )
    template = Template((_TEMPLATES / "study.yaml").read_text(encoding="utf-8"))
    chosen = _study_name(folder) if name is None else name
    text = template.substitute(name=_scalar(chosen), script=_scalar(Path(script).as_posix()))
    read_text(text, source=str(study))  # a name that no study may have is refused here
    is_new = not training.exists()
    folder.mkdir(parents=True, exist_ok=True)
    if is_new:
        training.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_TEMPLATES / "train.py", training)
    study.write_text(text, encoding="utf-8")
    if is_new:
        click.echo(f"Wrote {study} and {training}, a stand-in for your training.")
    else:
        click.echo(f"Wrote {study}. Your script {training} needs these lines:\n\n{_LINES}")
    click.echo(
        f"\nNext:\n"
        f"  studyflow check {study}    # all problems of the file at once, or what would run\n"
        f"  studyflow run {study}      # run the study, or continue it\n"
        f"  studyflow best {study}     # the best configuration"
    )


@click.command()
@click.argument("name", required=False)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), required=False)
def example(name: str | None, folder: Path | None) -> None:
    """Copy an example into FOLDER, by default one of its name; without NAME, list them."""
    known = {one.name: one for one in examples()}
    if name is None:
        for one in known.values():
            click.echo(f"{one.name:<10}  {one.summary}")
        click.echo("\nstudyflow example NAME copies one into a folder of its name.")
        return
    if name not in known:
        _refuse(f"There is no example {name!r}.", f"choose one of {', '.join(known)}.")
    _copy(known[name], Path(name) if folder is None else folder)


def _copy(chosen: Example, folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        _refuse(
            f"The folder {folder} is not empty, and nothing is replaced.",
            f"name another one: studyflow example {chosen.name} FOLDER",
        )
    shutil.copytree(chosen.folder, folder, dirs_exist_ok=True, ignore=_NOT_COPIED)
    study = folder / chosen.study_files[0]
    click.echo(
        f"Copied {chosen.name} to {folder}; {folder / 'README.md'} describes it.\n\nNext:\n"
        f"  studyflow plan {study}    # what it would start, and the most it would cost\n"
        f"  studyflow run {study}"
    )


def _study_name(folder: Path) -> str:
    """Return a study's name made from a folder's."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
    return name[:40].rstrip("-") or "my-study"


def _scalar(text: str) -> str:
    """Return a text as YAML reads it back, in quotes where it needs them."""
    is_plain = _PLAIN.fullmatch(text) and yaml.safe_load(text) == text  # `yes` and 3.10 are not
    return text if is_plain else json.dumps(text)


def _refuse(problem: str, hint: str) -> None:
    click.echo(f"{problem} Hint: {hint}", err=True)
    click.get_current_context().exit(exits.BAD_INPUT)
