"""When a study has seen enough, and what it says then."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.study.studies import make_spec, record

from studyflow.reasons import Code, Reason
from studyflow.study import (
    StopReason,
    stop_reason,
    why_fruitless,
)
from studyflow.study.stop_rules import failure_signature
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord

TWO = [
    {"metric": "loss", "direction": "minimize"},
    {"metric": "accuracy", "direction": "maximize"},
]


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


def history(pattern: str) -> list[TrialRecord]:
    """Return finished trials: complete (.), infeasible (o), failed (F, on a node n, or as G)."""
    made = {
        ".": lambda n: record(n, 1.0),
        "o": lambda n: record(n, cause=Cause.HOST_OOM, message=f"OSError: part {n}"),
        "F": lambda n: record(n, message=f"OSError: part {n}"),
        "n": lambda n: replace(record(n, message=f"OSError: part {n}"), node="n1"),
        "G": lambda n: record(n, message=f"KeyError: {n}"),
    }
    return [made[kind](number) for number, kind in enumerate(pattern)]


@pytest.mark.parametrize(
    ("pattern", "stops"),
    [
        (".F" * 9, True),
        ("F." * 9, True),
        ("..FF" * 5, True),
        ("oF" * 9, True),
        ("FG" * 9, True),
        ("n." * 9, True),
        ("." * 40 + ".F" * 9, True),
        (".F" * 8, False),  # too few to tell
        (".F.F.F.F" + ".." + ".F.F.F.F", False),
        ("..F" * 30, False),
        (".F.G" * 20, False),
        ("o." * 30, False),
        ("ooo" * 30, False),
        ("FF.FF.FF.FF.FF" + "....", False),  # it works again
        ("FF.FF.FF.FF.FF" + "....F", False),
    ],
)
def test_half_of_the_latest_trials_failing_alike_stops_the_study(pattern: str, stops: bool) -> None:
    reason = stop_reason(make_spec(stop={"alike_failures": 3}), history(pattern))

    assert (reason is not None) is stops
    assert reason is None or reason.reason.code is Code.FAILED_ALIKE


def test_failures_between_successes_are_told_with_their_share_and_the_way_out() -> None:
    spec = make_spec(stop={"alike_failures": 3}, budget={"n_trials": 60})
    reason = stop_reason(spec, history(".F" * 9))

    assert reason is not None
    assert reason.is_failure
    assert reason.message == (
        "9 of the last 18 trials (1, 3, 5, 7, 9, 11, 13, 15, 17) failed alike (user-error): "
        "OSError: part 17 Hint: fix the script or its environment, or leave out of the search "
        "space what it fails with, and run the study again."
    )


def test_of_failures_between_successes_those_on_a_node_that_is_left_out_do_not_count() -> None:
    spec = make_spec(stop={"alike_failures": 3})

    assert stop_reason(spec, history("n." * 9), barred_nodes={"n1"}) is None
    assert stop_reason(spec, history("n." * 9), barred_nodes={"n2"}) is not None


def test_failures_between_successes_that_stopped_an_earlier_runner_do_not_stop_the_next() -> None:
    spec, trials = make_spec(stop={"alike_failures": 3}), history(".F" * 17)

    assert stop_reason(spec, trials, finished_before=range(18)) is None
    assert stop_reason(spec, trials, finished_before=range(16)) is not None


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
    assert reason.message.endswith("fix it and run the study under another name.")


def test_a_failure_signature_ignores_numbers_only() -> None:
    a = failure_signature(record(0, message="epoch 3: loss 1.5e-7"))
    b = failure_signature(record(1, message="epoch 12: loss 88"))
    c = failure_signature(record(1, message="step 12: loss 88"))

    assert a == b != c
