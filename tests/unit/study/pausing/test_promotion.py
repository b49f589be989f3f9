"""Promotion: who is paused at a rung, and what a free slot goes to."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from tests.unit.study.studies import make_spec

from studyflow.study.pausing import (
    Move,
    Promotion,
    Stage,
    Standing,
    TakeUpAll,
    TrialStanding,
    pause_policy,
)

POLICY = Promotion(min_resource=1, reduction_factor=3, metric="loss")
"""Its rungs are the steps 1, 3, 9, 27."""

PAUSED, RUNNING, COMPLETE, STOPPED = Stage.PAUSED, Stage.RUNNING, Stage.COMPLETE, Stage.STOPPED


def curve(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def at(number: int, value: float, step: int = 1, stage: Stage = PAUSED) -> TrialStanding:
    """Return a trial that has reported one value at every step up to one."""
    return TrialStanding(number, stage, curve=curve(*[value] * (step + 1)))


def judged(
    *trials: TrialStanding, number: int = 0, may_start: bool = True, last_step: int | None = None
) -> Move:
    return POLICY.judge(Standing(trials, 0, may_start, last_step), number).move


def test_a_trial_that_has_not_come_to_a_rung_goes_on() -> None:
    assert judged(at(0, 0.5, step=0, stage=RUNNING)) is Move.GO_ON


def test_the_first_trial_at_a_rung_is_paused_since_one_in_three_goes_on() -> None:
    assert judged(at(0, 0.5, stage=RUNNING)) is Move.PAUSE


def test_the_best_of_three_goes_on_without_a_pause_and_the_others_pause() -> None:
    others = (at(1, 0.5), at(2, 0.7))
    assert judged(at(0, 0.3, stage=RUNNING), *others) is Move.GO_ON
    assert judged(at(0, 0.6, stage=RUNNING), *others) is Move.PAUSE


def test_a_trial_is_judged_once_at_a_rung() -> None:
    cleared = TrialStanding(0, RUNNING, curve=curve(0.9, 0.9), cleared_step=1)
    assert POLICY.judge(Standing((cleared,)), 0).move is Move.GO_ON


def test_a_trial_that_is_seen_beyond_a_rung_is_judged_by_its_value_there() -> None:
    late = TrialStanding(0, RUNNING, curve=curve(0.9, 0.6, 0.1))
    decision = POLICY.judge(Standing((late, at(1, 0.5), at(2, 0.7))), 0)
    assert decision.move is Move.PAUSE
    assert decision.why.numbers == {
        "rung": 0,
        "rung_step": 1,
        "value": 0.6,
        "rank": 2,
        "n": 3,
        "n_promoted": 1,
    }
    assert decision.why.message == (
        "Paused at step 1: 2 of 3 there with loss=0.6; only the first goes on."
    )


def test_the_last_step_is_never_paused() -> None:
    assert judged(at(0, 0.9, step=3, stage=RUNNING), last_step=3) is Move.GO_ON


def test_a_value_that_is_not_finite_waits_for_the_next_and_is_the_worst_of_all() -> None:
    nan = TrialStanding(0, PAUSED, curve=curve(0.1, math.nan))
    late = TrialStanding(1, PAUSED, curve=curve(0.1, math.nan, 0.2))
    others = [at(n, 0.5 + n / 10) for n in (2, 3, 4, 5)]
    standing = Standing((nan, late, *others))
    assert POLICY.choose(standing).number == 1
    assert POLICY.choose(Standing((nan, *others[:2]))).number == 2


def test_a_free_slot_goes_to_the_best_paused_trial_of_the_highest_rung() -> None:
    low = [at(n, 0.1 * n) for n in range(3)]
    high = [at(n, 0.9 + n / 100, step=3) for n in range(3, 6)]
    decision = POLICY.choose(Standing((*low, *high)))
    assert (decision.move, decision.number) == (Move.RESUME, 3)
    assert decision.why.message == (
        "Promoted from step 3: 1 of 3 there with loss=0.93; only the first goes on."
    )


def test_who_was_promoted_keeps_its_place_and_is_not_promoted_again() -> None:
    gone_on = at(0, 0.1, step=4, stage=RUNNING)
    assert POLICY.choose(Standing((gone_on, at(1, 0.2), at(2, 0.3)))).move is Move.START
    six = (gone_on, *(at(n, n / 10) for n in range(1, 6)))
    assert POLICY.choose(Standing(six)).number == 1, "the second of six"


def test_a_trial_is_promoted_once_enough_worse_ones_have_come() -> None:
    three = (at(0, 0.5), at(1, 0.6))
    assert POLICY.choose(Standing(three)).move is Move.START
    assert POLICY.choose(Standing((*three, at(2, 0.7)))).number == 0


def test_stopped_and_complete_trials_count_at_the_rungs_that_they_came_to() -> None:
    ended = (at(0, 0.9, stage=STOPPED), at(1, 0.1, step=30, stage=COMPLETE))
    assert POLICY.choose(Standing((*ended, at(2, 0.5)))).move is Move.START
    others = tuple(at(n, 0.5 + n / 100) for n in range(2, 6))
    assert POLICY.choose(Standing((*ended, *others))).number == 2


def test_another_sites_trial_is_left_to_it() -> None:
    there = TrialStanding(0, PAUSED, curve=curve(0.1, 0.1), can_resume=False)
    assert POLICY.choose(Standing((there, at(1, 0.2), at(2, 0.3)))).move is Move.START
    six = (there, *(at(n, n / 10) for n in range(1, 6)))
    assert POLICY.choose(Standing(six)).number == 1


def test_without_room_for_new_trials_a_slot_stays_free() -> None:
    running = at(1, 0.2, step=0, stage=RUNNING)
    assert POLICY.choose(Standing((at(0, 0.1), running), 1, may_start=False)).move is Move.WAIT


def test_the_last_of_all_goes_on_so_that_a_study_has_a_result() -> None:
    paused = (at(0, 0.2), at(1, 0.3), at(2, 0.9, step=3))
    decision = POLICY.choose(Standing(paused, 1, may_start=False))
    assert (decision.move, decision.number) == (Move.RESUME, 0), "promoted by the rule"
    two = (at(0, 0.2), at(2, 0.9, step=3))
    assert POLICY.choose(Standing(two, 1, may_start=False)).number == 2
    complete = at(3, 0.1, step=30, stage=COMPLETE)
    assert POLICY.choose(Standing((*two, complete), 1, may_start=False)).move is Move.WAIT


def test_the_last_of_all_is_not_paused_to_be_taken_up_at_once() -> None:
    last = at(0, 0.5, step=3, stage=RUNNING)
    assert judged(last, at(1, 0.9), may_start=False) is Move.GO_ON
    assert judged(last, at(1, 0.9), may_start=True) is Move.PAUSE
    assert judged(last, at(1, 0.4, step=3), may_start=False) is Move.PAUSE


def test_no_trial_is_promoted_before_enough_have_come() -> None:
    patient = Promotion(min_resource=1, reduction_factor=2, bootstrap_count=4)
    trials = tuple(at(n, n / 10) for n in range(5))
    assert patient.choose(Standing(trials[:4])).move is Move.START
    assert patient.choose(Standing(trials)).number == 0


def test_larger_is_better_when_the_objective_is_maximized() -> None:
    policy = Promotion(min_resource=1, reduction_factor=3, is_minimized=False)
    assert policy.choose(Standing((at(0, 0.1), at(1, 0.3), at(2, 0.2)))).number == 1


@pytest.mark.parametrize(
    ("pruner", "first"),
    [
        ({}, 2),
        ({"min_resource": 3}, 3),
        ({"min_resource": 1, "reduction_factor": 2, "min_early_stopping_rate": 2}, 4),
    ],
)
def test_the_first_rung_is_as_the_study_file_says(pruner: Mapping[str, int], first: int) -> None:
    trial = {"command": ["python", "train.py"], "budget": 270}
    spec = make_spec(pruner={"type": "asha", "variant": "promotion", **pruner}, trial=trial)
    policy = pause_policy(spec)
    assert policy is not None
    before, there = at(0, 0.5, first - 1, RUNNING), at(0, 0.5, first, RUNNING)
    assert policy.judge(Standing((before,)), 0).move is Move.GO_ON
    assert policy.judge(Standing((there,)), 0).move is Move.PAUSE


@pytest.mark.parametrize("pruner", [{"type": "asha"}, {"type": "median"}, {"type": "none"}])
def test_other_pruners_pause_nothing(pruner: Mapping[str, str]) -> None:
    assert pause_policy(make_spec(pruner=dict(pruner))) is None


def test_what_another_study_file_has_paused_is_taken_up_before_a_new_trial_starts() -> None:
    held = TrialStanding(0, PAUSED, can_resume=False)
    assert TakeUpAll().choose(Standing((held, at(1, 0.5), at(2, 0.1)))).number == 1
    assert TakeUpAll().choose(Standing((held,))).move is Move.START
    assert TakeUpAll().choose(Standing((), may_start=False)).move is Move.WAIT


def test_what_a_restart_and_a_step_cost_is_the_median_of_what_was_seen() -> None:
    trials = (
        TrialStanding(0, PAUSED, startup_seconds=(4.0, 6.0), step_seconds=10.0),
        TrialStanding(1, RUNNING),
        TrialStanding(2, COMPLETE, startup_seconds=(20.0,), step_seconds=30.0),
    )
    assert Standing(trials).startup_seconds == 6.0
    assert Standing(trials).step_seconds == 20.0
    assert Standing(()).startup_seconds is None
    with pytest.raises(KeyError):
        Standing(trials).trial(3)
