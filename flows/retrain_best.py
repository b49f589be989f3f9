"""The flow `retrain_best`: the best configurations of a study again, each training a task run.

    python flows/retrain_best.py study.yaml [--top K] [--repeats N] [--run-study-first]

With `run_study_first` the study itself is run before, as a flow of its own below this one: so a
schedule of this flow is a study and its retraining, one after the other. The same engine without
Prefect: `studyflow retrain study.yaml`.

This file holds names and glue; what a retraining does is decided in `studyflow.retrain`.
"""

from __future__ import annotations

if __name__ == "__main__":
    from studyflow.interrupt import leave_at_once

    leave_at_once()  # Prefect takes seconds to import

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from studyflow.cli.terminal import PlainView, print_retrain
from studyflow.context import StudyContext
from studyflow.errors import (
    SpecError,
    StudyflowError,
    StudyNotFound,
    StudyStopped,
    describe_os_error,
)
from studyflow.observers.observer import Observers
from studyflow.reports.stored import stored_study
from studyflow.retrain import (
    Registration,
    RetrainResult,
    plan_retrain,
    results_markdown,
    results_table,
    retrain,
    retrain_name,
)
from studyflow.runner import RunOptions, cancel_study
from studyflow.settings import Settings

# isort: split
# Python and Prefect put this file's folder on the path. Before Prefect, which reads the settings
# that this makes when it is imported.
from run_study import (
    TASK_RUNNER,
    FlowRunLog,
    PrefectView,
    Screen,
    artifact_key,
    is_cancelled,
    is_suspended,
    leave_if_suspended,
    publish_in_time,
    read_spec,
    run_script,
    run_study,
)

# isort: split
from prefect import Flow, flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Failed
from prefect_outage import ending_in_time, exit_now, wait_for_server
from typed import typed


def flow_run_name() -> str:
    """Return the name of the study of the repeats, for Prefect's list of runs."""
    from prefect.runtime import flow_run

    try:
        return retrain_name(read_spec(flow_run.get_parameters()["study"])[0])
    except StudyflowError:
        return "retrain"


def end_trials(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """End what a cancelled run could not end in time: Prefect kills it after 30 seconds."""
    settings = Settings.resolve()
    spec, folder = read_spec(flow_run.parameters["study"])
    for name in (spec.name, retrain_name(spec)):
        try:
            known = stored_study(name, settings).spec
        except (StudyNotFound, SpecError):
            continue
        context = StudyContext(known, settings)
        cancel_study(context, FlowRunLog(flow_run), folder=folder)


@flow(
    name="retrain-best",
    flow_run_name=flow_run_name,
    task_runner=TASK_RUNNER,
    retries=0,
    on_cancellation=[end_trials],
)
@typed
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
    registration = Registration(artifact, model, alias) if register_model else None
    with ending_in_time():
        return _retrain_to_end(
            study, top, repeats, run_study_first, seed_parameter, max_parallel_trials, registration
        )


def _retrain_to_end(
    study: str,
    top: int,
    repeats: int,
    run_study_first: bool,
    seed_parameter: str | None,
    max_parallel_trials: int | None,
    registration: Registration | None,
) -> dict[str, Any] | State[Any]:
    """Train again, publish what came out, and return the flow's result or its failed state."""
    try:
        if run_study_first:
            state = run_study(study, return_state=True)
            if not state.is_completed():
                return Failed(message=f"The study itself did not finish: {state.message}")
        result = _run(study, top, repeats, seed_parameter, max_parallel_trials, registration)
    except StudyflowError as error:
        return Failed(message=str(error))
    except OSError as error:
        if not error.strerror:
            raise
        return Failed(message=describe_os_error(error))
    if _is_script:
        print_retrain(result, Console())
    if wait_for_server(get_run_logger().warning):
        publish(result)
    if result.problem is not None:
        return Failed(message=str(result.problem))
    if result.best is None or not result.is_complete:
        return Failed(message=str(StudyStopped(result.run.outcome.reason)))
    champion = result.champion
    return {
        "configurations": results_table(result),
        "champion": None if champion is None else f"models:/{champion.name}@{champion.alias}",
    }


def _run(
    study: str,
    top: int,
    repeats: int,
    seed_parameter: str | None,
    max_parallel_trials: int | None,
    registration: Registration | None,
) -> RetrainResult:
    """Train again and show it on the flow run's page."""
    spec, folder = read_spec(study)
    settings = Settings.resolve()
    plan = plan_retrain(
        stored_study(spec.name, settings, spec),
        settings,
        top=top,
        repeats=repeats,
        seed_parameter=seed_parameter,
        max_parallel_trials=max_parallel_trials,
    )
    logger = get_run_logger()
    view = PrefectView(plan.spec)
    lines = PlainView(plan.spec, lambda line: logger.info("%s", line))
    with view.closing():
        result = retrain(
            plan,
            settings,
            Observers(view, lines),
            RunOptions(
                folder,
                on_executor=view.take_over,
                ends_trials=lambda: settings.executor == "local" or is_cancelled(),
                leaves=is_suspended,
            ),
            registration=registration,
        )
    leave_if_suspended(is_finished=result.is_complete)
    return result


def publish(result: RetrainResult) -> None:
    """Leave the means on the run's page."""
    name = result.plan.source.spec.name
    publish_in_time(
        lambda: create_markdown_artifact(
            markdown=results_markdown(result),
            key=artifact_key(name, "retrain"),
            description=f"Best configurations of {name}, trained again",
        )
    )


_is_script = False
"""Set by `main`: a person reads the terminal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow from the command line; return the exit code."""
    global _is_script
    parser = argparse.ArgumentParser(description="Train the best configurations of a study again.")
    parser.add_argument("study", help="path of the study file")
    parser.add_argument("--top", type=int, default=3, help="configurations to train again")
    parser.add_argument("--repeats", type=int, default=5, help="trainings of each one")
    parser.add_argument("--run-study-first", action="store_true", help="run the study before")
    parser.add_argument("--seed-parameter", help="parameter by which the script takes its seed")
    parser.add_argument("--max-parallel-trials", type=int, help="trials that run at once")
    given = parser.parse_args(arguments)
    _is_script = True

    def run() -> State[Any]:
        state: State[Any] = retrain_best(**vars(given), return_state=True)
        if not state.is_completed():
            print(state.message, file=sys.stderr)  # noqa: T201
        return state

    return run_script(lambda: read_spec(given.study), run, Screen())


if __name__ == "__main__":
    exit_now(main())
