"""Trials as task runs: the state that one ends in, and how long the tasks are waited for."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from studyflow.spec import StudySpec
from studyflow.trial import Cause
from studyflow.trial.record import PausedAttempt, Resumption, TrialRecord, TrialState

pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.parametrize(
    ("state", "cause", "name", "is_failed"),
    [
        (TrialState.COMPLETE, Cause.OK, "Completed", False),
        (TrialState.PRUNED, Cause.PRUNED, "Pruned", False),
        (TrialState.FAILED, Cause.CUDA_OOM, "Cuda-Oom", True),
        (TrialState.FAILED, Cause.CANCELLED, "Cancelled", True),
    ],
)
def test_a_trial_task_ends_in_a_state_that_names_the_cause(
    state: TrialState, cause: Cause, name: str, is_failed: bool
) -> None:
    from studyflow.orchestration.trial_tasks import end_state

    record = TrialRecord(3, state, {}, values=(0.5,), cause=cause, message="why")
    shown = end_state(record)
    assert (shown.name, shown.is_failed()) == (name, is_failed)
    assert shown.is_completed() is (state is TrialState.COMPLETE), "only a result is green"
    assert str(cause) in str(shown.message)


class Future:
    """A trial's task that does not end."""

    def __init__(self, clock: list[float]) -> None:
        self.clock = clock
        self.timeouts: list[float] = []

    def wait(self, timeout: float | None = None) -> None:
        assert timeout is not None
        self.timeouts.append(timeout)
        self.clock[0] += timeout


@pytest.mark.fault("F36")
def test_a_hundred_tasks_are_waited_for_together() -> None:
    from studyflow.orchestration.trial_tasks import TrialTasks

    now, futures = [0.0], []

    def submit(_number: int, _params: dict[str, Any]) -> Future:
        futures.append(Future(now))
        return futures[-1]

    tasks = TrialTasks("study", submit)
    for number in range(100):
        tasks.start(TrialRecord(number, TrialState.RUNNING, {}, attempt=1))
    tasks.leave()
    tasks.wait(20.0, clock=lambda: now[0])

    assert [future.timeouts for future in futures] == [[20.0], *[[0.0]] * 99]


def test_a_trial_that_is_launched_again_keeps_its_task() -> None:
    from studyflow.orchestration.trial_tasks import TrialTasks

    started: list[tuple[int, dict[str, Any]]] = []

    def submit(number: int, params: dict[str, Any]) -> Future:
        started.append((number, params))
        return Future([0.0])

    tasks = TrialTasks("study", submit)
    for attempt in (1, 2):
        tasks.start(TrialRecord(7, TrialState.RUNNING, {"x": 0.5}, attempt=attempt))

    assert started == [(7, {"x": 0.5})]


def test_a_run_that_is_paused_during_a_launch_starts_no_task_and_reads_no_log() -> None:
    from prefect.exceptions import Pause

    from studyflow.orchestration.trial_tasks import TrialTasks

    def submit(_number: int, _params: dict[str, Any]) -> Future:
        raise Pause

    read: list[int] = []

    def read_log_tail(record: TrialRecord) -> str:
        read.append(record.number)
        return ""

    tasks = TrialTasks("study", submit)
    tasks.start(TrialRecord(0, TrialState.RUNNING, {}, attempt=1))
    ended = TrialRecord(0, TrialState.COMPLETE, {}, values=(1.0,), attempt=1)
    tasks.end(ended, read_log_tail)

    assert read == []


def test_prefect_logs_the_end_of_a_task_where_it_is_listened_to() -> None:
    from prefect.task_engine import AsyncTaskRunEngine, SyncTaskRunEngine

    from studyflow.orchestration.trial_tasks import LOGS_A_FAILURE, LOGS_THE_END

    for engine in (SyncTaskRunEngine, AsyncTaskRunEngine):
        assert callable(getattr(engine, LOGS_THE_END))
        assert callable(getattr(engine, LOGS_A_FAILURE))


class Lines(logging.Logger):
    """A flow run's log. No handler of pytest: Prefect sets up all logging when it is imported."""

    def __init__(self) -> None:
        super().__init__("flow run")
        self.told: list[str] = []

    def handle(self, record: logging.LogRecord) -> None:
        self.told.append(record.getMessage())


def spec_of(n_trials: int, trial_runs: str, **changes: Any) -> StudySpec:
    return StudySpec.from_mapping(
        {
            "name": "shown",
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "search_space": {"x": {"type": "int", "low": 1, "high": 9}},
            "budget": {"n_trials": n_trials},
            "prefect": {"trial_runs": trial_runs},
            "trial": {"command": ["python", "train.py"]},
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("n_trials", "trial_runs", "changes", "has_tasks"),
    [
        (200, "auto", {}, True),
        (201, "auto", {}, False),
        (201, "auto", {"sampler": {"type": "grid"}}, True),
        (10_000, "always", {}, True),
        (1, "never", {}, False),
    ],
)
def test_the_study_file_says_which_studies_have_task_runs(
    n_trials: int, trial_runs: str, changes: dict[str, Any], has_tasks: bool
) -> None:
    from studyflow.orchestration.trial_tasks import TrialTasks, shown_trials

    log = Lines()
    shown = shown_trials(spec_of(n_trials, trial_runs, **changes), log)
    assert isinstance(shown, TrialTasks) is has_tasks
    assert bool(log.told) is not has_tasks, "a page without them says why"


def test_a_page_without_task_runs_shows_the_logs_of_failed_trials() -> None:
    from studyflow.orchestration.trial_tasks import shown_trials

    log = Lines()
    shown = shown_trials(spec_of(201, "auto"), log)
    assert "prefect: {trial_runs: always}" in log.told.pop()
    for number, state in enumerate((TrialState.COMPLETE, TrialState.FAILED, TrialState.PRUNED)):
        record = TrialRecord(number, state, {}, attempt=1)
        shown.start(record)
        shown.end(record, lambda r: f"last line of {r.number}")
    shown.leave()
    shown.wait(0.0)
    assert log.told == ["end of the log of trial 1:\nlast line of 1"]


def paused_record(number: int = 0) -> TrialRecord:
    pauses = (PausedAttempt(1, "Paused at step 3."),)
    return TrialRecord(number, TrialState.RUNNING, {}, attempt=1, pauses=pauses)


def test_a_paused_trial_keeps_its_task_and_each_change_is_told_to_it() -> None:
    from studyflow.orchestration.trial_tasks import TrialTasks

    submitted: list[int] = []

    def submit(number: int, _params: dict[str, Any]) -> Future:
        submitted.append(number)
        return Future([0.0])

    tasks = TrialTasks("study", submit)
    running = TrialRecord(0, TrialState.RUNNING, {}, attempt=1)
    tasks.pause(paused_record())  # of an earlier run: there is no task yet
    tasks.start(running)
    tasks.start(running)
    tasks.pause(paused_record())
    resumed = replace(paused_record(), attempt=2, resumptions=(Resumption(2, "Promoted."),))
    tasks.start(resumed)
    tasks.start(resumed)
    told = tasks._ends[0]
    assert [told.get_nowait()[0] for _ in range(2)] == [paused_record(), resumed]
    assert told.empty()
    assert submitted == [0]


def test_a_paused_trial_is_shown_as_paused_and_one_taken_up_as_running() -> None:
    from studyflow.orchestration.trial_tasks import middle_state

    state = middle_state(paused_record())
    assert (state.name, state.message, state.is_paused()) == ("Paused", "Paused at step 3.", True)
    resumed = replace(paused_record(), attempt=2, resumptions=(Resumption(2, "Promoted."),))
    state = middle_state(resumed)
    assert (state.name, state.message) == ("Running", "Attempt 2. Promoted.")


def test_without_a_number_of_trials_the_first_ones_are_task_runs() -> None:
    from studyflow.orchestration.trial_tasks import FirstAsTasks, TrialLines, shown_trials

    log, tasks = Lines(), Lines()
    endless = spec_of(1, "auto", budget={"gpu_hours": 4})
    assert isinstance(shown_trials(endless, log), FirstAsTasks)
    shown = FirstAsTasks(TrialLines(tasks), TrialLines(log), log, n_tasks=2)
    for number in range(4):
        record = TrialRecord(number, TrialState.FAILED, {}, attempt=1)
        shown.start(record)
        shown.end(record, lambda r: f"tail {r.number}")
    shown.leave()
    shown.wait(0.0)
    assert [line[-6:] for line in tasks.told] == ["tail 0", "tail 1"]
    assert log.told[0].startswith("From trial 2 on, trials are lines of this log")
    assert [line[-6:] for line in log.told[1:]] == ["tail 2", "tail 3"]
