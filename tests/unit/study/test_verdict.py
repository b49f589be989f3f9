"""What an attempt's outcome means for its trial."""

from __future__ import annotations

import math
import sys

import pytest
from tests.unit.study.studies import make_spec, outcome

from studyflow.reasons import Code, Reason
from studyflow.study import (
    judge,
)
from studyflow.study.attempt_count import AttemptCount
from studyflow.trial import Cause, Consequence
from studyflow.trial.record import TrialState

TWO = [
    {"metric": "loss", "direction": "minimize"},
    {"metric": "accuracy", "direction": "maximize"},
]


FIRST_ATTEMPT = {
    Cause.OK: (Cause.OK, TrialState.COMPLETE),
    Cause.PRUNED: (Cause.PRUNED, TrialState.PRUNED),
    Cause.EVICTED: (Cause.EVICTED, None),
    Cause.PREEMPTED: (Cause.PREEMPTED, None),
    Cause.NODE_LOST: (Cause.NODE_LOST, None),
    Cause.NODE_FAULT: (Cause.NODE_FAULT, None),
    Cause.IMAGE_PULL: (Cause.IMAGE_PULL, None),
    Cause.QUOTA: (Cause.QUOTA, None),
    Cause.API_UNAVAILABLE: (Cause.API_UNAVAILABLE, None),
    Cause.LOST: (Cause.LOST, None),
    Cause.HOST_OOM: (Cause.HOST_OOM, TrialState.FAILED),
    Cause.CUDA_OOM: (Cause.CUDA_OOM, TrialState.FAILED),
    Cause.NAN: (Cause.NAN, TrialState.FAILED),
    Cause.TIMEOUT: (Cause.TIMEOUT, TrialState.FAILED),
    Cause.USER_ERROR: (Cause.USER_ERROR, TrialState.FAILED),
    Cause.BAD_METRIC: (Cause.BAD_METRIC, TrialState.FAILED),
    Cause.UNSCHEDULABLE: (Cause.UNSCHEDULABLE, None),
    Cause.CANCELLED: (Cause.CANCELLED, TrialState.FAILED),
    Cause.BUDGET: (Cause.BUDGET, TrialState.FAILED),
    Cause.PAUSED: (Cause.PAUSED, None),
}


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_has_its_verdict_on_the_first_attempt(cause: Cause) -> None:
    verdict = judge(make_spec(), outcome(cause, "why", loss=1.5))

    assert (verdict.cause, verdict.state) == FIRST_ATTEMPT[cause]
    assert verdict.values == ((1.5,) if cause is Cause.OK else None)
    assert verdict.message == "why"


@pytest.mark.parametrize("cause", [c for c in Cause if c.is_infrastructure])
def test_the_last_attempt_lost_to_the_infrastructure_fails_the_trial(cause: Cause) -> None:
    spec = make_spec(retry={"max_attempts": 3})

    assert judge(spec, outcome(cause, attempt=2)).state is None
    last = judge(spec, outcome(cause, "the node burned", attempt=3))

    assert (last.cause, last.state) == (cause, TrialState.FAILED)
    assert last.code is Code.ATTEMPTS_SPENT
    assert last.message == (
        "Given up after 3 attempts (retry.max_attempts); the last one: the node burned"
    )


def test_attempts_that_are_given_back_are_not_spent() -> None:
    spec = make_spec(retry={"max_attempts": 3})

    assert judge(spec, outcome(Cause.PREEMPTED, attempt=40), AttemptCount(2, 39, 90)).state is None
    last = judge(spec, outcome(Cause.PREEMPTED, "gone", attempt=41), AttemptCount(3, 39, 90))

    assert (last.state, last.code) == (TrialState.FAILED, Code.ATTEMPTS_SPENT)
    assert last.message == (
        "Given up after 3 attempts (retry.max_attempts) since attempt 39, which had brought it to "
        "step 90; the last one: gone"
    )


def test_a_trial_with_one_attempt_gets_no_other_whatever_it_came_to() -> None:
    spec = make_spec(retry={"max_attempts": 1})
    assert judge(spec, outcome(Cause.PREEMPTED), AttemptCount(1, 1, 7)).state is TrialState.FAILED


@pytest.mark.parametrize("value", [0.0, -0.0, 1e308, -sys.float_info.max, 5e-324])
def test_any_finite_value_is_accepted_as_it_is(value: float) -> None:
    verdict = judge(make_spec(), outcome(loss=value))

    assert (verdict.state, verdict.values) == (TrialState.COMPLETE, (value,))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.fault("F39")
def test_a_value_that_is_not_finite_makes_the_trial_infeasible(value: float) -> None:
    verdict = judge(make_spec(), outcome(loss=value))

    assert (verdict.cause, verdict.state, verdict.values) == (Cause.NAN, TrialState.FAILED, None)
    assert verdict.cause.consequence is Consequence.INFEASIBLE
    assert verdict.message == f"The training diverged: loss={value:g}."


def test_a_missing_objective_is_named_beside_what_came_instead() -> None:
    verdict = judge(make_spec(objectives=TWO), outcome(loss=1.0, acuracy=0.5))

    assert (verdict.cause, verdict.state) == (Cause.BAD_METRIC, TrialState.FAILED)
    assert verdict.reason == Reason(
        Code.METRIC_MISNAMED,
        "Trial 0 ended without accuracy (it gave: acuracy, loss).",
        "did you mean 'acuracy'? the study file and the script must use the same name: call "
        "sdk.finish(accuracy=...).",
    )


def test_a_metric_that_is_no_objective_may_be_nan() -> None:
    assert judge(make_spec(), outcome(loss=1.0, other=math.nan)).state is TrialState.COMPLETE


def test_values_come_in_the_order_of_the_objectives() -> None:
    assert judge(make_spec(objectives=TWO), outcome(accuracy=0.5, loss=1.0)).values == (1.0, 0.5)


@pytest.mark.parametrize(("size", "feasible"), [(19.0, True), (20.0, True), (20.5, False)])
def test_bounds_are_kept_up_to_and_including_the_bound(size: float, feasible: bool) -> None:
    spec = make_spec(constraints=[{"metric": "size", "max": 20, "min": 1}])

    verdict = judge(spec, outcome(loss=1.0, size=size))

    assert verdict.state is TrialState.COMPLETE
    assert verdict.constraints == {"size <= 20": size - 20, "size >= 1": 1 - size}
    assert all(v <= 0 for v in verdict.constraints.values()) is feasible


def test_a_constraint_without_its_metric_or_with_nan_fails_the_trial() -> None:
    spec = make_spec(constraints=[{"metric": "size", "max": 20}])

    assert judge(spec, outcome(loss=1.0)).cause is Cause.BAD_METRIC
    assert judge(spec, outcome(loss=1.0, size=math.nan)).cause is Cause.NAN


def test_a_metric_under_another_name_is_asked_for() -> None:
    spec = make_spec(objectives=[{"metric": "loss", "direction": "minimize"}])

    verdict = judge(spec, outcome(val_loss=0.5))

    assert verdict.code is Code.METRIC_MISNAMED
    assert verdict.hint == (
        "did you mean 'val_loss'? the study file and the script must use the same name: call "
        "sdk.finish(loss=...)."
    )
