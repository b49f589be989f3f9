"""The flow `retrain_best`: the best configurations of a study again, each training a task run.

    python flows/retrain_best.py study.yaml [--top K] [--repeats N] [--run-study-first]

With `run_study_first` the study itself runs before, as a flow of its own below this one: a schedule
of this flow is then a study and its retraining. Without Prefect: `studyflow retrain study.yaml`.
"""

from __future__ import annotations

if __name__ == "__main__":
    from studyflow.interrupt import leave_at_once

    leave_at_once()  # Prefect takes seconds to import

import sys
from collections.abc import Sequence
from typing import Any

from studyflow.cli.results import print_retrain
from studyflow.context import StudyContext
from studyflow.errors import StudyStopped
from studyflow.orchestration import form
from studyflow.orchestration.artifacts import publish_retrain
from studyflow.orchestration.flow_runs import FlowRunLog, name_run
from studyflow.orchestration.parameters import RetrainParameters, read_spec
from studyflow.orchestration.run_states import conclude, leave_if_suspended
from studyflow.orchestration.screen import Screen, current_screen
from studyflow.orchestration.script import command_line, exit_now, run_script
from studyflow.orchestration.trial_tasks import TASK_RUNNER
from studyflow.orchestration.view import shown_on_page
from studyflow.retrain import (
    Registration,
    RetrainResult,
    cancel_retrain,
    results_table,
    retrain,
    retrain_name,
)
from studyflow.settings import Settings

# isort: split
# After `studyflow.orchestration`, which sets what Prefect reads when it is imported.
from prefect import Flow, flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Failed
from run_study import run_study  # Python and Prefect put this file's folder on the path


def repeats_name_of(run: FlowRun) -> str:
    """Return the name of the study of the repeats."""
    return retrain_name(read_spec(run.parameters["study"])[0])


def end_trials(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """End what a cancelled run could not end in time: Prefect kills it after 30 seconds."""
    spec, folder = read_spec(flow_run.parameters["study"])
    cancel_retrain(spec, Settings.resolve(), FlowRunLog(flow_run), folder=folder)


@flow(
    name="retrain-best",
    flow_run_name=name_run(repeats_name_of, otherwise="retrain"),
    task_runner=TASK_RUNNER,
    retries=0,
    on_cancellation=[end_trials],
)
@form.typed
def retrain_best(
    study: str,
    top: int = 3,
    repeats: int = 5,
    run_study_first: bool = False,
    seed_parameter: str | None = None,
    max_parallel_trials: int | None = None,
    register_model: bool = True,
    artifact: str | None = None,
    model: str | None = None,
    alias: str = "champion",
) -> dict[str, Any] | State[Any]:
    """Train the best configurations of a study again with fresh seeds, and register the winner.

    Args:
        study: Path of a study file, or its YAML text.
        top: Configurations to train again.
        repeats: Trainings of each one, every one with another seed.
        run_study_first: Run the study to its budget before.
        seed_parameter: Parameter by which the script takes its seed; `seed` if the study has one.
        max_parallel_trials: Trials that run at once; the file's number by default.
        register_model: Whether the model of the best mean goes to MLflow's registry.
        artifact: Which artifact of a trial is the model; the only one by default.
        model: Its name in the registry; the study's by default.
        alias: Alias that the registered version gets.
    """
    parameters = RetrainParameters(study, top, repeats, seed_parameter, max_parallel_trials)
    registration = Registration(artifact, model, alias) if register_model else None
    return conclude(lambda: _retrain_and_publish(parameters, run_study_first, registration))


def _retrain_and_publish(
    parameters: RetrainParameters, run_study_first: bool, registration: Registration | None
) -> dict[str, Any] | State[Any]:
    if run_study_first:
        with current_screen().muted():
            state = run_study(parameters.study, return_state=True)
        if not state.is_completed():
            raise StudyStopped(f"The study itself did not finish: {state.message}")
    result = _retrain(parameters, registration)
    current_screen().print(lambda console: print_retrain(result, console))
    publish_retrain(result)
    if result.problem is not None:
        return Failed(message=str(result.problem))
    if result.best is None or not result.is_complete:
        return Failed(message=str(result.run.outcome.reason))
    return {
        "configurations": results_table(result),
        "champion": result.champion.uri if result.champion else None,
    }


def _retrain(parameters: RetrainParameters, registration: Registration | None) -> RetrainResult:
    settings = Settings.resolve()
    plan, folder = parameters.plan(settings)
    with shown_on_page(StudyContext(plan.spec, settings), folder) as (observer, options):
        result = retrain(plan, settings, observer, options, registration=registration)
    leave_if_suspended(is_finished=result.is_complete)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow from the command line; return the exit code."""
    parser = command_line("Train the best configurations of a study again.")
    parser.add_argument("study", help="path of the study file")
    parser.add_argument("--top", type=int, default=3, help="configurations to train again")
    parser.add_argument("--repeats", type=int, default=5, help="trainings of each one")
    parser.add_argument("--run-study-first", action="store_true", help="run the study before")
    parser.add_argument("--seed-parameter", help="parameter by which the script takes its seed")
    parser.add_argument("--max-parallel-trials", type=int, help="trials that run at once")
    given = vars(parser.parse_args(arguments))
    return run_script(
        lambda: read_spec(given["study"]),
        lambda: retrain_best(**given, return_state=True),
        Screen(sys.stderr, is_live=False),
    )


if __name__ == "__main__":
    exit_now(main())
