"""`studyflow doctor`: whether a study can run here."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from studyflow.cli import exits
from studyflow.cli.options import json_option, settings_options
from studyflow.diagnostics.preflight import examine
from studyflow.executors.local.script import missing_script, script_of
from studyflow.executors.registry import executor_kind
from studyflow.reasons import Finding, Level
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.storage import quiet_optuna

_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "red"}


@click.command()
@click.argument("study", type=click.Path(path_type=Path), required=False)
@json_option
@settings_options(with_executor=True)
def doctor(
    study: Path | None,
    as_json: bool,
    settings: Settings,
) -> None:
    """Look whether a study (or the one of a file) can run here, and how to fix what is wrong.

    Packages, storage, MLflow, Prefect, disk, GPUs, and with --executor kubernetes the cluster and
    the rights there. Nothing is started. Exit code 1 when there is a problem; warnings are none.
    """
    spec = None if study is None else StudySpec.from_yaml(study)
    quiet_optuna()
    findings = examine(settings, spec)
    if study is not None and spec is not None:
        findings += _script(spec, study.parent.absolute(), settings)
    if as_json:
        rows = [_document(finding) for finding in findings]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        console, width = Console(), max(len(finding.subject) for finding in findings)
        for found in findings:
            line = f"[{_COLOURS[found.level]}]{found.level:<8}[/] {found.subject:<{width}}  "
            console.print(line + escape(found.message), highlight=False, soft_wrap=True)
            if found.hint:
                hint = f"{'':<{10 + width}} [dim]Hint: {escape(found.hint)}[/]"
                console.print(hint, highlight=False, soft_wrap=True)
    has_problem = any(finding.level is Level.PROBLEM for finding in findings)
    sys.exit(exits.FAILED if has_problem else 0)


def _script(spec: StudySpec, folder: Path, settings: Settings) -> list[Finding]:
    """Return whether the script of a study's command is there, where it runs on this machine."""
    script = script_of(spec.trial.command)
    if script is None or executor_kind(settings.executor).runs_pods:
        return []
    missing = missing_script(spec.trial.command, folder)
    if missing is not None:
        return [Finding.because(Level.PROBLEM, "script", missing)]
    return [Finding.ok("script", f"{script} is there")]


def _document(finding: Finding) -> dict[str, Any]:
    return {
        "level": finding.level.value,
        "what": finding.subject,
        "code": finding.code.value,
        "text": finding.message,
        "hint": finding.hint or "",
    }
