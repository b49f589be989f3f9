"""How attempts end: retries, lost attempts, and scripts that say nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.tuner.rig import (
    Rig,
    ended_without_finish,
    ids,
    losing,
    parallel,
)

from studyflow.executors import AttemptId, AttemptStatus, ExecutorTraits
from studyflow.testing.fake_executor import FakeExecutor
from studyflow.tracking.logged import LoggedRun
from studyflow.trial import Cause, Outcome
from studyflow.trial.checkpoint_folders import CHECKPOINT_METRIC
from studyflow.trial.record import TrialState
from studyflow.tuner import Tuner


@pytest.mark.parametrize(
    ("result", "cause", "state"),
    [
        (Cause.HOST_OOM, Cause.HOST_OOM, TrialState.FAILED),
        (Cause.TIMEOUT, Cause.TIMEOUT, TrialState.FAILED),
        ({"loss": float("nan")}, Cause.NAN, TrialState.FAILED),
        ({"loss": float("inf")}, Cause.NAN, TrialState.FAILED),
        ({"lost": 1.0}, Cause.BAD_METRIC, TrialState.FAILED),
        ({"loss": 1.0}, Cause.OK, TrialState.COMPLETE),
    ],
)
@pytest.mark.fault("F01", "F02", "F39")
def test_each_outcome_is_recorded_with_its_cause(
    result: Any, cause: Cause, state: TrialState
) -> None:
    rig = Rig(parallel(2, n_trials=3), objective=lambda params: result)

    rig.drive()

    assert {(r.cause, r.state) for r in rig.check()} == {(cause, state)}


@pytest.mark.fault("F03")
def test_lost_attempts_are_repeated_with_the_same_parameters() -> None:
    rig = Rig(objective=losing(2))

    rig.drive()

    records = rig.check()
    assert {r.attempt for r in records} == {3}
    assert [[lost.attempt for lost in r.lost_attempts] for r in records] == [[1, 2]] * len(records)
    assert all(r.state is TrialState.COMPLETE for r in records)
    by_trial = {
        n: {t.params["x"] for t in rig.machine.submitted if t.number == n} for n in range(6)
    }
    assert all(len(values) == 1 for values in by_trial.values())


def test_the_tracker_is_told_of_each_lost_attempt_before_the_next_one_is_launched() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=losing(2))

    rig.drive()

    assert rig.picture.lost == [(0, 1), (0, 2)]


def test_the_pause_before_an_attempt_doubles_up_to_five_minutes() -> None:
    spec = parallel(1, n_trials=1, retry={"max_attempts": 8, "backoff_seconds": 10})
    rig = Rig(spec, objective=None)
    tuner = rig.tuner(poll_seconds=0.5)
    pauses = []
    for attempt in range(1, 8):
        tuner.turn()
        rig.executor.lose(AttemptId(0, attempt))
        lost_at = rig.clock()
        while len(rig.machine.submitted) == attempt:
            tuner.turn()
            rig.clock.advance(0.5)
        pauses.append(round(rig.clock() - lost_at))

    assert [p - (p % 10) for p in pauses] == [10, 20, 40, 80, 160, 300, 300]
    assert rig.diary.lost == [AttemptId(0, n) for n in range(1, 8)]
    assert rig.diary.lost_messages[1].endswith("Attempt 3 in 20 s.")
    assert rig.diary.lost_messages[-1].endswith("Attempt 8 in 300 s.")


@pytest.mark.fault("F03", "F20")
def test_a_trial_whose_attempts_are_all_lost_fails_with_the_last_cause() -> None:
    rig = Rig(parallel(2, n_trials=2, retry={"max_attempts": 3}), objective=losing(99))

    result = rig.drive()

    assert result.is_finished
    assert result.is_failure
    assert "fix the place where trials run" in str(result.reason)
    assert {(r.cause, r.state, r.attempt) for r in rig.check()} == {
        (Cause.EVICTED, TrialState.FAILED, 3)
    }


def lose_after(rig: Rig, tuner: Tuner, attempt: int, checkpoint: int | None) -> float:
    """Let an attempt publish a checkpoint and be lost; return the pause before the next one."""
    tuner.turn()
    if checkpoint is not None:
        told = {CHECKPOINT_METRIC: float(attempt)}
        rig.executor.report(AttemptId(0, attempt), checkpoint, **told)
        tuner.turn()
    rig.executor.lose(AttemptId(0, attempt), Cause.PREEMPTED)
    lost_at = rig.clock()
    while tuner.turn() is None and len(rig.machine.submitted) == attempt:
        rig.clock.advance(1.0)
    return round(rig.clock() - lost_at)


@pytest.mark.fault("F03")
def test_a_trial_that_comes_further_with_each_attempt_is_not_given_up() -> None:
    spec = parallel(1, n_trials=1, retry={"max_attempts": 3, "backoff_seconds": 10})
    rig = Rig(spec, objective=None)
    tuner = rig.tuner()
    pauses = [lose_after(rig, tuner, n, checkpoint=10 * n) for n in range(1, 9)]

    assert pauses == [10] * 8
    assert rig.machine.running() == [AttemptId(0, 9)]
    assert (
        "It brought the trial to step 80, so retry.max_attempts counts from it."
        in (rig.diary.lost_messages[-1])
    )
    lose_after(rig, tuner, 9, checkpoint=None)
    assert rig.machine.running() == [AttemptId(0, 10)]
    lose_after(rig, tuner, 10, checkpoint=80)
    [record] = rig.check()
    assert (record.state, record.attempt) == (TrialState.FAILED, 10)
    assert record.message.startswith(
        "Given up after 3 attempts (retry.max_attempts) since attempt 8, which had brought it to "
        "step 80; the last one: "
    )
    assert [lost.checkpoint_step for lost in record.lost_attempts] == [
        *(10, 20, 30, 40, 50, 60, 70, 80),
        None,
    ]


def test_the_next_runner_knows_what_attempts_came_to() -> None:
    rig = Rig(parallel(1, n_trials=1, retry={"max_attempts": 2}), objective=None)
    for n in range(1, 6):
        lose_after(rig, rig.tuner(), n, checkpoint=n)

    assert rig.machine.running() == [AttemptId(0, 6)]


def test_a_script_that_keeps_its_own_files_comes_further_by_its_reports() -> None:
    rig = Rig(parallel(1, n_trials=1, retry={"max_attempts": 2}), objective=None)
    tuner = rig.tuner()
    for n in range(1, 6):
        tuner.turn()
        for step in (3 * n, 3 * n + 2):
            rig.executor.report(AttemptId(0, n), step, loss=1.0)
        tuner.turn()
        lose_after(rig, tuner, n, checkpoint=None)
    assert rig.machine.running() == [AttemptId(0, 6)]

    lose_after(rig, tuner, 6, checkpoint=None)
    [record] = rig.check()
    assert (record.state, record.attempt) == (TrialState.FAILED, 6)
    assert [(lost.first_step, lost.last_step) for lost in record.lost_attempts] == [
        (3 * n, 3 * n + 2) for n in range(1, 6)
    ]


def test_where_pods_report_to_mlflow_it_is_asked_for_checkpoints(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FakeExecutor, "traits", ExecutorTraits(brings_points=False))
    rig = Rig(parallel(1, n_trials=1, retry={"max_attempts": 2}), objective=None)
    # Steps 0, 1, 2, …: published by the attempts 1, 1, 2 and 3.
    rig.picture.logged[CHECKPOINT_METRIC] = [1.0, 1.0, 2.0, 3.0]
    tuner = rig.tuner()
    for n in (1, 2, 3, 4):
        lose_after(rig, tuner, n, checkpoint=None)
    assert [lost.checkpoint_step for lost in rig.driven.record(0).lost_attempts] == [1, 2, 3]
    assert rig.driven.record(0).state is TrialState.FAILED


def test_what_says_that_a_checkpoint_was_published_is_no_report() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    tuner = rig.tuner()
    tuner.turn()
    rig.executor.report(AttemptId(0, 1), 4, **{CHECKPOINT_METRIC: 1.0})
    tuner.turn()
    assert rig.diary.points == []


def test_attempt_numbers_go_on_after_a_restart_of_the_runner() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    for attempt in (1, 2, 3):
        rig.turns(rig.tuner(), 2)
        rig.executor.lose(AttemptId(0, attempt))
        rig.turns(rig.tuner(), 2)
    rig.turns(rig.tuner(), 1)

    assert ids(rig.machine.submitted) == [AttemptId(0, n) for n in (1, 2, 3, 4)]


@pytest.mark.fault("F20")
def test_an_attempt_that_disappears_is_lost_and_repeated() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    tuner = rig.tuner()
    tuner.turn()
    del rig.machine.attempts[AttemptId(0, 1)]

    tuner.turn()
    rig.clock.advance(60)
    tuner.turn()

    assert rig.diary.lost == [AttemptId(0, 1)]
    assert rig.machine.running() == [AttemptId(0, 2)]
    rig.executor.finish(AttemptId(0, 2), 1.0)
    assert tuner.drive().is_finished
    assert [lost.attempt for lost in rig.check()[0].lost_attempts] == [1]


@pytest.mark.fault("F45")
def test_a_clock_that_went_back_while_a_trial_ran_makes_no_time_negative() -> None:
    rig = Rig(parallel(2))
    tuner = rig.tuner()
    poll = rig.executor.poll

    def an_hour_back() -> dict[AttemptId, AttemptStatus]:
        return {
            attempt: replace(status, ended_at=status.started_at - 3600.0)
            if status.ended_at is not None and status.started_at is not None
            else status
            for attempt, status in poll().items()
        }

    rig.executor.poll = an_hour_back
    assert tuner.drive().is_finished

    assert {record.trained_seconds for record in rig.check()} == {0.0}


@pytest.mark.fault("F04")
def test_a_late_result_of_a_replaced_attempt_is_refused() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    rig.turns(rig.tuner(), 1)
    # Another runner took attempt 1 for lost, and it comes back.
    rig.study().begin_attempt(0, 2)
    rig.executor.finish(AttemptId(0, 1), 99.0)
    tuner = rig.tuner()
    rig.turns(tuner, 2)
    rig.executor.finish(AttemptId(0, 2), 1.0)

    tuner.drive()

    assert rig.check()[0].values == (1.0,)


@pytest.mark.parametrize("source", ["mlflow", "reports"])
def test_a_script_that_never_calls_finish_is_judged_by_what_it_logged_last(source: str) -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    tuner = rig.tuner()
    tuner.turn()
    if source == "mlflow":
        rig.picture.logged = {"loss": [3.0, 2.0], "other": [1.0]}
    else:
        rig.executor.report(AttemptId(0, 1), 0, loss=3.0)
        rig.executor.report(AttemptId(0, 1), 1, loss=2.0)
    rig.executor.finish(AttemptId(0, 1), None)

    tuner.drive()

    (record,) = rig.check()
    assert (record.state, record.values) == (TrialState.COMPLETE, (2.0,))
    assert record.message == "The script called no finish(); the last logged values were taken."


def test_nothing_is_made_up_for_a_silent_script_that_logged_something_else() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    rig.picture.logged = {"other": [2.0]}
    tuner = rig.tuner()
    tuner.turn()
    rig.executor.finish(AttemptId(0, 1), None)

    tuner.drive()

    assert rig.check()[0].cause is Cause.BAD_METRIC


@pytest.mark.fault("F74")
def test_where_a_scripts_runs_disagree_the_trial_fails_and_shows_the_values() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    rig.picture.logged = {"loss": [2.0]}
    rig.picture.others = (LoggedRun("x", "fold1", {"loss": 3.0}),)
    ended_without_finish(rig).drive()

    (record,) = rig.check()
    assert (record.cause, record.values) == (Cause.BAD_METRIC, None)
    assert "disagree on loss: 'trial-0000' has 2, 'fold1' has 3" in record.message


@pytest.mark.fault("F74")
def test_a_trial_whose_values_are_in_an_mlflow_that_is_away_waits_for_it() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    rig.picture.logged, rig.picture.is_away = {"loss": [2.0]}, True
    tuner = ended_without_finish(rig)
    rig.turns(tuner, 5)
    assert rig.study().record(0).state is TrialState.RUNNING
    assert len(rig.diary.notes) == 1
    assert "What it logged is in MLflow, which does not answer." in rig.diary.notes[0]
    rig.picture.is_away = False
    tuner.drive()

    assert rig.check()[0].values == (2.0,)


@pytest.mark.fault("F74")
def test_an_mlflow_that_stays_away_is_why_a_trial_fails_in_the_end() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    rig.picture.logged, rig.picture.is_away = {"loss": [2.0]}, True
    tuner = ended_without_finish(rig)
    rig.turns(tuner, 5)
    rig.clock.advance(300.0)
    tuner.drive()

    (record,) = rig.check()
    assert record.cause is Cause.BAD_METRIC
    assert "what it logged to MLflow is not known: MLflow does not answer." in record.message


@pytest.mark.fault("F59")
@pytest.mark.parametrize("exit_code", [0, 1, None])
@pytest.mark.parametrize("cause", [Cause.BAD_METRIC, Cause.USER_ERROR])
def test_nothing_is_made_up_for_a_script_whose_outcome_is_refused(
    cause: Cause, exit_code: int | None
) -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    rig.picture.logged = {"loss": [2.0]}
    tuner = rig.tuner()
    tuner.turn()
    rig.executor.report(AttemptId(0, 1), 0, loss=2.0)
    said = "The outcome document is not JSON. It begins '{'."
    rig.executor.finish(AttemptId(0, 1), Outcome("demo", 0, 1, cause, {}, said))
    rig.machine.attempts[AttemptId(0, 1)].exit_code = exit_code

    tuner.drive()

    (record,) = rig.check()
    assert (record.state, record.cause, record.values) == (TrialState.FAILED, cause, None)
    assert record.message == said


@pytest.mark.fault("F62")
def test_what_a_lost_attempt_logged_straight_to_mlflow_is_no_result_of_the_next_one() -> None:
    rig = Rig(parallel(1, n_trials=1, retry={"backoff_seconds": 1}), objective=None)
    tuner = rig.tuner()
    tuner.turn()
    rig.picture.logged = {"loss": [3.0, 2.0]}
    rig.picture.logged_at_ms = round(1000 * rig.clock())
    rig.executor.lose(AttemptId(0, 1))
    rig.turns(tuner, 4)
    assert rig.machine.running() == [AttemptId(0, 2)]

    rig.executor.finish(AttemptId(0, 2), None)
    rig.machine.attempts[AttemptId(0, 2)].exit_code = 0
    tuner.drive()

    (record,) = rig.check(n_counted=1)
    assert (record.attempt, record.cause, record.values) == (2, Cause.BAD_METRIC, None)


@pytest.mark.fault("F62")
def test_what_the_next_attempt_logs_straight_to_mlflow_is_its_result() -> None:
    rig = Rig(parallel(1, n_trials=1, retry={"backoff_seconds": 1}), objective=None)
    tuner = rig.tuner()
    tuner.turn()
    rig.executor.lose(AttemptId(0, 1))
    rig.turns(tuner, 4)
    rig.picture.logged = {"loss": [3.0, 2.0]}
    rig.picture.logged_at_ms = round(1000 * rig.clock())

    rig.executor.finish(AttemptId(0, 2), None)
    rig.machine.attempts[AttemptId(0, 2)].exit_code = 0
    tuner.drive()

    (record,) = rig.check()
    assert (record.attempt, record.cause, record.values) == (2, Cause.OK, (2.0,))


@pytest.mark.parametrize("is_replaced", [False, True])
def test_the_end_names_the_run_whoever_launched_the_trial(is_replaced: bool) -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    assert rig.driven.record(0).run_id == "run-0"
    if is_replaced:
        tuner = rig.tuner()
        assert rig.study().record(0).run_id is None, "written with the next write"
    rig.executor.finish(AttemptId(0, 1), 0.5)

    assert tuner.turn() is not None

    record = rig.study().record(0)
    assert (record.state, record.run_id) == (TrialState.COMPLETE, "run-0")
