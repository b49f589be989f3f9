"""`studyflow render`, `policy` and `logs`: a trial's Job, the rules for it, what it prints."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml

from studyflow.cli.options import settings_options
from studyflow.cli.studies import load_study
from studyflow.errors import ExecutorBlocked, ExecutorError, StudyNotFound, TrackingError
from studyflow.executors import AttemptId, ExecutorWithLogs
from studyflow.settings import Settings
from studyflow.spec import read_study
from studyflow.spec.pods import judge_data, read_platform
from studyflow.trial.record import TrialRecord

if TYPE_CHECKING:
    from studyflow.context import StudyContext


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
    """Print the log of a trial of a study (file or name), without secrets.

    Wherever it lies: with the local attempt, in the pod, or in MLflow once these are gone.
    """
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
        problem = None
        try:
            source = context.executor
            pieces = source.follow_log(wanted) if follow else _pieces(source, wanted)
            for piece in context.redactor.pieces(pieces):
                is_empty = is_empty and not piece
                _print(piece)
        except ExecutorError as error:
            if not is_empty or not record.state.is_finished:
                raise
            problem = str(error)
        if is_empty and wanted.attempt == max(record.attempt, 1):
            kept, lack = _log_in_mlflow(context, record)
            problem = problem or lack
            if kept:
                click.echo(f"From MLflow, run {record.run_id}:", err=True)
                _print(b"".join(context.redactor.pieces([kept])))
                return
    if is_empty:
        what = f"Trial {wanted.number} has no log of attempt {wanted.attempt}: neither where it ran"
        click.echo(f"{what} nor in MLflow.{f' {problem}' if problem else ''}", err=True)


def _print(piece: bytes) -> None:
    sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _log_in_mlflow(context: StudyContext, record: TrialRecord) -> tuple[bytes | None, str | None]:
    """Return what MLflow has of a trial's log, or why it gives nothing, if it says so."""
    if record.run_id is None or not context.is_in_mlflow:
        return None, None
    from studyflow.tracking.mlflow.logs import read_log

    try:
        return read_log(context.mlflow.uri, record.run_id), None
    except TrackingError as error:
        return None, str(error)


def _pieces(source: ExecutorWithLogs, attempt: AttemptId) -> Iterator[bytes]:
    """Yield the log as it is now."""
    source.poll()
    offset = 0
    while piece := source.read_log(attempt, offset=offset, limit_bytes=1 << 20):
        offset += len(piece)
        yield piece
