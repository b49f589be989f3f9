"""`studyflow check` and `studyflow schema`: study files, before anything starts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from studyflow.errors import SpecError, StudyflowError
from studyflow.executors.local.inherited import left_out
from studyflow.executors.local.script import missing_script, script_of
from studyflow.observers.webhook import read_url
from studyflow.reasons import Code
from studyflow.spec import StudySpec, describe_plan, json_schema, read_study
from studyflow.spec.pods import judge_data, platform_path, read_platform


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
def check(study: Path) -> None:
    """Check a study file and print what would run.

    All problems are printed at once, with line and column; the exit code is then 2. Among them is
    what it asks for its pods and no trial may have, or this platform (the file of
    STUDYFLOW_PLATFORM) does not allow; and where no image is named, a script that
    is not there. Nothing is started either way.
    """
    # Not `Settings`, which reads more: trial images have this command, and no storage.
    platform = read_platform(platform_path(os.environ))
    spec = read_study(study, lambda data: judge_data(data, platform))
    _refuse_unencrypted_webhook(spec)
    rows = describe_plan(spec)
    missing = missing_script(spec.trial.command, study.parent.absolute())
    if missing is not None and spec.trial.image is None:
        raise SpecError(missing.message, hint=missing.hint, code=missing.code)
    if missing is not None:
        row = f"{script_of(spec.trial.command)} is not here; the image has to hold it"
        rows = (*rows, ("script", row))
    if kept := left_out(os.environ, spec.trial.env, spec.trial.inherit_env):
        names = ", ".join(kept)
        rows = (*rows, ("kept from trials", f"{names} (trial.inherit_env passes them on locally)"))
    width = max(len(label) for label, _ in rows)
    click.echo(f"{study}: all is well")
    for label, text in rows:
        click.echo(f"  {label:<{width}}  {text}")


def _refuse_unencrypted_webhook(spec: StudySpec) -> None:
    """Refuse an address that is there and goes over http; it may be set elsewhere only.

    Raises:
        SpecError: It does.
    """
    if spec.notify is None:
        return
    try:
        read_url(spec.notify)
    except StudyflowError as error:
        if error.code is Code.WEBHOOK_UNENCRYPTED:
            raise SpecError(error.message, hint=error.hint, code=error.code) from error


@click.command()
def schema() -> None:
    """Print the JSON Schema of study files; editors complete and check from it."""
    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
