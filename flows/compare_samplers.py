"""The flow `compare_samplers`: one study under several samplers and seeds, each run a task run.

    python flows/compare_samplers.py study.yaml [--samplers random tpe gp botorch] [--seeds 3]

It answers, for your own problem, which search suits it. All runs stand in one MLflow experiment,
beside one more with the picture and the table. Started again it goes on where it stopped.
"""

from __future__ import annotations

if __name__ == "__main__":
    from studyflow.interrupt import leave_at_once

    leave_at_once()  # Prefect takes seconds to import

    from studyflow.orchestration.environment import quiet_console

    quiet_console()

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studyflow.cli.terminal import print_comparison
from studyflow.comparison import (
    DEFAULT_SAMPLERS,
    ComparisonFiles,
    Contender,
    cancel_comparison,
    contenders,
    run_comparison,
    track_comparison,
    write_comparison,
)
from studyflow.errors import StudyflowError, TrackingError
from studyflow.orchestration.artifacts import publish_comparison
from studyflow.orchestration.contender_tasks import ComparisonView
from studyflow.orchestration.flow_runs import FlowRunLog, current_run
from studyflow.orchestration.form import (
    ParallelParameter,
    SeedsParameter,
    StudyParameter,
    TrialsParameter,
    typed,
)
from studyflow.orchestration.parameters import read_spec
from studyflow.orchestration.run_states import conclude, flow_options, leave_if_suspended
from studyflow.orchestration.screen import Screen, current_screen
from studyflow.orchestration.script import exit_now, run_script
from studyflow.reports.comparison import Comparison, as_rows
from studyflow.settings import Settings
from studyflow.spec import SamplerName, StudySpec

# isort: split
# After `studyflow.orchestration`, which sets what Prefect reads when it is imported.
from prefect import Flow, flow, get_run_logger
from prefect.client.schemas.objects import FlowRun, State

DEFAULT_SEEDS = 3


def flow_run_name() -> str:
    """Return a name for Prefect's list of runs."""
    run = current_run()
    try:
        assert run is not None, "Prefect names a run within it"
        return f"{read_spec(run.parameters['study'])[0].name}: samplers"
    except StudyflowError:
        return "samplers"


def end_trials(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """End what a cancelled run could not end in time: Prefect kills it after 30 seconds."""
    _, folder, runs = _read(**flow_run.parameters)
    cancel_comparison(runs, Settings.resolve(), FlowRunLog(flow_run), folder=folder)


def _read(
    study: str,
    samplers: Sequence[str] = DEFAULT_SAMPLERS,
    seeds: int = DEFAULT_SEEDS,
    n_trials: int | None = None,
    max_parallel_trials: int | None = None,
) -> tuple[StudySpec, Path, tuple[Contender, ...]]:
    """Return the study, its file's folder and the runs; the arguments are the flow's parameters.

    Raises:
        SpecError: The file or one of the parameters is wrong.
    """
    spec, folder = read_spec(study)
    runs = contenders(
        spec, samplers, seeds, n_trials=n_trials, max_parallel_trials=max_parallel_trials
    )
    return spec, folder, runs


@flow(
    name="compare-samplers",
    flow_run_name=flow_run_name,
    retries=0,
    on_cancellation=[end_trials],
)
@typed
def compare_samplers(
    study: StudyParameter,
    samplers: list[SamplerName] = list(DEFAULT_SAMPLERS),  # noqa: B006 - Prefect copies it
    seeds: SeedsParameter = DEFAULT_SEEDS,
    n_trials: TrialsParameter | None = None,
    max_parallel_trials: ParallelParameter | None = None,
) -> list[dict[str, str]] | State[Any]:
    """Run a study once with each sampler and seed, and return the table of what they found.

    Args:
        study: Path of a study file, or its YAML text.
        samplers: Names as in `sampler.type` of a study file.
        seeds: Runs of each sampler, each with a seed of its own.
        n_trials: Trials of each run; the file's number by default.
        max_parallel_trials: Trials that run at once; the file's number by default.
    """
    return conclude(
        lambda: _compare_and_publish(*_read(study, samplers, seeds, n_trials, max_parallel_trials))
    )


def _compare_and_publish(
    spec: StudySpec, folder: Path, runs: Sequence[Contender]
) -> list[dict[str, str]]:
    comparison, files, url = _compare(spec, folder, runs)
    current_screen().print(lambda console: print_comparison(comparison, files, url, console))
    publish_comparison(comparison, files, url)
    return [dict(row) for row in as_rows(comparison)]


def _compare(
    spec: StudySpec, folder: Path, runs: Sequence[Contender]
) -> tuple[Comparison, ComparisonFiles, str | None]:
    """Make the runs and show them on the flow run's page."""
    settings = Settings.resolve()
    view = ComparisonView(runs)
    comparison = run_comparison(
        spec,
        runs,
        settings,
        view.watch,
        flow_options(settings, folder),
        on_result=view.ended,
    )
    leave_if_suspended(is_finished=view.n_finished == len(runs))
    files = write_comparison(comparison, settings.study_folder(f"{spec.name}-samplers"))
    try:
        url = track_comparison(spec, comparison, files, settings)
    except TrackingError as error:
        get_run_logger().warning("The comparison is not in MLflow: %s", error)
        url = None
    return comparison, files, url


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description="Compare samplers on a study.")
    parser.add_argument("study", help="path of the study file")
    parser.add_argument("--samplers", nargs="+", default=list(DEFAULT_SAMPLERS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=DEFAULT_SEEDS, help="runs of each sampler")
    parser.add_argument("--n-trials", type=int, help="trials of each run")
    parser.add_argument("--max-parallel-trials", type=int, help="trials that run at once")
    given = vars(parser.parse_args(arguments))
    return run_script(
        lambda: _read(**given),
        lambda: compare_samplers(**given, return_state=True),
        Screen(sys.stderr),
    )


if __name__ == "__main__":
    exit_now(main())
