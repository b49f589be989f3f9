"""`studyflow pause` and `studyflow resume`: a study that starts no trial for a while."""

from __future__ import annotations

import click

from studyflow.cli.options import settings_options
from studyflow.cli.studies import is_study_file, load_study
from studyflow.settings import Settings
from studyflow.study import set_paused


@click.command()
@click.argument("study")
@settings_options()
def pause(study: str, settings: Settings) -> None:
    """Pause a study (file or name): its running trials finish, and no other starts.

    Every runner of the study notices within a second or two and waits; so does one that is started
    later.
    """
    name = _set_paused(study, settings, paused=True)
    click.echo(
        f"{name} is paused: running trials finish, none starts. Continue: studyflow resume {study}"
    )


@click.command()
@click.argument("study")
@settings_options()
def resume(study: str, settings: Settings) -> None:
    """Continue a paused study (file or name)."""
    name = _set_paused(study, settings, paused=False)
    file = study if is_study_file(study) else "FILE"
    click.echo(f"{name} continues if a runner waits for it; else start one: studyflow run {file}")


def _set_paused(study: str, settings: Settings, *, paused: bool) -> str:
    """Return the name of a study that is now paused in its storage, or no longer is."""
    data = load_study(study, settings)
    assert data.optuna_study is not None, "a study that was loaded is stored"
    set_paused(data.optuna_study, paused)
    return data.spec.name
