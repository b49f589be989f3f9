"""A mistake in the script shows after a few trials, costs nothing, and can be tried again."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.study.studies import X, make_spec
from tests.unit.tuner.rig import Rig, parallel

from studyflow.observers.observer import Observer
from studyflow.reasons import Code
from studyflow.study import is_counted
from studyflow.study.retries import retry_failed
from studyflow.testing.fake_executor import Params
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord


class Script:
    """An objective that a person can fix."""

    def __init__(self) -> None:
        self.is_fixed = False
        self.tried: list[float] = []

    def __call__(self, params: Params) -> Any:
        self.tried.append(float(str(params["x"])))
        if self.is_fixed:
            return float(str(params["x"]))
        raise KeyError("val_loss")


def test_three_failures_alike_end_a_study_and_cost_no_budget() -> None:
    script = Script()
    rig = Rig(parallel(4, n_trials=6, stop={}), objective=script, canary_seconds=3.0)

    result = rig.drive()

    assert result.is_failure
    assert result.reason.code is Code.FAILED_ALIKE
    assert result.reason.message.startswith(
        "Before any trial succeeded, trials 0, 1, 2 failed alike (user-error): KeyError: 'val_loss'"
    )
    assert rig.machine.most_running == 1
    script.is_fixed = True
    assert rig.drive().reason.code is Code.BUDGET_SPENT
    assert len(script.tried) == 9
    assert sum(map(is_counted, rig.study().records())) == 6


def test_all_that_ran_at_once_and_failed_alike_is_free() -> None:
    rig = Rig(parallel(5, n_trials=10, stop={}), objective=Script())

    result = rig.drive()

    assert result.reason.message.startswith(
        "Before any trial succeeded, trials 0, 1, 2, 3, 4 failed alike"
    )
    assert len(rig.study().records()) == 5
    assert not any(map(is_counted, rig.study().records()))


def test_a_metric_of_another_name_ends_a_study_at_the_first_trial() -> None:
    rig = Rig(make_spec(), objective=lambda params: {"val_loss": 1.0})

    result = rig.drive()

    assert result.reason.code is Code.FIRST_FAILED
    assert result.reason.message.startswith(
        "Before any trial succeeded, trial 0 failed (bad-metric)"
    )
    assert len(rig.study().records()) == 1


def test_a_script_that_fails_in_a_part_of_the_space_goes_on_though_it_begins_there() -> None:
    def objective(params: Params) -> Any:
        if params["x"] in (0.1, 0.2):
            raise ValueError("x is too small")
        return 1.0

    spec = parallel(2, n_trials=6, stop={}, enqueue=[{"x": 0.1}, {"x": 0.2}, {"x": 0.9}])
    rig = Rig(spec, objective=objective, duration=10.0)

    assert rig.drive().reason.code is Code.BUDGET_SPENT
    records = rig.study().records()
    assert [r.number for r in records if r.cause is Cause.USER_ERROR] == [0, 1]
    assert len(records) == 8, "the failures before the first success were free"


def test_one_trial_starts_at_a_time_until_one_runs_for_longer_than_the_failed_ones() -> None:
    def objective(params: Params) -> Any:
        if params["x"] in (0.1, 0.2):
            raise ValueError("x is too small")
        return 1.0

    spec = parallel(2, n_trials=6, stop={}, enqueue=[{"x": 0.1}, {"x": 0.2}, {"x": 0.9}])
    rig = Rig(
        spec,
        objective=objective,
        duration=lambda params: 5.0 if params["x"] in (0.1, 0.2) else 100.0,
    )
    launched_at: dict[int, float] = {}

    class Times(Observer):
        def launched(self, record: TrialRecord) -> None:
            launched_at[record.number] = rig.clock()

    rig.tuner(Times()).drive()

    assert launched_at[3] - launched_at[2] >= 7.5
    assert launched_at[3] - launched_at[2] < 100.0


def test_the_same_parameters_again_confirm_nothing() -> None:
    spec = make_spec(
        budget={"n_trials": 5}, enqueue=[{"x": 0.1}] * 3, stop={"no_improvement_trials": 2}
    )
    rig = Rig(spec, objective=lambda params: 1 / 0 if params["x"] == 0.1 else 1.0)

    assert rig.drive().reason.code is Code.NO_IMPROVEMENT


def test_failures_that_are_not_alike_use_budget_after_the_first_few() -> None:
    def objective(params: Params) -> Any:
        raise ValueError("".join(chr(97 + int(c)) for c in str(params["x"]) if c.isdigit()))

    rig = Rig(make_spec(budget={"n_trials": 4}), objective=objective)

    assert rig.drive().reason.code is Code.NOTHING_FEASIBLE
    assert len(rig.study().records()) == 7


def test_a_failure_after_a_success_uses_budget_and_ends_nothing() -> None:
    def objective(params: Params) -> Any:
        if params["x"] == 0.5:
            raise ValueError("x is even")
        return 1.0

    spec = make_spec(budget={"n_trials": 4}, enqueue=[{"x": 0.1}, {"x": 0.5}])
    rig = Rig(spec, objective=objective)

    assert rig.drive().reason.code is Code.BUDGET_SPENT
    assert len(rig.study().records()) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"stop": {"alike_failures": 2, "first_failures": 0}},
        {
            "stop": {"alike_failures": 2},
            "sampler": {"type": "grid"},
            "search_space": {"x": {**X, "step": 0.25}},
        },
    ],
    ids=["switched off", "on a grid, whose points are counted"],
)
def test_elsewhere_failures_alike_use_budget(changes: dict[str, Any]) -> None:
    rig = Rig(make_spec(**changes), objective=Script())

    result = rig.drive()

    assert result.reason.code is Code.FAILED_ALIKE
    assert sum(map(is_counted, rig.study().records())) == 2


def test_failed_trials_get_their_budget_back_once_and_are_tried_again() -> None:
    script = Script()
    stop = {"alike_failures": 3, "first_failures": 0}
    rig = Rig(make_spec(budget={"n_trials": 4}, stop=stop), objective=script)
    assert rig.drive().reason.code is Code.FAILED_ALIKE
    failed = list(script.tried)

    script.is_fixed = True
    n_retried = [retry_failed(rig.spec, rig.storage) for _ in range(2)]
    result = rig.drive()

    assert result.reason.code is Code.BUDGET_SPENT
    assert not result.is_failure
    assert n_retried == [3, 0]
    assert script.tried[3:6] == failed
    assert len(script.tried) == 7
    assert sum(map(is_counted, rig.study().records())) == 4


def test_what_the_sampler_learns_from_is_not_given_back() -> None:
    rig = Rig(
        make_spec(budget={"n_trials": 2}),
        objective=lambda params: float("nan") if params["x"] < 2 else 1.0,
    )
    rig.drive()

    assert retry_failed(rig.spec, rig.storage) == 0
