"""`studyflow pause` and `studyflow resume`: a study that starts no trial for a while."""

from __future__ import annotations

import click

from studyflow.cli.options import settings_options
from studyflow.cli.studies import load_study
from studyflow.settings import Settings
from studyflow.study import set_paused


@click.command()
@click.argument("study")
@settings_options()
def pause(study: str, settings: Settings) -> None:
    """Let a study (file or name) finish its running trials and start no other.

    Every runner of the study sees it within a second or two and waits; so does one that is started
    later.
    """
    name = _set_paused(study, settings, paused=True)
    click.echo(
        f"{name} is paused: running trials finish, none starts. Go on: studyflow resume {study}"
    )


@click.command()
@click.argument("study")
@settings_options()
def resume(study: str, settings: Settings) -> None:
    """Let a paused study (file or name) go on."""
    name = _set_paused(study, settings, paused=False)
    click.echo(f"{name} goes on, where a runner waits; else: studyflow run {study}")


def _set_paused(study: str, settings: Settings, *, paused: bool) -> str:
    """Pause or resume a study in its storage; return its name."""
    data = load_study(study, settings)
    assert data.optuna_study is not None, "a study that was loaded is stored"
    set_paused(data.optuna_study, paused)
    return data.spec.name
