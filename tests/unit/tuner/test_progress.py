"""Why a study ends, and what it tells until then."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.study.studies import make_spec
from tests.unit.tuner.rig import Diary, Rig, losing, parallel

from studyflow.observers.observer import Observer
from studyflow.reasons import Code, Reason
from studyflow.study import set_paused
from studyflow.testing.fake_clock import FakeClock
from studyflow.testing.fake_executor import Params
from studyflow.trial import Cause
from studyflow.trial.record import TrialState
from studyflow.tuner.progress import Leftover, Notes, Stopwatch


def test_reaching_the_target_lets_running_trials_finish_and_starts_no_more() -> None:
    spec = parallel(3, n_trials=50, stop={"target": 0.5}, enqueue=[{"x": 0.9}, {"x": 0.1}])
    rig = Rig(spec, duration=lambda params: 10.0 if params["x"] == 0.9 else 20.0)

    result = rig.drive()

    assert result.is_finished
    assert not result.is_failure
    assert result.reason == Reason(Code.TARGET_REACHED, "Target 0.5 reached: trial 1 has loss=0.1.")
    records = rig.check(n_counted=4)
    assert all(r.state is TrialState.COMPLETE for r in records)


def test_alike_failures_end_a_study_and_a_mended_script_lets_it_go_on() -> None:
    is_broken = [True]

    def objective(params: Params) -> Any:
        if is_broken[0]:
            raise KeyError("val_loss")
        return 1.0

    rig = Rig(parallel(2, n_trials=12), objective=objective)
    result = rig.drive()
    assert result.is_failure
    assert "KeyError: 'val_loss'" in str(result.reason)
    n_failed = len(rig.machine.submitted)
    assert n_failed <= 6

    is_broken[0] = False
    goes_on = rig.drive()
    assert goes_on.reason.code is Code.BUDGET_SPENT
    assert goes_on.reason.message.startswith(
        f"All 12 trials are finished: {12 - n_failed} complete, {n_failed} failed (user-error: "
    )
    assert not goes_on.is_failure
    records = rig.check()
    assert sum(r.state is TrialState.COMPLETE for r in records) == 12 - n_failed


@pytest.mark.fault("F58")
def test_the_time_budget_lets_running_trials_finish() -> None:
    spec = make_spec(budget={"n_trials": 100, "max_parallel_trials": 2, "timeout_seconds": 25})
    rig = Rig(spec, duration=10.0)
    started = rig.clock()

    result = rig.drive()

    assert not result.is_finished
    assert result.reason == Reason(
        Code.TIME_SPENT, "The time budget of 25 s is spent (budget.timeout_seconds)."
    )
    assert rig.clock() - started == pytest.approx(30.0, abs=2.0)
    rig.check(n_counted=6)


def test_a_time_budget_that_brings_no_value_is_a_failure_with_its_cause() -> None:
    def objective(_: Params) -> Any:
        raise KeyError("val_loss")

    spec = make_spec(
        budget={"n_trials": 100, "timeout_seconds": 25},
        stop={"alike_failures": 50, "first_failures": 0},
    )
    rig = Rig(spec, duration=10.0, objective=objective)

    result = rig.drive()

    assert (result.is_finished, result.is_failure) == (False, True)
    assert result.reason.code is Code.NOTHING_FEASIBLE
    assert result.reason.message.startswith(
        "The time budget of 25 s is spent (budget.timeout_seconds) and none of 3 finished trials "
        "gave a feasible value; 3 of them ended as user-error: "
    )
    assert str(result.reason).endswith("Then run the study again.")


def test_a_time_budget_that_ends_before_any_trial_is_a_failure() -> None:
    rig = Rig(make_spec(budget={"n_trials": 100, "timeout_seconds": 0.001}), duration=10.0)
    tuner = rig.tuner()
    rig.clock.advance(1.0)

    result = tuner.turn()

    assert result is not None
    assert result.is_failure
    assert result.reason.code is Code.TIME_SPENT
    assert "before any trial was finished" in result.reason.message


class Broken(Observer):
    """Fails at everything."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("launched", "reported", "attempt_lost", "recorded", "progressed", "noted"):
            raise RuntimeError("the terminal is gone")
        return super().__getattribute__(name)


def test_an_observer_that_fails_at_everything_does_no_harm() -> None:
    rig = Rig(objective=losing(1))

    assert rig.tuner(Broken()).drive().is_finished
    rig.check()


def test_progress_tells_counts_pace_and_the_best() -> None:
    rig = Rig(parallel(1, n_trials=4), duration=10.0)

    rig.drive()

    assert [p.n_finished for p in rig.diary.progress][-1] == 4
    assert rig.diary.progress[0].remaining_seconds is None
    second = next(p for p in rig.diary.progress if p.n_finished == 2)
    assert second.remaining_seconds == pytest.approx(20.0, abs=2.0)
    last = rig.diary.progress[-1]
    assert (last.running, last.remaining_seconds) == ((), 0.0)
    assert last.best[0].values == min(r.values for r in rig.study().records() if r.values)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Cause.BAD_METRIC, "4 of them ended as bad-metric"),
        (Cause.NAN, "4 of them ended as nan"),
    ],
)
def test_a_study_without_any_result_says_so_and_how_to_go_on(outcome: Cause, words: str) -> None:
    rig = Rig(
        make_spec(budget={"n_trials": 4}, stop={"first_failures": 0}),
        objective=lambda params: outcome,
    )

    result = rig.drive()

    assert (result.is_finished, result.is_failure) == (True, True)
    assert words in str(result.reason)
    assert "--n-trials 8" in str(result.reason)


def test_failures_alike_that_used_up_the_budget_say_how_to_go_on() -> None:
    rig = Rig(
        make_spec(budget={"n_trials": 5}, stop={"first_failures": 0}),
        objective=lambda params: Cause.USER_ERROR,
    )

    assert "run the study with --n-trials 10" in str(rig.drive().reason)


def test_a_pause_is_no_part_of_the_time_budget() -> None:
    spec = make_spec(budget={"n_trials": 100, "max_parallel_trials": 2, "timeout_seconds": 25})
    rig = Rig(spec, duration=10.0)
    tuner = rig.tuner()
    rig.turns(tuner, 2)
    set_paused(rig.study().optuna_study, True)
    rig.turns(tuner, 200)
    set_paused(rig.study().optuna_study, False)
    result = tuner.drive()

    assert result.reason == Reason(
        Code.TIME_SPENT, "The time budget of 25 s is spent (budget.timeout_seconds)."
    )
    rig.check(n_counted=8)  # two that ran when it was paused, and three rounds in 25 s


# ---- notes, time and what is left ---------------------------------------------------------------


def test_a_note_is_said_again_only_after_a_turn_without_it() -> None:
    diary = Diary()
    notes = Notes(diary)
    for found in (["a", "b", "a"], ["a"], [], ["a"]):
        notes.begin_turn()
        for note in found:
            notes.add(note)

    assert diary.notes == ["a", "b", "a"]
    assert notes.summary == "a"


def test_the_first_right_that_is_lost_is_why_the_study_ends() -> None:
    diary = Diary()
    notes = Notes(diary)
    first, second = (Reason(Code.EXECUTOR_BLOCKED, text) for text in ("No stop.", "No delete."))
    notes.lose_right(first)
    notes.lose_right(second)

    assert (notes.blocked, diary.notes) == (first, ["No stop."])


def test_pauses_are_no_part_of_the_time_that_a_runner_has_worked() -> None:
    clock = FakeClock()
    watch = Stopwatch(clock)
    for is_paused in (False, True, True, False):
        clock.advance(10.0)
        watch.observe(is_paused)
    clock.advance(5.0)

    assert (watch.elapsed_seconds, watch.worked_seconds) == (45.0, 25.0)


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (1, "trial 0"),
        (3, "trials 0, 1, 2"),
        (12, "trials 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"),
    ],
)
def test_what_is_left_to_the_next_runner_is_named_shortly(n: int, words: str) -> None:
    left = Leftover(tuple(range(n)), "Told to end.")
    assert str(left) == f"Left to the next runner: {words}. Told to end."


def test_a_study_that_alike_failures_ended_is_no_success_when_nothing_is_left_to_run() -> None:
    def objective(params: Params) -> Any:
        if params["x"] == 0.5:
            return 1.0
        raise KeyError("val_loss")

    spec = make_spec(budget={"n_trials": 6}, enqueue=[{"x": 0.5}])
    rig = Rig(spec, objective=objective)
    first, again = rig.drive(), rig.drive()

    assert first.is_failure
    assert again.is_failure
    assert again.reason.code is Code.FAILED_ALIKE
