"""Trials as Prefect's task runs: each lasts from its launch to its recorded end."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol, cast

from prefect import Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.exceptions import Pause
from prefect.futures import PrefectFuture
from prefect.states import Cancelled, Completed, Crashed, Failed, Paused, Pending, Running
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.engine import emit_task_run_state_change_event

from studyflow.spec import StudySpec
from studyflow.study import n_trials_to_finish
from studyflow.trial.record import TrialRecord, TrialState

Logger = logging.Logger | logging.LoggerAdapter[Any]

MAX_TRIAL_TASKS: Final = 256
"""Most trial tasks at once: each is a thread that sleeps until its trial is recorded."""

MAX_TRIALS_AS_TASKS: Final = 200
"""Most trials of a study that `prefect.trial_runs: auto` shows: Prefect's page and API list as many
task runs at once, and each costs a third of what a trial without it does."""

# Prefect's own runner misses the type that its own decorator asks for.
TASK_RUNNER = cast(
    "TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=MAX_TRIAL_TASKS)
)
"""Task runner of a flow that shows its trials."""

LOGS_THE_END: Final = "log_finished_message"
LOGS_A_FAILURE: Final = "handle_retry"
"""The functions of Prefect's task engine that log how a task ended: its records have no codes."""

ReadLogTail = Callable[[TrialRecord], str]
"""Returns the last lines of a trial's log."""

TrialEnd = queue.SimpleQueue[tuple[TrialRecord | None, str]]
"""Tells a trial's task its recorded trial and the log's last lines; `None` when the runner leaves
the trial running. A trial that is not finished is paused, or was taken up again."""


class TaskFuture(Protocol):
    """What is used of Prefect's futures."""

    def wait(self, timeout: float | None = None) -> None:
        """Return when the task has ended, or after this many seconds."""


def end_state(record: TrialRecord) -> State[Any]:
    """Return the Prefect state that shows a finished trial: its cause is in name and message."""
    data = {"number": record.number, "state": record.state.value, "cause": record.cause}
    if record.state is TrialState.COMPLETE:
        values = ", ".join(f"{value:.6g}" for value in record.values or ())
        return Completed(message=f"{record.cause}: {values}", data=data)
    message = f"{record.cause}: {record.reason}" if record.message else str(record.cause)
    if record.state is TrialState.PRUNED:
        # Not of type Completed: Prefect draws that green, as if it had a result.
        return Cancelled(name="Pruned", message=message)
    return Failed(name=str(record.cause or "failed").title(), message=message)


def show_state(record: TrialRecord) -> None:
    """Give the task run of this thread the state of its paused trial, or of one taken up again.

    A task run's states are events that its own process sends; Prefect's task engine has no call for
    a state between running and the end, so this does what it does itself.
    """
    context = TaskRunContext.get()
    if context is None:
        return
    run, state = context.task_run, middle_state(record)
    before = run.state or Pending()
    state.state_details.task_run_id, state.state_details.flow_run_id = run.id, run.flow_run_id
    run.state, run.state_id = state, state.id
    run.state_type, run.state_name = state.type, state.name
    emit_task_run_state_change_event(run, before, state)


def middle_state(record: TrialRecord) -> State[Any]:
    """Return the Prefect state that shows a trial between its launch and its end."""
    if record.is_paused:
        return Paused(message=record.pauses[-1].message)
    resumed = record.resumptions[-1].message if record.resumptions else ""
    return Running(message=f"Attempt {record.attempt}. {resumed}".strip())


def make_trial_task(ends: dict[int, TrialEnd]) -> Task[[str, int, dict[str, Any]], State[Any]]:
    """Return the task that stands for one trial.

    Args:
        ends: The ends that tasks wait for, by trial number: a task's arguments are shown on its
            page, so objects travel beside them.
    """

    @task(name="trial", task_run_name="trial-{number:04d}", cache_policy=NO_CACHE, retries=0)
    def trial_task(study: str, number: int, params: dict[str, Any]) -> State[Any]:  # noqa: ARG001
        """Last from a trial's launch to its recorded outcome; the state says how it ended."""
        logger = get_run_logger()
        logger.info("trial %d: %s", number, params)
        try:
            record, log_tail = ends[number].get()
            while record is not None and not record.state.is_finished:
                show_state(record)
                record, log_tail = ends[number].get()
        finally:
            del ends[number]
        if record is None:
            return Crashed(message="The runner ended first; the next one goes on with this trial.")
        if log_tail:
            logger.info("end of the trial's log:\n%s", log_tail)
        return end_state(record)

    return trial_task


class ShownTrials(Protocol):
    """The trials of a study, as its flow run shows them."""

    def start(self, record: TrialRecord) -> None:
        """Show a trial that was launched."""

    def pause(self, record: TrialRecord) -> None:
        """Show that a trial was paused; `start` follows if it is taken up again."""

    def end(self, record: TrialRecord, read_log_tail: ReadLogTail) -> None:
        """Show how a trial ended that was recorded."""

    def leave(self) -> None:
        """Take in that the trials that run go on without this runner."""

    def wait(self, deadline: float) -> None:
        """Wait until Prefect has the end of every trial, or until a time of the clock."""


def shown_trials(spec: StudySpec, logger: Logger) -> ShownTrials:
    """Return what shows the trials of a study, as `prefect.trial_runs` of its file says.

    Args:
        spec: The study.
        logger: Of the flow run.
    """
    wanted, n_trials = spec.prefect.trial_runs, n_trials_to_finish(spec)
    if wanted == "auto" and n_trials is None:
        return FirstAsTasks(TrialTasks(spec.name), TrialLines(logger), logger)
    if wanted == "always" or (wanted == "auto" and (n_trials or 0) <= MAX_TRIALS_AS_TASKS):
        return TrialTasks(spec.name)
    why = (
        "as the study file says (prefect.trial_runs: never)"
        if wanted == "never"
        else f"as {n_trials} are more than {MAX_TRIALS_AS_TASKS}; to have them, write "
        "prefect: {trial_runs: always} into the study file"
    )
    logger.info("Trials are lines of this log and runs in MLflow, no task runs: %s.", why)
    return TrialLines(logger)


class TrialLines:
    """Trials of a study whose flow run has no task runs: others log their lines.

    Args:
        logger: Of the flow run.
    """

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def start(self, record: TrialRecord) -> None:
        """Show nothing more of a trial that was launched."""

    def pause(self, record: TrialRecord) -> None:
        """Show nothing more of a trial that was paused."""

    def end(self, record: TrialRecord, read_log_tail: ReadLogTail) -> None:
        """Show the last lines of the log of a trial that failed."""
        if record.state is TrialState.FAILED and (tail := read_log_tail(record)):
            self._logger.info("end of the log of trial %d:\n%s", record.number, tail)

    def leave(self) -> None:
        """Do nothing: nobody waits for an end."""

    def wait(self, deadline: float) -> None:
        """Return at once."""


class FirstAsTasks:
    """Trials of a study without a number of them: the first as task runs, others as log lines.

    Args:
        tasks: Shows the first trials.
        lines: Shows those of higher numbers.
        logger: Of the flow run; told once when it goes on by lines.
        n_tasks: How many trials are task runs.
    """

    def __init__(
        self,
        tasks: ShownTrials,
        lines: ShownTrials,
        logger: Logger,
        n_tasks: int = MAX_TRIALS_AS_TASKS,
    ) -> None:
        self._tasks = tasks
        self._lines = lines
        self._logger = logger
        self._n_tasks = n_tasks
        self._has_told = False

    def start(self, record: TrialRecord) -> None:
        """Show a trial that was launched."""
        if record.number >= self._n_tasks and not self._has_told:
            self._has_told = True
            self._logger.info(
                "From trial %d on, trials are lines of this log and runs in MLflow, no task runs; "
                "to have them all, write prefect: {trial_runs: always} into the study file.",
                self._n_tasks,
            )
        self._of(record).start(record)

    def pause(self, record: TrialRecord) -> None:
        """Show that a trial is paused."""
        self._of(record).pause(record)

    def end(self, record: TrialRecord, read_log_tail: ReadLogTail) -> None:
        """Show how a trial ended that was recorded."""
        self._of(record).end(record, read_log_tail)

    def leave(self) -> None:
        """End the tasks of trials that go on without this runner."""
        self._tasks.leave()

    def wait(self, deadline: float) -> None:
        """Wait until Prefect has the end of every task, or until a time of the clock."""
        self._tasks.wait(deadline)

    def _of(self, record: TrialRecord) -> ShownTrials:
        return self._tasks if record.number < self._n_tasks else self._lines


class TrialTasks:
    """The task runs of one study's trials.

    Args:
        study: Name of the study.
        submit: Starts the task of a trial's number and parameters; Prefect's by default.
    """

    def __init__(
        self, study: str, submit: Callable[[int, dict[str, Any]], TaskFuture] | None = None
    ) -> None:
        self._ends: dict[int, TrialEnd] = {}
        self._futures: dict[int, TaskFuture] = {}
        self._paused: set[int] = set()
        trial_task = make_trial_task(self._ends)
        self._submit = submit or (lambda number, params: trial_task.submit(study, number, params))
        logging.getLogger("prefect.task_runs").addFilter(_keep_calm)

    def start(self, record: TrialRecord) -> None:
        """Start the task of a trial that was launched; a further attempt goes on in the same."""
        if record.number in self._paused:
            self._paused.discard(record.number)
            self._tell(record)
        if record.number in self._futures:
            return
        self._ends[record.number] = queue.SimpleQueue()
        try:
            self._futures[record.number] = self._submit(record.number, dict(record.params))
        except Pause:  # in this very moment; the trial ends before the run leaves
            del self._ends[record.number]

    def pause(self, record: TrialRecord) -> None:
        """Show the task of a trial as paused until its next attempt starts."""
        if record.number in self._futures:
            self._paused.add(record.number)
            self._tell(record)

    def _tell(self, record: TrialRecord) -> None:
        end = self._ends.get(record.number)
        if end is not None:
            end.put((record, ""))

    def end(self, record: TrialRecord, read_log_tail: ReadLogTail) -> None:
        """End the task of a trial that was recorded, if it has one that still waits."""
        end = self._ends.get(record.number)
        if end is not None:
            end.put((record, read_log_tail(record)))

    def leave(self) -> None:
        """End the tasks of trials that go on without this runner."""
        for number in self._futures:
            end = self._ends.get(number)
            if end is not None:
                end.put((None, ""))  # a task without an end would wait for ever

    def wait(self, deadline: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Wait until Prefect has the end of every task, or until a time of the clock."""
        for future in self._futures.values():
            with suppress(Pause):  # of the flow run, which leaves after this
                future.wait(timeout=max(deadline - clock(), 0.0))


def _keep_calm(record: logging.LogRecord) -> bool:
    """Make a failed trial news, not an error: a terminal would show that amid the live view.

    Of the two records that Prefect makes, the first repeats the second with an empty stack trace.
    """
    if record.funcName == LOGS_THE_END:
        record.levelno, record.levelname = logging.INFO, "INFO"
    return record.funcName != LOGS_A_FAILURE
