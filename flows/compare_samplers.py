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

import sys
from collections.abc import Sequence
from typing import Any

from studyflow.cli.results import print_comparison
from studyflow.comparison import (
    DEFAULT_SAMPLERS,
    cancel_comparison,
    run_comparison,
    track_comparison,
    write_comparison,
)
from studyflow.errors import TrackingError
from studyflow.orchestration import form
from studyflow.orchestration.artifacts import publish_comparison
from studyflow.orchestration.contender_tasks import ComparisonView
from studyflow.orchestration.flow_runs import FlowRunLog, name_run
from studyflow.orchestration.parameters import DEFAULT_SEEDS, ComparisonParameters, read_spec
from studyflow.orchestration.run_states import conclude, flow_options, leave_if_suspended
from studyflow.orchestration.screen import Screen, current_screen
from studyflow.orchestration.script import command_line, exit_now, run_script
from studyflow.reports.comparison import as_rows
from studyflow.settings import Settings
from studyflow.spec import SamplerName

# isort: split
# After `studyflow.orchestration`, which sets what Prefect reads when it is imported.
from prefect import Flow, flow, get_run_logger
from prefect.client.schemas.objects import FlowRun, State


def comparison_name_of(run: FlowRun) -> str:
    """Return the name of a flow run, and of the comparison's experiment in MLflow."""
    return f"{read_spec(run.parameters['study'])[0].name}: samplers"


def end_trials(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """End what a cancelled run could not end in time: Prefect kills it after 30 seconds."""
    _, folder, runs = ComparisonParameters(**flow_run.parameters).read()
    cancel_comparison(runs, Settings.resolve(), FlowRunLog(flow_run), folder=folder)


@flow(
    name="compare-samplers",
    flow_run_name=name_run(comparison_name_of, otherwise="samplers"),
    retries=0,
    on_cancellation=[end_trials],
)
@form.typed
def compare_samplers(
    study: form.StudyParameter,
    samplers: list[SamplerName] = list(DEFAULT_SAMPLERS),  # noqa: B006 - Prefect copies it
    seeds: form.SeedsParameter = DEFAULT_SEEDS,
    n_trials: form.TrialsParameter | None = None,
    max_parallel_trials: form.ParallelParameter | None = None,
) -> list[dict[str, str]] | State[Any]:
    """Run a study once with each sampler and seed, and return the table of what they found.

    Args:
        study: Path of a study file, or its YAML text.
        samplers: Names as in `sampler.type` of a study file.
        seeds: Runs of each sampler, each with a seed of its own.
        n_trials: Trials of each run; the file's number by default.
        max_parallel_trials: Trials that run at once; the file's number by default.
    """
    parameters = ComparisonParameters(study, samplers, seeds, n_trials, max_parallel_trials)
    return conclude(lambda: _compare_and_publish(parameters))


def _compare_and_publish(parameters: ComparisonParameters) -> list[dict[str, str]]:
    settings = Settings.resolve()
    spec, folder, runs = parameters.read()
    view, options = ComparisonView(runs), flow_options(settings, folder)
    comparison = run_comparison(spec, runs, settings, view.watch, options, on_result=view.ended)
    leave_if_suspended(is_finished=view.n_finished == len(runs))
    files = write_comparison(comparison, settings.study_folder(f"{spec.name}-samplers"))
    try:
        url = track_comparison(spec, comparison, files, settings)
    except TrackingError as error:
        get_run_logger().warning("The comparison is not in MLflow: %s", error)
        url = None
    current_screen().print(lambda console: print_comparison(comparison, files, url, console))
    publish_comparison(comparison, files, url)
    return [dict(row) for row in as_rows(comparison)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow from the command line; return the exit code."""
    parser = command_line("Compare samplers on a study.")
    parser.add_argument("study", help="path of the study file")
    parser.add_argument("--samplers", nargs="+", default=list(DEFAULT_SAMPLERS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=DEFAULT_SEEDS, help="runs of each sampler")
    parser.add_argument("--n-trials", type=int, help="trials of each run")
    parser.add_argument("--max-parallel-trials", type=int, help="trials that run at once")
    given = vars(parser.parse_args(arguments))
    return run_script(
        lambda: ComparisonParameters(**given).read(),
        lambda: compare_samplers(**given, return_state=True),
        Screen(sys.stderr),
    )


if __name__ == "__main__":
    exit_now(main())
