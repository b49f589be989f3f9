"""`studyflow run`: a study from its file to its report."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from studyflow.cli import exits
from studyflow.cli.exits import exit_code_of_run
from studyflow.cli.options import settings_options
from studyflow.cli.overriding import override_options
from studyflow.errors import StudyflowError
from studyflow.interrupt import Terminated
from studyflow.reasons import Code
from studyflow.settings import Settings
from studyflow.spec import SamplerName, StudySpec


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--n-trials", type=click.IntRange(min=1), help="Finish this many trials in all.")
@click.option(
    "--max-parallel-trials", type=click.IntRange(min=1), help="Trials that run in parallel."
)
@click.option(
    "--fork",
    metavar="NAME",
    help="Start a new study of this name that takes over the old one's trials as far as they fit.",
)
@override_options
@click.option(
    "--retry-failed",
    is_flag=True,
    help="Give trials that failed by script or environment their budget back, and try their "
    "parameters again.",
)
@settings_options(with_executor=True)
def run(
    study: Path,
    n_trials: int | None,
    max_parallel_trials: int | None,
    fork: str | None,
    sampler: SamplerName | None,
    timeout_seconds: float | None,
    gpu_hours: float | None,
    retry_failed: bool,
    settings: Settings,
) -> None:
    """Run a study to its budget, or continue it.

    A study that exists already is continued: trials that were running are taken over or repeated,
    and finished ones are kept.

    Exit code 1: it has no result, or stopped because its trials cannot work. 4: it has one, but
    most of its latest trials failed. 2: the file or an option is wrong. 3: something is away, and
    the same command continues later. 130: interrupted.
    """
    from rich.console import Console

    from studyflow.cli.continuing import (
        LatestProgress,
        interrupted_lines,
        resume_command,
        same_command,
    )
    from studyflow.cli.results import print_result
    from studyflow.cli.views import make_view
    from studyflow.context import StudyContext
    from studyflow.observers.observer import Observers
    from studyflow.runner import RunOptions, StudyResult, run_study
    from studyflow.spec.overrides import override

    spec, fork_from = override(
        StudySpec.from_yaml(study),
        n_trials=n_trials,
        max_parallel_trials=max_parallel_trials,
        fork=fork,
        sampler=sampler,
        timeout_seconds=timeout_seconds,
        gpu_hours=gpu_hours,
    )
    command = click.get_current_context()
    again = same_command(command, without=("retry_failed",))
    view, latest, left = make_view(spec), LatestProgress(), list[StudyResult]()
    options = RunOptions(
        study.parent.absolute(), fork_from, retry_failed, on_interrupted=left.append
    )
    try:
        with view.shown():
            result = run_study(StudyContext(spec, settings), Observers(view, latest), options)
    except (KeyboardInterrupt, Terminated):
        lines = interrupted_lines(
            spec,
            left[-1] if left else None,
            latest.progress,
            again=again,
            resume=resume_command(command),
        )
        click.echo("\n".join(lines), err=True)
        command.exit(exits.INTERRUPTED)
    except StudyflowError as error:
        if error.retryable:
            error.add_note(f"Continue: {again}")
        raise
    outcome = result.outcome
    goes_on = outcome.reason.code is Code.TIME_SPENT
    print_result(result, Console(), ui_hint="studyflow ui", again=again if goes_on else None)
    sys.exit(exit_code_of_run(outcome.reason.code, is_failure=outcome.is_failure))
