"""What a person does to a flow run on its page, and the states in which a run ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import Pause
from prefect.states import Failed, Running, Suspended

from studyflow.background import Background
from studyflow.errors import StudyflowError, describe_os_error
from studyflow.executors import ExecutorWithLogs
from studyflow.executors.registry import executor_kind
from studyflow.orchestration.flow_runs import current_run
from studyflow.orchestration.live_runs import LIVE_RUNS
from studyflow.orchestration.outages import tolerated
from studyflow.orchestration.screen import current_screen
from studyflow.orchestration.script import ending_in_time
from studyflow.runner import RunOptions
from studyflow.settings import Settings

ANSWER_SECONDS: Final = 10.0
"""How long a runner that is told to end waits for Prefect to say who told it."""

REST_SECONDS: Final = 10 * 365 * 86400
"""How long a run that was paused on its page waits to be resumed."""

PAUSED_STATE: Final = "Study Paused"
"""Name of the state of a run whose study was paused by `studyflow pause`."""

R = TypeVar("R")


def conclude(body: Callable[[], R]) -> R | State[Any]:
    """Return what the body of a flow returns, or the failed state that says what a person can fix.

    An exception would show a person a stack trace of ours.
    """
    with ending_in_time():
        try:
            return body()
        except StudyflowError as error:
            return _failed(error, str(error))
        except OSError as error:
            if not error.strerror:
                raise
            return _failed(error, describe_os_error(error))


def _failed(error: StudyflowError | OSError, message: str) -> State[Any]:
    current_screen().keep_error(error)
    return Failed(message=message)


def flow_options(
    settings: Settings,
    folder: Path,
    fork_from: str | None = None,
    on_executor: Callable[[ExecutorWithLogs], None] | None = None,
) -> RunOptions:
    """Return the options of a run that is ended and paused on its flow run's page.

    When it is told to end, trials on this machine end with it. Pods go on, unless the flow run was
    cancelled.

    Args:
        settings: Where trials run.
        folder: Folder that relative paths in `trial.command` start from.
        fork_from: Study whose trials a new one takes over; `None` for none.
        on_executor: Is given the executor before the first trial.
    """
    kind = executor_kind(settings.executor)
    return RunOptions(
        folder,
        fork_from,
        on_executor=on_executor,
        ends_trials=lambda: not kind.outlives_runner or is_cancelled(),
        leaves=is_suspended,
    )


def is_cancelled() -> bool:
    """Return whether this flow run was cancelled; else its pod is evicted, drained or replaced.

    Its trials then go on in their own pods, and the next pod of this flow run finds them.
    """
    run = current_run()
    if run is None:
        return True

    def read_state() -> State[Any] | None:
        with get_client(sync_client=True) as client:
            return client.read_flow_run(run.id).state

    state = None  # nobody is known to have cancelled it: its trials go on
    with tolerated(get_run_logger(), "Prefect does not say whether this run is cancelled"):
        state = Background("prefect-state", read_state).result(ANSWER_SECONDS)
    return state is not None and state.type in (StateType.CANCELLING, StateType.CANCELLED)


def suspension() -> State[Any] | None:
    """Return the state in which a person has paused this flow run on its page, if so.

    Prefect watches for it, and would raise it in the midst of the next launch: see `leave`.
    """
    context = FlowRunContext.get()
    return None if context is None else context.flow_run_suspension_request.get_state()


def is_suspended() -> bool:
    """Return whether a person has paused this flow run on its page: it is to start nothing more."""
    return suspension() is not None


def leave_if_suspended(*, is_finished: bool) -> None:
    """End the process of a flow run that was paused before its work was done.

    Raises:
        Pause: It was; Prefect ends the process.
    """
    state = suspension()
    if state is not None and not is_finished:
        leave(state)


def leave(state: State[Any]) -> NoReturn:
    """End the process of a paused flow run; resumed on its page, it goes on in another.

    The page gives each pause a time after which Prefect fails the run (and not, as it says there,
    resumes it). Until somebody resumes it, it rests.

    Raises:
        Pause: Always; Prefect ends the process.
    """
    run = current_run()
    assert run is not None, "only a flow run is paused"
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(run.id).state
        if found is not None and found.type is StateType.PAUSED:
            state = Suspended(timeout_seconds=REST_SECONDS)
            client.set_flow_run_state(run.id, state, force=True)
    raise Pause(state=state)


def show_pause(is_paused: bool) -> None:
    """Let the run's page say that `studyflow pause` has stopped the study, or that it goes on."""
    run = current_run()
    if run is None:
        return
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(run.id).state
        if found is not None and found.type is StateType.RUNNING:
            name = PAUSED_STATE if is_paused else "Running"
            shown: State[Any] = Running(name=name)
            client.set_flow_run_state(run.id, shown, force=True)
            LIVE_RUNS.renew(run.id)
