"""`studyflow verify`: whether what must always hold of a study does."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import click

from studyflow.cli.options import json_option, settings_options
from studyflow.cli.studies import load_study
from studyflow.diagnostics.invariants import Evidence, check, discarded_gpu_seconds, gather
from studyflow.reasons import Cause, Code, Finding, Level
from studyflow.settings import Settings

_WORDS: Final = {
    Cause.OK: "holds",
    Code.PROMISE_BROKEN: "BROKEN",
    Code.PROMISE_UNCHECKED: "unseen",
}


@click.command()
@click.argument("study")
@json_option
@settings_options(with_executor=True)
def verify(
    study: str,
    as_json: bool,
    settings: Settings,
) -> None:
    """Check a study (file or name) against storage, executor and MLflow.

    Says for each promise whether it holds, and what breaks it. Exit code 1 when one is broken.
    """
    evidence = _gather(study, settings)
    findings = check(evidence)
    if as_json:
        click.echo(json.dumps(_document(evidence, findings), indent=2, ensure_ascii=False))
    else:
        _print(evidence, findings)
    sys.exit(1 if any(finding.level is Level.PROBLEM for finding in findings) else 0)


def _gather(study: str, settings: Settings) -> Evidence:
    from studyflow.context import StudyContext
    from studyflow.diagnostics.probes import is_driven

    data = load_study(study, settings)
    with StudyContext(data.spec, settings) as context:
        return gather(
            data.spec,
            data.records,
            executor=context.executor,
            tracker=context.tracker if context.has_mlflow else None,
            is_driven=is_driven(data, settings),
            redact=context.redactor,
        )


def _print(evidence: Evidence, findings: tuple[Finding, ...]) -> None:
    for finding in findings:
        click.echo(f"{finding.subject:<4} {_WORDS[finding.code]:<7} {finding.message}")
        for seen in finding.evidence:
            click.echo(f"             {seen}")
    n_lost = sum(len(record.lost_attempts) for record in evidence.records)
    if n_lost:
        seconds = sum(record.lost_seconds for record in evidence.records)
        click.echo(
            f"{n_lost} attempts were lost to the infrastructure, with {seconds:.0f} s of work"
            f" ({discarded_gpu_seconds(evidence):.0f} GPU-seconds)."
        )
    if evidence.is_driven:
        click.echo("A runner is at work: what is in flight was not judged.")


def _document(evidence: Evidence, findings: tuple[Finding, ...]) -> dict[str, Any]:
    return {
        "study": evidence.spec.name,
        "is_driven": evidence.is_driven,
        "n_lost_attempts": sum(len(record.lost_attempts) for record in evidence.records),
        "discarded_gpu_seconds": discarded_gpu_seconds(evidence),
        "invariants": [_invariant(finding) for finding in findings],
    }


def _invariant(finding: Finding) -> dict[str, Any]:
    is_unchecked = finding.code is Code.PROMISE_UNCHECKED
    return {
        "invariant": finding.subject,
        "promise": finding.message,
        "holds": None if is_unchecked else finding.code is Cause.OK,
        "problems": [] if is_unchecked else list(finding.evidence),
        "unchecked": " ".join(finding.evidence) if is_unchecked else "",
    }
