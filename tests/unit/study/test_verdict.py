"""What an outcome means for its trial, and when a study has seen enough."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest
from tests.unit.study.studies import make_spec, outcome, record

from studyflow.reasons import Code, Reason
from studyflow.study import (
    StopReason,
    is_counted,
    judge,
    stop_reason,
    why_fruitless,
)
from studyflow.study.stop_rules import failure_signature
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
        Code.METRIC_MISSING,
        "Trial 0 ended without accuracy (it gave: acuracy, loss).",
        "call sdk.finish(accuracy=...).",
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


@pytest.mark.parametrize(
    ("trial", "counts"),
    [
        (record(0, 1.0), True),
        (record(0, cause=Cause.USER_ERROR), True),
        (record(0, cause=Cause.PRUNED, state=TrialState.PRUNED), True),
        (record(0, cause=Cause.LOST), True),
        (record(0, cause=Cause.CANCELLED), False),
        (record(0, 1.0, is_taken_over=True), False),
        (record(0, state=TrialState.RUNNING), False),
        (record(0, state=TrialState.WAITING), False),
    ],
)
def test_what_counts_towards_the_budget(trial: object, counts: bool) -> None:
    assert is_counted(trial) is counts  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("direction", "values", "stops"),
    [
        ("minimize", (0.5, 0.11), False),
        ("minimize", (0.5, 0.1), True),
        ("minimize", (0.05,), True),
        ("maximize", (0.05, 0.09), False),
        ("maximize", (0.1,), True),
        ("maximize", (7.0, 0.0), True),
    ],
)
def test_the_target_ends_the_study_in_its_direction(
    direction: str, values: tuple[float, ...], stops: bool
) -> None:
    spec = make_spec(objectives=[{"metric": "loss", "direction": direction}], stop={"target": 0.1})

    reason = stop_reason(spec, [record(i, value) for i, value in enumerate(values)])

    assert (reason is not None) is stops
    assert reason is None or not reason.is_failure


def test_an_infeasible_trial_does_not_reach_the_target() -> None:
    spec = make_spec(stop={"target": 0.1})

    assert stop_reason(spec, [record(0, 0.01, violation=0.5)]) is None
    assert stop_reason(spec, [record(1, 0.01), record(0, 0.5)]) == StopReason(
        Reason(Code.TARGET_REACHED, "Target 0.1 reached: trial 1 has loss=0.01.")
    )


@pytest.mark.parametrize(
    ("values", "stops"),
    [
        ((5.0, 4.0, 3.0, 2.0), False),
        ((5.0, 6.0, 6.0), False),
        ((5.0, 6.0, 6.0, 6.0), True),
        ((5.0, 6.0, 6.0, 4.0), False),
        ((5.0, 5.0, 5.0, 5.0), True),
    ],
)
def test_no_improvement_counts_trials_since_the_last_new_best(
    values: tuple[float, ...], stops: bool
) -> None:
    spec = make_spec(stop={"no_improvement_trials": 3})

    reason = stop_reason(spec, [record(i, value) for i, value in enumerate(values)])

    assert (reason is not None) is stops


def test_no_improvement_never_ends_a_study_without_any_feasible_trial() -> None:
    spec = make_spec(stop={"no_improvement_trials": 2})

    assert stop_reason(spec, [record(i, cause=Cause.NAN) for i in range(9)]) is None


def test_no_improvement_of_several_objectives_means_no_new_trade_off() -> None:
    spec = make_spec(objectives=TWO, stop={"no_improvement_trials": 2})
    front = [record(0, 1.0, 0.5), record(1, 2.0, 0.9)]

    assert stop_reason(spec, [*front, record(2, 3.0, 0.4)]) is None
    assert stop_reason(spec, [*front, record(2, 3.0, 0.4), record(3, 2.0, 0.9)]) is not None
    assert stop_reason(spec, [*front, record(2, 3.0, 0.4), record(3, 3.0, 0.95)]) is None


def test_alike_failures_stop_the_study_whatever_numbers_their_messages_hold() -> None:
    spec = make_spec(stop={"alike_failures": 3})
    failures = [record(i, message=f"ValueError: shape {i}x{i + 1.5} at 0x{i}e-3") for i in range(3)]

    reason = stop_reason(spec, failures)

    assert reason is not None
    assert reason.is_failure
    assert reason.reason.code is Code.FAILED_ALIKE
    assert reason.message.startswith("Trials 0, 1, 2 failed alike (user-error): ValueError: shape")
    assert stop_reason(spec, failures[:2]) is None


@pytest.mark.parametrize(
    "other",
    [
        record(2, message="KeyError"),
        record(2, cause=Cause.BAD_METRIC, message="ValueError"),
        record(2, cause=Cause.HOST_OOM, message="ValueError"),
        record(2, 1.0),
    ],
)
def test_mixed_failures_do_not_stop_the_study(other: object) -> None:
    spec = make_spec(stop={"alike_failures": 3})
    alike = [record(i, message="ValueError") for i in (0, 1, 3)]

    assert stop_reason(spec, [*alike, other]) is None  # type: ignore[list-item]


@pytest.mark.parametrize("cause", [Cause.HOST_OOM, Cause.NAN, Cause.TIMEOUT, Cause.LOST])
def test_failures_by_parameters_or_infrastructure_never_stop_the_study(cause: Cause) -> None:
    spec = make_spec(stop={"alike_failures": 2})

    assert stop_reason(spec, [record(i, cause=cause, message="same") for i in range(9)]) is None


def test_cancelled_and_taken_over_trials_neither_stop_a_study_nor_hide_a_reason() -> None:
    spec = make_spec(stop={"alike_failures": 2, "target": 0.1, "no_improvement_trials": 2})
    taken = [record(i, 0.01, is_taken_over=True) for i in range(5)]
    broken = [record(i, message="same", is_taken_over=True) for i in range(5, 9)]
    cancelled = [record(i, cause=Cause.CANCELLED, message="same") for i in range(9, 14)]

    assert stop_reason(spec, [*taken, *broken, *cancelled]) is None
    own = [record(20, message="same"), record(22, message="same")]
    between = record(21, cause=Cause.CANCELLED)
    assert stop_reason(spec, [*own, between]) is not None


def test_failures_that_stopped_an_earlier_runner_do_not_stop_the_next() -> None:
    spec = make_spec(stop={"alike_failures": 3, "target": 0.1})
    old = [record(i, message="same") for i in range(3)]
    before = {0, 1, 2}

    assert stop_reason(spec, old) is not None
    assert stop_reason(spec, old, before) is None
    again = [record(i, message="same") for i in range(3, 6)]
    assert stop_reason(spec, [*old, *again[:2]], before) is None
    assert stop_reason(spec, [*old, *again], before) is not None
    assert stop_reason(spec, [*old, record(2, 0.05)], before) is not None, "a target stays reached"


def test_the_way_out_of_a_trial_goes_before_that_of_the_study() -> None:
    spec = make_spec(stop={"alike_failures": 2})
    failures = [
        replace(record(i, cause=Cause.BAD_METRIC, message="No value."), hint="call sdk.finish().")
        for i in range(2)
    ]

    stopped, fruitless = stop_reason(spec, failures), why_fruitless(spec, failures)

    assert stopped is not None
    assert stopped.reason == Reason(
        Code.FAILED_ALIKE,
        "Trials 0, 1 failed alike (bad-metric): No value.",
        "call sdk.finish(). Then run the study again.",
    )
    assert fruitless == Reason(
        Code.NOTHING_FEASIBLE,
        "All 2 trials are finished and none gave a feasible value; 2 of them ended as bad-metric: "
        "No value.",
        "call sdk.finish(). Then run the study again.",
    )


def test_the_flag_that_goes_on_counts_what_is_finished_beyond_the_files_budget() -> None:
    spec = make_spec(budget={"n_trials": 3})

    reason = why_fruitless(spec, [record(i, message="ValueError") for i in range(8)])

    assert str(reason).endswith("Then run the study with --n-trials 11.")


def test_a_grid_without_a_result_goes_on_under_another_name() -> None:
    units = {"type": "int", "low": 1, "high": 2}
    spec = make_spec(
        search_space={"units": units}, sampler={"type": "grid"}, stop={"alike_failures": 2}
    )
    failures = [record(i, message="ValueError") for i in range(2)]
    reason = stop_reason(spec, failures)

    assert str(why_fruitless(spec, failures)).endswith("Then run the study under another name.")
    assert reason is not None
    assert reason.message.endswith("mend it and run the study under another name.")


def test_a_failure_signature_ignores_numbers_only() -> None:
    a = failure_signature(record(0, message="epoch 3: loss 1.5e-7"))
    b = failure_signature(record(1, message="epoch 12: loss 88"))
    c = failure_signature(record(1, message="step 12: loss 88"))

    assert a == b != c
