"""What fits into a budget."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.study.studies import make_spec

from studyflow.ledger.durations import Durations, assumed
from studyflow.ledger.limits import (
    Account,
    InFlight,
    LimitKind,
    Recorded,
    account,
    expectation,
    limits_of,
    spent_text,
)
from studyflow.reasons import Code
from studyflow.spec import StudySpec
from studyflow.trial import Cause
from studyflow.trial.cost import Allocation, AttemptCost

GPU = Allocation(2, "nvidia.com/gpu")
HOUR = 3600.0
RUNNING = InFlight(2, 5.0, elapsed_seconds=HOUR, remaining_seconds=2 * HOUR)


def spec(timeout_seconds: float | None = None, **budget: Any) -> StudySpec:
    return make_spec(
        budget={"n_trials": 10, **budget},
        trial={"command": ["true"], "resources": {"gpu": 2}, "timeout_seconds": timeout_seconds},
    )


def stand(study: StudySpec, recorded_hours: float, *running: InFlight, **more: Any) -> Account:
    row = AttemptCost(1, Cause.OK, recorded_hours * HOUR / 2, 2, price=5.0)
    return account(
        study,
        recorded=Recorded().add([row]),
        in_flight=running,
        durations=assumed(HOUR),
        allocation=GPU,
        price=5.0,
        **{"n_left": 10, "now": 0.0, **more},
    )


def test_a_balance_says_what_is_spent_committed_left_and_to_come() -> None:
    hours, money = stand(spec(gpu_hours=20, cost=200), 8.0, RUNNING).balances
    assert (hours.kind, hours.spent, hours.committed, hours.left) == (LimitKind.GPU_HOURS, 10, 4, 6)
    assert hours.typical == pytest.approx(2)
    assert hours.forecast == pytest.approx(20)
    assert hours.overshoot == 0
    assert (money.kind, money.spent, money.committed, money.left) == (LimitKind.COST, 50, 20, 130)


@pytest.mark.parametrize(
    ("recorded", "running", "seconds", "code"),
    [
        (0.0, (), HOUR, None),
        (18.0, (), HOUR, None),  # exactly what is left
        (18.1, (), HOUR, Code.GPU_HOURS_SPENT),
        (18.1, (), HOUR / 2, None),  # a cheaper one fits
        (12.0, (RUNNING,), HOUR, None),
        (13.0, (RUNNING,), HOUR, Code.GPU_HOURS_SPENT),  # committed to what runs
        (20.0, (), 0.0, Code.GPU_HOURS_SPENT),
        (25.0, (), HOUR, Code.GPU_HOURS_SPENT),
    ],
)
def test_a_trial_starts_only_if_it_fits_beside_what_runs(
    recorded: float, running: tuple[InFlight, ...], seconds: float, code: Code | None
) -> None:
    found = stand(spec(gpu_hours=20), recorded, *running).blocker(GPU, 5.0, seconds)
    assert (found and found.code) == code


def test_the_reason_says_the_rule_the_numbers_and_the_fix() -> None:
    found = stand(spec(gpu_hours=20), 13.0, RUNNING).blocker(GPU, 5.0, HOUR)
    assert str(found) == (
        "The next trial is expected to cost 2 GPU-hours, and budget.gpu_hours leaves 1: 15 of 20 "
        "spent and 4 committed. Hint: raise budget.gpu_hours to go on"
    )


def test_trials_without_gpus_are_counted_in_slot_hours_and_called_so() -> None:
    found = stand(spec(gpu_hours=1), 0.5).blocker(Allocation(), None, HOUR)
    assert "slot-hours" in str(found)


@pytest.mark.parametrize(("now", "code"), [(0.0, None), (1.0, "x"), (HOUR, "x"), (2 * HOUR, "x")])
def test_a_trial_starts_only_if_it_is_expected_to_end_in_time(now: float, code: str | None) -> None:
    found = stand(spec(finish_by="07:00"), 0.0, now=now, finish_at=HOUR)
    why = found.blocker(GPU, 5.0, HOUR)
    assert (why and why.code) == (code and Code.FINISH_TIME_REACHED)
    assert (found.reached is not None) is (now >= HOUR)


@pytest.mark.parametrize(
    ("study", "seconds"),
    [
        (spec(600.0, gpu_hours=20), 600.0),
        (spec(gpu_hours=20), HOUR),  # 20 / 10 trials / 2 GPUs
        (spec(cost=50), HOUR / 2),  # 50 / 10 trials / (2 GPUs x 5)
        (spec(gpu_hours=20, cost=50), HOUR / 2),
        (spec(finish_by="07:00"), 0.001),
    ],
)
def test_before_a_trial_has_ended_its_time_limit_or_an_equal_share_is_expected(
    study: StudySpec, seconds: float
) -> None:
    found = expectation(study, [], GPU, 5.0)
    assert found.typical_seconds == pytest.approx(seconds)
    assert found.n_trials == 0


def test_once_a_trial_has_ended_its_time_is_expected() -> None:
    found = expectation(spec(600.0, gpu_hours=20), [({"x": 0.5}, 42.0)], GPU, 5.0)
    assert found.typical_seconds == pytest.approx(42.0)


def test_attempts_from_before_there_were_prices_cost_todays() -> None:
    rows = [AttemptCost(1, Cause.OK, HOUR, 2), AttemptCost(1, Cause.OK, HOUR, 2, price=1.0)]
    assert Recorded().add(rows).amount(LimitKind.COST, 5.0) == 12.0
    assert Recorded().add(rows).amount(LimitKind.COST, None) == 2.0


def test_a_study_without_limits_has_none() -> None:
    assert limits_of(spec()) == {}
    assert not spec().budget.is_metered
    assert stand(spec(), 1e9).blocker(GPU, 5.0, HOUR) is None
    assert Durations(0.0).typical_seconds == 1.0


def test_a_line_says_what_is_spent_of_each_limit_and_what_time_is_left() -> None:
    study = spec(gpu_hours=20, cost=50, finish_by="07:00")
    found = stand(study, 13.0, now=HOUR, finish_at=4 * HOUR)
    assert spent_text(found, "GPU-hours") == (
        "13 of 20 GPU-hours, cost 65 of 50, 3 h until finish_by"
    )


def test_without_a_number_of_trials_nothing_is_expected_before_one_has_ended() -> None:
    study = spec(n_trials=None, gpu_hours=20)
    assert expectation(study, [], GPU, 5.0).typical_seconds == pytest.approx(0.001)
    timed = spec(600.0, n_trials=None, gpu_hours=20)
    assert expectation(timed, [], GPU, 5.0).typical_seconds == pytest.approx(600.0)


def test_without_a_number_of_trials_as_many_are_forecast_as_fit() -> None:
    (hours,) = stand(spec(n_trials=None, gpu_hours=20), 7.0, n_left=None).balances
    assert hours.forecast == pytest.approx(7 + 6 * 2)
