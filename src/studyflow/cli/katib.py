"""`studyflow import katib`: an experiment of Katib as a study file."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

import click

from studyflow.cli import exits
from studyflow.spec.katib import Translation, translate_experiment
from studyflow.spec.katib.trial import ADAPTER

_TEMPLATES: Final = Path(__file__).parent / "templates"


@click.command("katib")
@click.argument("experiment", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Write the study file here, and {ADAPTER} beside it; replace nothing.",
)
def import_katib(experiment: Path, output: Path | None) -> None:
    """Print the study file that an experiment of Katib becomes (kubeflow.org/v1beta1, YAML).

    What the study file has otherwise, or not at all, is listed on standard error, with what to do.
    The trial's command becomes one of katib_trial.py, which fills in parameters and reads the
    metrics that the training prints, as Katib does: its image must hold that file and studyflow.
    """
    if output is not None and output.exists():
        click.echo(f"{output} exists, and nothing is replaced. Hint: name another file.", err=True)
        sys.exit(exits.BAD_INPUT)
    found = translate_experiment(
        experiment.read_bytes().decode("utf-8-sig", errors="replace"), source=experiment.name
    )
    text = found.spec.to_yaml()
    _list_changes(experiment, found)
    if output is None:
        click.echo(text, nl=False)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    adapter = output.parent / ADAPTER
    if not adapter.exists():
        shutil.copyfile(_TEMPLATES / ADAPTER, adapter)
    click.echo(
        f"Wrote {output}, and {adapter} for the trials' image.\n\nNext:\n"
        f"  studyflow check {output}    # all problems of the file at once, or what would run\n"
        f"  studyflow render {output}   # the Job of its first trial"
    )


def _list_changes(experiment: Path, found: Translation) -> None:
    for title, is_left_out in (("not in the study file", True), ("otherwise in it", False)):
        changes = [one for one in found.changes if one.is_left_out is is_left_out]
        if changes:
            click.echo(f"{experiment.name}, {title}:", err=True)
        for change in changes:
            click.echo(f"  {change}", err=True)
