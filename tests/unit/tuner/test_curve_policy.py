"""The pruner `curve`: who is paused by forecasts, and what a free slot goes to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from tests.unit.study.studies import make_spec
from tests.unit.tuner.rig import Rig

from studyflow.spec import StudySpec
from studyflow.study.pausing import Move, Stage, Standing, TrialStanding
from studyflow.trial import Cause
from studyflow.trial.record import TrialState
from studyflow.tuner.curve_policy import CurvePolicy
from studyflow.tuner.pausing import CURVE_WITHOUT_CHECKPOINTS

N_STEPS = 27
X: dict[str, Any] = {"type": "float", "low": 0.0, "high": 1.0}
PAUSED, RUNNING, COMPLETE = Stage.PAUSED, Stage.RUNNING, Stage.COMPLETE


def spec(**changes: Any) -> StudySpec:
    settings: dict[str, Any] = {
        "search_space": {"x": X},
        "pruner": {"type": "curve"},
        "budget": {"n_trials": 9, "max_parallel_trials": 2},
        "trial": {"command": ["python", "train.py"], "budget": N_STEPS},
    }
    return make_spec(**settings | changes)


def loss(x: float, step: int) -> float:
    return x + 1.0 / math.sqrt(step + 1)


def at(number: int, x: float, last: int, stage: Stage, cleared: int = -1) -> TrialStanding:
    """Return a trial that has reported up to a step; one that waits has it saved."""
    return TrialStanding(
        number,
        stage,
        params={"x": x},
        curve={step: loss(x, step) for step in range(last + 1)},
        cleared_step=cleared,
        checkpoint_step=last if stage is PAUSED else None,
        step_seconds=1.0,
        startup_seconds=(1.0,),
    )


ENDED = tuple(at(i, x, N_STEPS - 1, COMPLETE) for i, x in enumerate([0.5, 0.6, 0.7, 0.55]))


def standing(*trials: TrialStanding, may_start: bool = True) -> Standing:
    return Standing((*ENDED, *trials), 1, may_start, N_STEPS - 1)


def test_a_trial_that_promises_little_is_paused_for_one_that_promises_more() -> None:
    study = standing(at(4, 0.95, 7, RUNNING), at(5, 0.1, 7, PAUSED))
    policy = CurvePolicy(spec())

    decision = policy.judge(study, 4)

    assert decision.move is Move.PAUSE
    assert decision.why.numbers["seconds"] == pytest.approx(19.0)
    assert decision.why.numbers["other_expected_improvement"] > 0.1
    assert decision.why.message.startswith("Trial 4 promises next to nothing in 19 s over loss=")
    assert policy.choose(study).number == 5


def test_a_trial_that_promises_most_goes_on() -> None:
    study = standing(at(4, 0.05, 7, RUNNING), at(5, 0.9, 7, PAUSED))

    assert CurvePolicy(spec()).judge(study, 4).move is Move.GO_ON


def test_between_rungs_nothing_is_decided() -> None:
    bad = at(4, 0.95, 9, RUNNING, cleared=8)

    assert CurvePolicy(spec()).judge(standing(bad, at(5, 0.1, 7, PAUSED)), 4).move is Move.GO_ON


def test_a_trial_far_worse_than_all_others_ends_for_good() -> None:
    study = standing(at(4, 1e5, 7, RUNNING), at(5, 0.4, 7, RUNNING), at(6, 0.3, 7, PAUSED))

    assert CurvePolicy(spec()).judge(study, 4).move is Move.STOP


def test_before_three_trials_have_ended_all_go_on_and_new_ones_start() -> None:
    study = Standing((*ENDED[:2], at(4, 0.95, 7, RUNNING), at(5, 0.1, 7, RUNNING)), 1)
    policy = CurvePolicy(spec())

    assert policy.judge(study, 4).move is Move.GO_ON
    assert policy.choose(study).move is Move.START


def test_when_none_may_start_a_paused_trial_without_promise_is_left() -> None:
    good, bad = at(4, 0.1, 7, PAUSED), at(5, 0.99, 20, PAUSED)
    policy = CurvePolicy(spec())

    assert policy.choose(standing(good, bad, may_start=False)).number == 4
    assert policy.choose(standing(bad, may_start=False)).move is Move.WAIT


def test_another_runner_decides_the_same() -> None:
    study = standing(at(4, 0.4, 7, RUNNING), at(5, 0.45, 7, PAUSED))

    assert CurvePolicy(spec()).choose(study) == CurvePolicy(spec()).choose(study)


def flat(params: Mapping[str, Any]) -> Sequence[Mapping[str, float]]:
    return [{"loss": loss(float(params["x"]), step)} for step in range(N_STEPS)]


@pytest.mark.slow
def test_a_study_pauses_trials_takes_the_best_up_and_ends() -> None:
    study = Rig(spec(), duration=270.0, curve=flat, checkpoint_every=1)

    assert study.drive().is_finished
    states = Counter(record.state for record in study.check())
    assert states[TrialState.COMPLETE] >= 3
    assert states[TrialState.PRUNED] >= 1
    assert sum(states.values()) == 9


@pytest.mark.slow
def test_without_checkpoints_what_would_be_paused_ends() -> None:
    study = Rig(spec(), duration=270.0, curve=flat)

    assert study.drive().is_finished
    records = study.check()
    causes = Counter(record.cause for record in records)
    assert causes[Cause.PRUNED] >= 1
    assert not any(record.pauses for record in records)
    assert study.diary.notes.count(CURVE_WITHOUT_CHECKPOINTS) == 1
