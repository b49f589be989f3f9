"""The flow `run_study`: one study under Prefect, each trial as one task run.

    python flows/run_study.py study.yaml [--n-trials N] [--max-parallel-trials N] [...]

Without a configured server Prefect runs embedded; `studyflow ui` shows the runs afterwards, or as
they go. The same engine without Prefect: `studyflow run study.yaml`.
"""

from __future__ import annotations

if __name__ == "__main__":
    from studyflow.interrupt import leave_at_once

    leave_at_once()  # Prefect takes seconds to import

    from studyflow.orchestration.environment import quiet_console

    quiet_console()

import sys
from collections.abc import Sequence
from typing import Any, get_args

from studyflow import runner
from studyflow.context import StudyContext
from studyflow.deployments.runs import EachRun
from studyflow.errors import StudyStopped
from studyflow.orchestration import form
from studyflow.orchestration.artifacts import publish_study
from studyflow.orchestration.flow_runs import FlowRunLog, as_deployment_run, current_run, name_run
from studyflow.orchestration.parameters import StudyParameters
from studyflow.orchestration.run_states import conclude, leave_if_suspended
from studyflow.orchestration.schedule_zones import zone_of_run
from studyflow.orchestration.screen import Screen, current_screen
from studyflow.orchestration.script import command_line, exit_now, run_script
from studyflow.orchestration.trial_tasks import TASK_RUNNER
from studyflow.orchestration.view import shown_on_page
from studyflow.reports import best_config
from studyflow.settings import Settings
from studyflow.spec import SamplerName

# isort: split
# After `studyflow.orchestration`, which sets what Prefect reads when it is imported.
from prefect import Flow, flow
from prefect.client.schemas.objects import FlowRun, State


def study_name_of(run: FlowRun) -> str:
    """Return the name of the study that a flow run is about."""
    return StudyParameters.of(run).renamed(as_deployment_run(run))[0].name


def end_trials(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """End what a cancelled run could not end in time: Prefect kills it after 30 seconds.

    Prefect calls this in a process of its own, so it finds its work by the run's parameters.
    """
    spec, folder = StudyParameters.of(flow_run).renamed(as_deployment_run(flow_run))
    context = StudyContext(spec, Settings.resolve())
    runner.cancel_study(context, FlowRunLog(flow_run), folder=folder)


@flow(
    name="run-study",
    flow_run_name=name_run(study_name_of, otherwise="study"),
    task_runner=TASK_RUNNER,
    retries=0,
    on_cancellation=[end_trials],
)
@form.typed
def run_study(
    study: form.StudyParameter,
    n_trials: form.TrialsParameter | None = None,
    max_parallel_trials: form.ParallelParameter | None = None,
    fork: str | None = None,
    sampler: SamplerName | None = None,
    timeout_seconds: form.SecondsParameter | None = None,
    each_run: EachRun = "finish",
    gpu_hours: form.HoursParameter | None = None,
) -> dict[str, Any] | State[Any]:
    """Run a study to its budget, or go on with it, and return its best configuration.

    What is wrong with the study, or ends it without a result, is the message of the failed state:
    an exception would show a person a stack trace of ours.

    Args:
        study: Path of a study file, or its YAML text.
        n_trials: Finish this many trials in all; the file's number by default. With another
            each_run than finish, every run finishes this many.
        max_parallel_trials: Trials that run at once; the file's number by default.
        fork: Start a new study of this name that takes over the old one's trials.
        sampler: Sampler for further trials; overrides the study file.
        timeout_seconds: After this long, start no further trial; the file's time by default.
        each_run: finish takes the study to its number of trials; continue adds that many to it;
            fresh makes a new study, named with the date; warm makes a new study that takes over
            the trials of the last one.
        gpu_hours: GPU-hours that the study may cost in all; the file's number by default.
    """
    parameters = StudyParameters(
        study, n_trials, max_parallel_trials, fork, sampler, timeout_seconds, each_run, gpu_hours
    )
    return conclude(lambda: _run_and_publish(parameters))


def _run_and_publish(parameters: StudyParameters) -> dict[str, Any]:
    result = _run(parameters)
    current_screen().print_result(result)
    publish_study(result)
    if result.outcome.is_failure:
        raise StudyStopped.because(result.outcome.reason)
    return best_config(result.data)


def _run(parameters: StudyParameters) -> runner.StudyResult:
    """Run a study and show it on the flow run's page."""
    settings = Settings.resolve()
    run = current_run()
    spec, fork_from, folder = parameters.read_for(
        as_deployment_run(run), settings, lambda: zone_of_run(run)
    )
    context = StudyContext(spec, settings)
    with shown_on_page(context, folder, fork_from) as (observer, options):
        result = runner.run_study(context, observer, options)
    leave_if_suspended(is_finished=result.outcome.is_finished)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow from the command line; return the exit code."""
    parser = command_line("Run a study under Prefect.")
    parser.add_argument("study", help="path of the study file")
    parser.add_argument("--n-trials", type=int, help="finish this many trials in all")
    parser.add_argument("--max-parallel-trials", type=int, help="trials that run at once")
    parser.add_argument("--fork", metavar="NAME", help="new study that takes over the old trials")
    parser.add_argument(
        "--sampler",
        choices=get_args(SamplerName),
        help="sampler for further trials; overrides the study file",
    )
    parser.add_argument("--timeout-seconds", type=float, help="start no trial after this long")
    parser.add_argument("--gpu-hours", type=float, help="GPU-hours that the study may cost in all")
    parser.add_argument(
        "--each-run", choices=get_args(EachRun), default="finish", help="which study a run is about"
    )
    given = vars(parser.parse_args(arguments))
    return run_script(
        lambda: StudyParameters(**given).read(),
        lambda: run_study(**given, return_state=True),
        Screen(sys.stderr),
    )


if __name__ == "__main__":
    exit_now(main())
