"""The loop over an executor in memory: budget, parallelism, pausing, leaving, several runners."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.tuner.rig import (
    Rig,
    losing,
    parallel,
)

from studyflow.executors import AttemptId
from studyflow.reasons import Cause, Code, Reason
from studyflow.study import is_counted, set_paused, this_runner
from studyflow.tracking.memory import MemoryTracker
from studyflow.tracking.mirror import Mirror
from studyflow.trial.attempt_files import AttemptFiles
from studyflow.trial.record import TrialRecord, TrialState
from studyflow.tuner import Tuner, TunerResult


@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_a_study_runs_to_its_budget_within_its_parallelism(n: int) -> None:
    rig = Rig(parallel(n), duration=lambda params: 1 + 5 * float(params["x"]))

    result = rig.drive()

    assert result == TunerResult(
        Reason(Code.BUDGET_SPENT, "All 6 trials are finished."), is_finished=True
    )
    records = rig.check()
    assert [r.values for r in records] == [(r.params["x"],) for r in records]
    assert rig.machine.most_running == min(n, 6)
    assert sorted(r.number for r in rig.diary.told) == [0, 1, 2, 3, 4, 5]
    assert sorted(rig.picture.finished) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("slots", "most"), [(1, 1), (3, 3), (9, 5)])
def test_the_executors_slots_limit_the_parallelism_too(slots: int, most: int) -> None:
    rig = Rig(parallel(5), slots=slots)

    rig.drive()

    rig.check()
    assert rig.machine.most_running == most
    assert rig.diary.notes == []


def test_outcomes_are_told_before_the_next_trial_is_asked_for() -> None:
    rig = Rig(parallel(1))
    tuner = rig.tuner()
    seen: list[int] = []
    ask = rig.driven.ask

    def spy(*given: Any) -> TrialRecord | None:
        seen.append(sum(is_counted(r) for r in rig.driven.records()))
        return ask(*given)

    rig.driven.ask = spy  # type: ignore[method-assign, assignment]
    tuner.drive()

    assert seen == [0, 1, 2, 3, 4, 5]


def test_every_trial_is_launched_once_and_told_once() -> None:
    rig = Rig()

    rig.drive()

    assert sorted(rig.diary.launches) == [AttemptId(n, 1) for n in range(6)]
    assert len(rig.diary.told) == 6


def test_a_finished_study_ends_at_once() -> None:
    rig = Rig()
    rig.drive()
    submitted = len(rig.machine.submitted)

    assert rig.tuner().turn() == TunerResult(
        Reason(Code.BUDGET_SPENT, "All 6 trials are finished."), is_finished=True
    )
    assert len(rig.machine.submitted) == submitted


@pytest.mark.slow
@pytest.mark.fault("F54")
def test_a_thousand_trials_that_end_in_the_same_second_are_each_told_once_after_few_looks() -> None:
    rig = Rig(parallel(1000, n_trials=1000), duration=5.0)
    tuner = rig.tuner()
    looks: list[int] = []
    poll = rig.executor.poll

    def counted() -> Any:
        looks.append(1)
        return poll()

    rig.executor.poll = counted
    assert tuner.drive().is_finished

    assert len(looks) < 20
    assert sorted(record.number for record in rig.diary.told) == list(range(1000))
    assert all(r.values == (r.params["x"],) for r in rig.check())


@pytest.mark.fault("F24")
def test_two_runners_over_one_study_and_executor_share_its_budget_exactly() -> None:
    rig = Rig(parallel(3, n_trials=20), objective=losing(1), duration=3.0)
    first, second = rig.tuner(), rig.tuner()
    results: list[TunerResult | None] = [None, None]
    for _ in range(500):
        for i, tuner in enumerate((first, second)):
            results[i] = results[i] or tuner.turn()
        if all(results):
            break
        rig.executor.wait(1.0)

    assert all(result is not None and result.is_finished for result in results)
    rig.check()
    assert len({r.number for r in rig.diary.told}) == len(rig.diary.told) == 20


@pytest.mark.fault("F24")
@pytest.mark.parametrize("is_shared", [False, True])
def test_a_trial_that_a_killed_runner_asked_for_beyond_the_budget_is_withdrawn(
    is_shared: bool,
) -> None:
    rig = Rig(parallel(3, n_trials=2), duration=100.0)
    tuner = rig.tuner()
    study = rig.driven.optuna_study
    if is_shared:
        for who in (this_runner(), {**this_runner(), "host": "pod-2"}):
            study.set_user_attr(f"studyflow:beat:{rig.executor.site}", {"at": 0.0, **who})
            rig.turns(tuner, 1)
    assert len(rig.machine.submitted) == (2 if is_shared else 0)
    if not is_shared:
        rig.turns(tuner, 1)
    study.ask()  # whoever asked had seen room before

    states = []
    for _ in range(40):
        rig.turns(tuner, 1)
        states.append(rig.driven.record(2).state)

    n_turns = states.count(TrialState.RUNNING)
    assert (25 < n_turns < 35) if is_shared else n_turns == 0, "a lease for whoever may be at it"
    assert tuner.drive().is_finished
    assert [record.attempt for record in rig.check()] == [1, 1, 0]


@pytest.mark.fault("F77")
def test_a_runner_at_the_same_site_is_known_by_its_beats() -> None:
    rig = Rig()
    tuner = rig.tuner()
    study = rig.driven.optuna_study
    key = f"studyflow:beat:{rig.executor.site}"
    joined = []
    for who in (
        {"host": "the-last-one", "process": 1},  # an earlier runner's
        this_runner(),
        {**this_runner(), "host": "pod-2"},
    ):
        study.set_user_attr(key, {"at": 0.0, **who})
        tuner.turn()
        joined.append(tuner.is_joined)
    rig.clock.advance(31.0)
    assert [*joined, tuner.is_joined] == [False, False, True, False]


@pytest.mark.fault("F32")
def test_the_real_mirror_shows_in_the_end_what_the_storage_holds() -> None:
    rig = Rig(objective=losing(1))
    tracker = MemoryTracker()
    study = rig.study()
    mirror = Mirror(tracker, files=lambda record: AttemptFiles(), is_threaded=False)
    tuner = Tuner(study, rig.executor, mirror.for_loop(), rig.diary, clock=rig.clock)

    tuner.drive()
    while mirror.step() is not None:
        pass

    records = rig.check()
    assert {n: run.record for n, run in tracker.runs.items()} == {r.number: r for r in records}
    assert {run.status for run in tracker.runs.values()} == {"FINISHED"}
    assert {run.opened for run in tracker.runs.values()} == {2}


def test_a_paused_study_finishes_its_running_trials_starts_none_and_goes_on_when_resumed() -> None:
    rig = Rig(duration=10.0)
    tuner = rig.tuner()
    rig.turns(tuner, 3)
    set_paused(rig.study().optuna_study, True)
    rig.turns(tuner, 50)

    assert [r.state for r in rig.study().records()] == [TrialState.COMPLETE] * 2
    assert {progress.is_paused for progress in rig.diary.progress[-5:]} == {True}
    assert rig.diary.progress[-1].note == rig.diary.notes[0]
    assert rig.diary.notes == [
        "Paused: running trials finish, none starts. Hint: studyflow resume demo"
    ], "said once"

    set_paused(rig.study().optuna_study, False)
    assert tuner.drive().is_finished
    assert not rig.diary.progress[-1].is_paused
    rig.check()


def test_a_runner_that_starts_while_the_study_is_paused_starts_nothing() -> None:
    rig = Rig()
    set_paused(rig.study().optuna_study, True)
    rig.turns(rig.tuner(), 5)

    assert rig.study().records() == ()


def test_a_lost_trial_of_a_paused_study_is_attempted_again_only_when_it_is_resumed() -> None:
    rig = Rig(parallel(1, n_trials=1), duration=10.0)
    tuner = rig.tuner()
    rig.turns(tuner, 2)
    set_paused(rig.study().optuna_study, True)
    rig.executor.lose(AttemptId(0, 1))
    rig.turns(tuner, 50)
    assert rig.diary.launches == [AttemptId(0, 1)]

    set_paused(rig.study().optuna_study, False)
    assert tuner.drive().is_finished
    assert rig.diary.launches == [AttemptId(0, 1), AttemptId(0, 2)]


def leaving_tuner(rig: Rig, leaves: Callable[[], bool]) -> Tuner:
    return Tuner(rig.study(), rig.executor, rig.picture, rig.diary, clock=rig.clock, leaves=leaves)


def test_a_runner_that_leaves_waits_for_its_running_trials_and_the_next_one_goes_on() -> None:
    rig = Rig(duration=10.0)
    tuner = leaving_tuner(rig, lambda: len(rig.diary.launches) == 2)
    result = tuner.drive()

    assert result == TunerResult(
        Reason(Cause.PAUSED, "The runner was paused."), is_finished=False, has_left=True
    )
    assert [r.state for r in rig.study().records()] == [TrialState.COMPLETE] * 2
    assert rig.drive().is_finished
    rig.check()


def test_a_runner_that_leaves_does_not_wait_for_a_trial_between_two_attempts() -> None:
    rig = Rig(parallel(1, n_trials=1, retry={"backoff_seconds": 3600}), duration=10.0)
    leaving = threading.Event()
    tuner = leaving_tuner(rig, leaving.is_set)
    rig.turns(tuner, 2)
    rig.executor.lose(AttemptId(0, 1))
    rig.turns(tuner, 2)
    leaving.set()

    result = tuner.turn()
    assert result is not None
    assert result.reason.code is Cause.PAUSED
    assert rig.drive().is_finished
    assert [r.attempt for r in rig.check()] == [2]
