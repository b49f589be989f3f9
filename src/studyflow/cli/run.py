"""`studyflow run` and `studyflow sync`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import click

from studyflow.cli.options import settings_options
from studyflow.cli.studies import load_study
from studyflow.errors import MissingExtra, StudyflowError, TrackingError, TrackingUnavailable
from studyflow.settings import Settings
from studyflow.spec import SamplerName, StudySpec


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--n-trials", type=click.IntRange(min=1), help="Finish this many trials in all.")
@click.option("--max-parallel-trials", type=click.IntRange(min=1), help="Trials that run at once.")
@click.option(
    "--fork",
    metavar="NAME",
    help="Start a new study of this name that takes over the old one's trials as far as they fit.",
)
@click.option(
    "--sampler",
    type=click.Choice(get_args(SamplerName)),
    help="Who suggests from now on, in place of the file's sampler.",
)
@click.option(
    "--timeout-seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="After this long, start no further trial.",
)
@settings_options(with_executor=True)
def run(
    study: Path,
    n_trials: int | None,
    max_parallel_trials: int | None,
    fork: str | None,
    sampler: SamplerName | None,
    timeout_seconds: float | None,
    settings: Settings,
) -> None:
    """Run a study to its budget, or go on with it.

    A study that exists already is continued: trials that were running are taken over or repeated,
    finished ones are kept. Exit code 1 when the study stopped because its trials cannot work.
    """
    from rich.console import Console

    from studyflow.cli.terminal import make_view, print_result
    from studyflow.context import StudyContext
    from studyflow.runner import RunOptions, run_study
    from studyflow.spec.overrides import override

    spec, fork_from = override(
        StudySpec.from_yaml(study), n_trials, max_parallel_trials, fork, sampler, timeout_seconds
    )
    view = make_view(spec)
    with view.shown():
        result = run_study(
            StudyContext(spec, settings), view, RunOptions(study.parent.absolute(), fork_from)
        )
    print_result(result, Console(), ui_hint="studyflow ui")
    sys.exit(1 if result.outcome.is_failure else 0)


@click.command()
@click.argument("study", required=False)
@settings_options()
def sync(study: str | None, settings: Settings) -> None:
    """Send MLflow what it has missed of a study (file or name), or of all studies.

    Exit code 3 when MLflow is away, in whole or in part: the same command goes on later. Exit code
    1 when it refused something.
    """
    from studyflow.storage import open_storage
    from studyflow.study import study_names

    names = [study] if study else study_names(open_storage(settings.storage_url, create=False))
    problem: StudyflowError | None = None
    for name in names:
        if problem is not None:
            click.echo(str(problem), err=True)
        try:
            click.echo(_sync_one(name, settings))
        except MissingExtra:
            raise  # nothing can be sent of any study
        except StudyflowError as error:
            problem = error
    if problem is not None:
        raise problem


def _sync_one(study: str, settings: Settings) -> str:
    """Send what MLflow lacks of a study; return what was sent.

    Raises:
        MissingExtra: There is no MLflow to send to.
        TrackingUnavailable: MLflow does not answer, in whole or in part.
        TrackingError: It refused something.
    """
    from studyflow.context import StudyContext
    from studyflow.diagnostics.probes import is_driven
    from studyflow.reports.tracked import study_card, study_summary
    from studyflow.storage import redacted
    from studyflow.study import needs_no_runner
    from studyflow.tracking import StudySummary
    from studyflow.tracking.sync import sync_study

    data = load_study(study, settings)
    context = StudyContext(data.spec, settings)
    if not context.has_mlflow:
        raise MissingExtra(f"{data.spec.name}: sending trials to MLflow", "mlflow")
    where = redacted(context.tracker.uri)

    def summary() -> StudySummary:
        report, problem = context.write_report(data)
        if problem is not None:
            click.echo(f"{data.spec.name}: {problem}", err=True)
        return study_summary(
            data,
            report,
            finished=needs_no_runner(data.spec, data.records),
            is_driven=is_driven(data, settings),
        )

    with context:
        try:
            done = sync_study(
                context.tracker,
                study_card(data.spec),
                data.records,
                context.attempt_files,
                summary=summary,
            )
        except TrackingUnavailable as error:
            raise TrackingUnavailable(
                f"{data.spec.name}: sent nothing: MLflow at {where} does not answer.",
                hint="run it again when MLflow is back; nothing is lost.",
            ) from error
    told = f"{data.spec.name}: sent {len(done.sent)} trials to MLflow at {where}"
    refused = "".join(f"\n  trial {n}: {reason}" for n, reason in done.failed.items())
    if done.failed:
        told += f", {len(done.failed)} were refused"
    if done.is_away:
        raise TrackingUnavailable(
            f"{told}, {len(done.left)} are left: {done.error}{refused}",
            hint="run it again when MLflow is back; nothing is lost.",
        )
    if done.error is not None:
        raise TrackingError(f"{told}; the study's own run was refused: {done.error}{refused}")
    if refused:
        raise TrackingError(f"{told}:{refused}")
    return told
