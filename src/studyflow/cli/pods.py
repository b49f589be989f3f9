"""`studyflow render`, `policy` and `logs`: a trial's Job, the rules for it, what it prints."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import yaml

from studyflow.cli.options import settings_options
from studyflow.cli.studies import load_study
from studyflow.errors import ExecutorBlocked, StudyNotFound
from studyflow.executors import AttemptId, ExecutorWithLogs
from studyflow.settings import Settings
from studyflow.spec import read_study
from studyflow.spec.pods import judge_data, read_platform


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@settings_options()
def render(study: Path, settings: Settings) -> None:
    """Print the Kubernetes Job that a study file's first trial would become; start nothing.

    A file that asks for a pod that no trial may have is refused, as by `studyflow check`. The
    parameters are the first enqueued point, or else the middle of the search space.
    """
    platform = read_platform(settings.platform)
    spec = read_study(study, lambda data: judge_data(data, platform))
    if spec.trial.image is None:
        raise ExecutorBlocked(
            f"{study} names no image, and a trial on Kubernetes needs one.",
            hint="set trial.image to an image that holds the script.",
        )
    from studyflow.executors.kubernetes.preview import first_job

    job = first_job(spec, settings)
    click.echo(yaml.safe_dump(job, sort_keys=False, allow_unicode=True), nl=False)


@click.command()
@settings_options()
def policy(settings: Settings) -> None:
    """Print the rules for trials' pods as a policy of the Kubernetes API server.

    It is a ValidatingAdmissionPolicy with its binding, for Kubernetes 1.30 and newer, with what the
    platform's file (STUDYFLOW_PLATFORM) allows. It holds in namespaces with the label
    studyflow.dev/holds=trials, whoever makes a pod there: studyflow policy | kubectl apply -f -
    """
    from studyflow.executors.kubernetes.admission import admission_policy

    manifests = admission_policy(read_platform(settings.platform))
    click.echo(yaml.safe_dump_all(manifests, sort_keys=False, width=100), nl=False)


@click.command()
@click.argument("study")
@click.argument("trial", type=click.IntRange(min=0))
@click.option("--attempt", type=click.IntRange(min=1), help="Which attempt; the newest by default.")
@click.option("-f", "--follow", is_flag=True, help="Follow the log until the trial ends.")
@settings_options(with_executor=True)
def logs(
    study: str,
    trial: int,
    attempt: int | None,
    follow: bool,
    settings: Settings,
) -> None:
    """Print the log of a trial of a study (file or name), without secrets."""
    from studyflow.context import StudyContext

    data = load_study(study, settings)
    record = next((r for r in data.records if r.number == trial), None)
    if record is None:
        raise StudyNotFound(
            f"The study {data.spec.name!r} has no trial {trial}; it has {len(data.records)}.",
            hint=f"studyflow trials {study} lists them.",
        )
    wanted = AttemptId(trial, attempt or max(record.attempt, 1))
    is_empty = True
    with StudyContext(data.spec, settings) as context:
        source = context.executor
        pieces = source.follow_log(wanted) if follow else _pieces(source, wanted)
        for piece in context.redactor.pieces(pieces):
            is_empty = is_empty and not piece
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
    if is_empty:
        where = f", run {record.run_id}" if record.run_id else ""
        click.echo(
            f"Nothing here of trial {wanted.number}, attempt {wanted.attempt}. A finished trial's "
            f"log is among the artifacts of its MLflow run{where}.",
            err=True,
        )


def _pieces(source: ExecutorWithLogs, attempt: AttemptId) -> Iterator[bytes]:
    """Yield the log as it is now."""
    source.poll()
    offset = 0
    while piece := source.read_log(attempt, offset=offset, limit_bytes=1 << 20):
        offset += len(piece)
        yield piece
