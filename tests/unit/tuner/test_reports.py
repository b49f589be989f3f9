"""What running attempts report: pruning, divergence, and what goes straight to MLflow."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.unit.study.studies import make_spec
from tests.unit.tuner.rig import (
    Rig,
    parallel,
)

from studyflow.executors import AttemptId, ExecutorTraits
from studyflow.testing.fake_executor import FakeExecutor
from studyflow.trial import Cause, Outcome
from studyflow.trial.record import TrialState

PRUNED = {"pruner": {"type": "median", "n_startup_trials": 2, "n_warmup_steps": 0}}


ONE_STARTUP_TRIAL = {"pruner": {"type": "median", "n_startup_trials": 1, "n_warmup_steps": 0}}


def test_hopeless_trials_are_stopped_and_told_as_pruned() -> None:
    spec = parallel(2, n_trials=8, **PRUNED)
    rig = Rig(
        spec,
        duration=10.0,
        curve=lambda params: [{"loss": float(str(params["x"]))} for _ in range(5)],
        stop_seconds=1.0,
    )

    rig.drive()

    records = rig.check()
    pruned = [r for r in records if r.state is TrialState.PRUNED]
    assert len(pruned) >= 2
    assert all(r.cause is Cause.PRUNED and r.values is None for r in pruned)
    assert all(r.message.startswith("Pruned by median at step ") for r in pruned)
    assert all(r.intermediate for r in records)
    assert rig.diary.points


def test_a_trial_that_finishes_while_it_is_being_stopped_keeps_its_result() -> None:
    rig = Rig(parallel(1, n_trials=1, pruner={"type": "threshold", "upper": 0.0}), objective=None)
    tuner = rig.tuner()
    tuner.turn()
    rig.executor.report(AttemptId(0, 1), 0, loss=5.0)
    rig.executor.finish(AttemptId(0, 1), 5.0)

    tuner.drive()

    assert rig.check()[0].values == (5.0,)


def test_metrics_that_a_script_logs_straight_to_mlflow_are_pruned_by_too() -> None:
    rig = Rig(parallel(1, n_trials=1, pruner={"type": "threshold", "upper": 1.0}), objective=None)
    rig.picture.logged = {"loss": [0.5, 3.0]}
    tuner = rig.tuner(tracker_poll_seconds=10.0)
    rig.turns(tuner, 5)
    assert rig.study().record(0).intermediate == {}
    rig.clock.advance(10)

    tuner.drive()

    (record,) = rig.check()
    assert (record.state, record.intermediate) == (TrialState.PRUNED, {0: 0.5, 1: 3.0})


@pytest.mark.fault("F70")
@pytest.mark.parametrize(("budget", "first"), [(5, 0), (5, 1), (None, 0)])
def test_a_trial_that_has_reported_its_last_step_is_not_pruned(
    budget: int | None, first: int
) -> None:
    trial = {"command": ["python", "train.py"], "budget": budget}
    rig = Rig(parallel(1, n_trials=2, trial=trial, **ONE_STARTUP_TRIAL), objective=None)
    tuner = rig.tuner()
    for number, value in enumerate((1.0, 9.0)):
        rig.turns(tuner, 1)
        attempt = AttemptId(number, 1)
        for step in range(first, first + 5):  # all between two looks of the runner
            rig.executor.report(attempt, step, loss=value)
        rig.turns(tuner, 3)
        rig.executor.finish(attempt, value)
    tuner.drive()

    assert [r.values for r in rig.check()] == [(1.0,), (9.0,)]


@pytest.mark.fault("F70")
def test_a_trial_with_more_steps_than_the_storage_keeps_is_not_pruned_at_its_last_one() -> None:
    trial = {"command": ["python", "train.py"], "budget": 2000}
    rig = Rig(parallel(2, n_trials=2, trial=trial, **ONE_STARTUP_TRIAL), objective=None)
    tuner = rig.tuner()
    rig.turns(tuner, 2)
    for step in range(2000):
        rig.executor.report(AttemptId(1, 1), step, loss=9.0)
    rig.turns(tuner, 2)
    rig.executor.report(AttemptId(0, 1), 999, loss=1.0)
    rig.executor.finish(AttemptId(0, 1), 1.0)
    rig.turns(tuner, 2)
    rig.executor.finish(AttemptId(1, 1), 9.0)
    tuner.drive()

    assert [r.values for r in rig.check()] == [(1.0,), (9.0,)]


@pytest.mark.fault("F70")
@pytest.mark.parametrize(("n_steps", "state"), [(5, "complete"), (4, "pruned")])
def test_a_trial_stopped_after_its_last_step_keeps_its_result(n_steps: int, state: str) -> None:
    trial = {"command": ["python", "train.py"], "budget": 5}
    pruner = {"type": "threshold", "upper": 1.0}
    rig = Rig(parallel(1, n_trials=1, trial=trial, pruner=pruner), objective=None, stop_seconds=9.0)
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    attempt = AttemptId(0, 1)
    rig.executor.report(attempt, 0, loss=3.0)
    rig.turns(tuner, 1)
    for step in range(1, n_steps):
        rig.executor.report(attempt, step, loss=3.0)
    reason = "Pruned by threshold at step 0 with loss=3."
    rig.executor.finish(attempt, Outcome("demo", 0, 1, Cause.PRUNED, {"loss": 3.0}, reason, True))
    tuner.drive()

    (record,) = rig.check()
    assert record.state == state
    assert record.message.endswith(reason)
    assert record.metrics == ({"loss": 3.0} if state == "complete" else {})


@pytest.mark.fault("F70")
def test_an_attempt_that_goes_on_where_another_was_lost_keeps_its_result_after_the_last_step() -> (
    None
):
    trial = {"command": ["python", "train.py"], "budget": 5}
    pruner = {"type": "threshold", "upper": 1.0}
    rig = Rig(parallel(1, n_trials=1, trial=trial, pruner=pruner), objective=None, stop_seconds=9.0)
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    for step in range(3):
        rig.executor.report(AttemptId(0, 1), step, loss=0.5)
    rig.turns(tuner, 1)
    rig.executor.finish(AttemptId(0, 1), Outcome("demo", 0, 1, Cause.EVICTED, {}, ""))
    rig.turns(tuner, 200)
    rig.executor.report(AttemptId(0, 2), 3, loss=3.0)
    rig.turns(tuner, 1)
    rig.executor.report(AttemptId(0, 2), 4, loss=3.0)
    reason = "Pruned by threshold at step 3 with loss=3."
    pruned = Outcome("demo", 0, 2, Cause.PRUNED, {"loss": 3.0}, reason, True)
    rig.executor.finish(AttemptId(0, 2), pruned)
    tuner.drive()

    (record,) = rig.check()
    assert (record.state, record.metrics) == ("complete", {"loss": 3.0})


@pytest.mark.fault("F71")
@pytest.mark.parametrize("pruner", ["none", "median", "percentile", "threshold", "asha", "patient"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("is_seen_in_time", [True, False])
def test_a_curve_that_is_not_finite_ends_as_nan_under_every_pruner(
    pruner: str, bad: float, is_seen_in_time: bool
) -> None:
    arguments: dict[str, dict[str, Any]] = {
        "median": {"n_startup_trials": 1, "n_warmup_steps": 0},
        "percentile": {"percentile": 50.0, "n_startup_trials": 1},
        "threshold": {"upper": 100.0},
        "patient": {"patience": 0},
    }
    spec = parallel(1, n_trials=2, pruner={"type": pruner, **arguments.get(pruner, {})})
    rig = Rig(spec, objective=None)
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    for step in range(9):
        rig.executor.report(AttemptId(0, 1), step, loss=1.0)
    rig.executor.finish(AttemptId(0, 1), 1.0)
    rig.turns(tuner, 2)
    for step, value in enumerate([1.0, bad, bad, 1.0, bad, bad, bad]):
        rig.executor.report(AttemptId(1, 1), step, loss=value)
        if is_seen_in_time:
            rig.turns(tuner, 1)
    if not is_seen_in_time:
        rig.executor.finish(AttemptId(1, 1), 1.0)
    tuner.drive()

    record = rig.check()[1]
    assert (record.state, record.cause, record.metrics) == (TrialState.FAILED, Cause.NAN, {})
    assert "in 3 reports in a row, from step 4 to 6" in record.message


@pytest.mark.fault("F71")
def test_a_new_runner_counts_the_reports_of_the_attempt_that_it_adopts() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    rig.turns(rig.tuner(), 1)
    for step in range(2):
        rig.executor.report(AttemptId(0, 1), step, loss=math.nan)
    rig.turns(rig.tuner(), 1)
    rig.executor.report(AttemptId(0, 1), 2, loss=math.nan)

    rig.tuner().drive()

    assert rig.check()[0].cause is Cause.NAN


@pytest.mark.fault("F71")
def test_reports_of_a_lost_attempt_are_no_part_of_the_next_one_s_curve() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    for step in range(2):
        rig.executor.report(AttemptId(0, 1), step, loss=math.nan)
    rig.turns(tuner, 1)
    rig.executor.lose(AttemptId(0, 1))
    rig.turns(tuner, 1)
    rig.clock.advance(10.0)
    rig.turns(tuner, 1)
    rig.executor.report(AttemptId(0, 2), 0, loss=math.nan)
    rig.turns(tuner, 2)
    rig.executor.finish(AttemptId(0, 2), 1.0)
    tuner.drive()

    assert rig.check()[0].values == (1.0,)


@pytest.mark.fault("F71")
def test_a_curve_that_a_script_logs_straight_to_mlflow_is_judged_at_its_end_at_the_latest() -> None:
    rig = Rig(parallel(1, n_trials=1, pruner={"type": "median"}), objective=None)
    rig.picture.logged = {"loss": [1.0, math.nan, math.inf, math.nan, 2.0]}
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    rig.executor.finish(AttemptId(0, 1), 2.0)

    tuner.drive()

    assert rig.check()[0].cause is Cause.NAN


def test_reports_that_went_straight_to_mlflow_are_in_the_study_when_a_trial_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FakeExecutor, "traits", ExecutorTraits(brings_points=False))
    rig = Rig(make_spec(budget={"n_trials": 1}))
    rig.picture.logged = {"loss": [3.0, 2.0]}
    rig.drive()
    [record] = rig.check()
    assert record.intermediate == {0: 3.0, 1: 2.0}
