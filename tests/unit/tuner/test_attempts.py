"""The executor as the loop uses it: away, refusing, and with attempts that no longer count."""

from __future__ import annotations

import pytest
from tests.unit.tuner.rig import (
    Refusing,
    Rig,
    ids,
    losing,
    parallel,
)

from studyflow.errors import ExecutorBlocked
from studyflow.executors import AttemptId
from studyflow.reasons import Code, Reason
from studyflow.trial import Cause
from studyflow.trial.record import TrialState


def test_stale_attempts_are_stopped_and_forgotten() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    rig.study().begin_attempt(0, 2)

    rig.turns(tuner, 2)

    stopped = rig.machine.attempts[AttemptId(0, 1)].outcome
    assert stopped is not None
    assert stopped.cause is Cause.CANCELLED
    rig.turns(tuner, 1)
    assert list(rig.executor.poll()) == [AttemptId(0, 2)]


@pytest.mark.fault("F14")
def test_an_outage_is_said_once_and_costs_nothing_but_time() -> None:
    rig = Rig(duration=30.0)
    tuner = rig.tuner()
    rig.turns(tuner, 2)
    rig.executor.go_away()
    rig.turns(tuner, 50)

    assert len(rig.diary.notes) == 1
    assert "Running trials go on" in rig.diary.notes[0]
    assert rig.diary.progress[-1].note == rig.diary.notes[0]
    assert len(rig.study().records()) == 2, "nothing is asked for meanwhile"
    rig.executor.come_back()
    assert tuner.drive().is_finished
    assert {r.attempt for r in rig.check()} == {1}
    assert rig.diary.progress[-1].note == ""


@pytest.mark.fault("F18")
@pytest.mark.parametrize("call", ["forget", "stop"])
def test_a_right_that_is_taken_away_ends_the_study_with_its_name_when_all_that_runs_has_ended(
    call: str,
) -> None:
    rig = Rig(
        parallel(2, pruner={"type": "threshold", "upper": 0.6}),
        duration=10.0,
        curve=lambda params: [{"loss": float(str(params["x"]))}] * 3,
    )
    inner = rig.executor
    rig.executor = Refusing(inner, call)
    rig.executor.error = ExecutorBlocked("Cannot patch jobs: 403 forbidden", hint="apply the Role.")

    result = rig.tuner().drive()

    assert result.reason == Reason(
        Code.EXECUTOR_BLOCKED, "Cannot patch jobs: 403 forbidden", "apply the Role."
    )
    assert (result.is_finished, result.is_failure) == (False, True)
    assert rig.diary.notes == [str(result.reason)]
    assert not rig.machine.running()
    records = rig.study().records()
    assert len(records) < 6
    assert all(r.state.is_finished for r in records)
    calls = rig.executor.n_refused
    assert calls <= len(records), "a refused call is not repeated"

    rig.executor = inner
    assert rig.tuner().drive().is_finished
    rig.check()


@pytest.mark.parametrize("call", ["forget", "stop"])
@pytest.mark.fault("F14")
def test_an_outage_during_any_call_does_not_end_the_runner(call: str) -> None:
    rig = Rig(
        parallel(2, pruner={"type": "threshold", "upper": 0.3}),
        duration=10.0,
        curve=lambda params: [{"loss": float(str(params["x"]))}] * 3,
    )
    inner = rig.executor
    rig.executor = Refusing(inner, call)
    tuner = rig.tuner()

    rig.turns(tuner, 5)
    assert rig.diary.notes == ["Quota: no room for another pod."]
    rig.executor.refused = False
    assert tuner.drive().is_finished

    rig.executor = inner
    tuner.turn()
    rig.check()
    assert len({r.number for r in rig.diary.told}) == len(rig.diary.told) == 6


def test_a_study_does_not_end_while_a_job_of_it_could_not_be_deleted() -> None:
    rig = Rig(parallel(1, n_trials=1))
    rig.executor = Refusing(rig.executor, "forget")
    tuner = rig.tuner()
    rig.turns(tuner, 5)
    assert [r.state for r in rig.study().records()] == [TrialState.COMPLETE]
    assert rig.diary.notes == ["Quota: no room for another pod."]

    rig.executor.refused = False
    assert tuner.drive().is_finished
    rig.check()


def test_a_lost_attempt_that_cannot_be_forgotten_yet_is_lost_once() -> None:
    rig = Rig(parallel(1, n_trials=1, retry={"backoff_seconds": 1}), objective=losing(1))
    inner = rig.executor
    rig.executor = Refusing(inner, "forget")
    rig.turns(rig.tuner(), 3)

    assert rig.diary.lost == [AttemptId(0, 1)]
    assert ids(rig.machine.submitted) == [AttemptId(0, 1), AttemptId(0, 2)]
