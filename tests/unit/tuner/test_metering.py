"""Each attempt that ends has one row in the ledger, whatever ended it and whoever saw it."""

from __future__ import annotations

import pytest
from tests.unit.tuner.rig import Diary, Picture, Rig, losing, parallel

from studyflow.executors import AttemptId
from studyflow.ledger import all_rows, spending
from studyflow.ledger.prices import Prices
from studyflow.study import Verdict
from studyflow.study import storage_form as form
from studyflow.testing.fake_executor import FakeExecutor
from studyflow.trial import Cause
from studyflow.trial.record import TrialState
from studyflow.tuner import Tuner

PRICES = Prices.parse("gpu=3.6")


def curve(_params: object) -> list[dict[str, float]]:
    return [{"other": 0.0}, {"loss": 1.0}, {"loss": 0.5}, {"loss": 0.4}]


def test_a_trial_that_ends_well_has_one_row() -> None:
    rig = Rig(parallel(1, 1), duration=100.0, gpus=2, curve=curve)
    rig.tuner(prices=PRICES).drive()
    (record,) = rig.check()
    (row,) = record.costs
    assert (row.attempt, row.cause, row.seconds, row.unit_seconds) == (1, Cause.OK, 100.0, 200.0)
    assert (row.startup_seconds, row.lost_seconds, row.is_estimate) == (0.0, 0.0, False)
    assert (row.resource, row.holder, row.price) == ("gpu", "here", 3.6)
    assert row.money == pytest.approx(0.2)
    assert row.recorded_at == rig.clock()


@pytest.mark.parametrize(
    "result", [0.5, Cause.PRUNED, Cause.NAN, Cause.CUDA_OOM, Cause.USER_ERROR, None]
)
def test_every_end_has_its_row(result: object) -> None:
    rig = Rig(parallel(1, 1), objective=lambda _: result, duration=60.0)
    rig.drive()
    (record,) = rig.study().records()
    assert [(row.cause, row.seconds) for row in record.costs] == [(record.cause, 60.0)]


def test_a_timeout_counts_until_its_limit() -> None:
    rig = Rig(parallel(1, 1), duration=60.0, timeout_seconds=20.0)
    rig.drive()
    (record,) = rig.study().records()
    assert [(row.cause, row.seconds) for row in record.costs] == [(Cause.TIMEOUT, 20.0)]


def test_each_lost_attempt_has_its_row_and_is_lost_as_a_whole_without_checkpoints() -> None:
    rig = Rig(parallel(1, 1), objective=losing(2), duration=30.0)
    rig.drive()
    (record,) = rig.check()
    assert [(r.attempt, r.cause, r.seconds, r.lost_seconds) for r in record.costs] == [
        (1, Cause.EVICTED, 30.0, 30.0),
        (2, Cause.EVICTED, 30.0, 30.0),
        (3, Cause.OK, 30.0, 0.0),
    ]


def test_what_came_before_the_last_checkpoint_is_not_lost() -> None:
    rig = Rig(parallel(1, 1), objective=None)
    tuner = rig.tuner()
    tuner.turn()
    attempt = AttemptId(0, 1)
    rig.clock.advance(50.0)
    rig.executor.report(attempt, 3, **{"studyflow.checkpoint": 1.0})
    rig.clock.advance(20.0)
    rig.executor.lose(attempt, Cause.EVICTED)
    tuner.turn()
    (record,) = rig.study().records()
    (row,) = record.costs
    assert (row.seconds, row.lost_seconds) == (70.0, 20.0)


def test_a_cancelled_attempt_has_its_row() -> None:
    rig = Rig(parallel(1, 1), objective=None)
    tuner = rig.tuner()
    tuner.turn()
    rig.clock.advance(12.0)
    tuner.cancel()
    (record,) = rig.study().records()
    assert [(row.cause, row.seconds) for row in record.costs] == [(Cause.CANCELLED, 12.0)]


@pytest.mark.fault("F21", "F89")
def test_an_end_while_no_runner_was_there_is_recorded_exactly_by_the_next() -> None:
    rig = Rig(parallel(1, 1), duration=40.0)
    rig.tuner().turn()
    rig.clock.advance(5000.0)  # nobody looks
    rig.drive()
    (record,) = rig.check()
    assert [(row.seconds, row.is_estimate) for row in record.costs] == [(40.0, False)]


@pytest.mark.fault("F89")
def test_an_end_that_two_runners_see_is_one_row() -> None:
    rig = Rig(parallel(1, 1), duration=40.0)
    first = rig.tuner()
    seen_by_first = rig.driven
    first.turn()
    second = rig.tuner()
    rig.clock.advance(40.0)
    status = rig.executor.poll()
    stale = seen_by_first.running()[0]
    assert second.turn() is not None
    rig.clock.advance(100.0)
    first._effects.recorder.record_end(stale, status[AttemptId(0, 1)], is_cancelling=False)
    (record,) = rig.study().records()
    assert [(row.attempt, row.seconds, row.recorded_at) for row in record.costs] == [
        (1, 40.0, rig.clock() - 100.0)
    ]


@pytest.mark.fault("F90")
def test_an_attempt_that_disappears_counts_until_it_was_last_seen() -> None:
    rig = Rig(parallel(1, 1), objective=None, gpus=1)
    tuner = rig.tuner()
    rig.turns(tuner, 31)  # it is seen until 30 s
    rig.machine.attempts.clear()
    rig.clock.advance(1000.0)
    tuner.turn()
    (record,) = rig.study().records()
    (row,) = record.costs
    assert (row.cause, row.seconds, row.lost_seconds) == (Cause.LOST, 30.0, 30.0)
    assert row.is_estimate


def test_a_trial_that_never_began_has_no_row() -> None:
    rig = Rig(parallel(1, 1), objective=None)
    study = rig.study()
    study.ask("here")
    rig.tuner().cancel()
    (record,) = rig.study().records()
    assert (record.state, record.costs) == (TrialState.FAILED, ())


def test_the_sums_of_a_study_are_those_of_the_machine() -> None:
    rig = Rig(
        parallel(3, 9), objective=losing(1), duration=lambda p: 10.0 + 90.0 * float(str(p["x"]))
    )
    rig.drive()
    real = sum(a.ends_at - a.started_at for a in rig.machine.attempts.values())
    assert spending(all_rows(rig.check())).place_seconds == pytest.approx(real)


@pytest.mark.fault("F91")
def test_a_runner_whose_clock_is_hours_off_measures_the_same() -> None:
    rig = Rig(parallel(1, 1), objective=losing(1), duration=40.0, curve=curve)
    rig.tuner(wall_clock=lambda: rig.clock() - 7200.0).drive()
    (record,) = rig.check()
    assert [(row.seconds, row.startup_seconds) for row in record.costs] == [(40.0, 0.0)] * 2
    assert record.costs[1].recorded_at == rig.clock() - 7200.0


@pytest.mark.fault("F90", "F91")
def test_an_attempt_of_a_site_that_is_gone_counts_until_that_sites_last_heartbeat() -> None:
    rig = Rig(parallel(1, 1), objective=None)
    away, clock_of_a = FakeExecutor("demo", objective=None, clock=rig.clock, site="a"), 5000.0
    study = rig.study()
    gone = Tuner(study, away, Picture(), Diary(), clock=rig.clock, wall_clock=lambda: clock_of_a)
    gone.turn()
    study.optuna_study.set_user_attr(f"{form.BEAT}a", {"number": 1, "at": clock_of_a + 90.0})
    other = rig.tuner(lease_seconds=20.0)
    rig.turns(other, 30)
    (record,) = rig.study().records()
    assert record.attempt == 2
    (row,) = record.costs
    assert (row.cause, row.seconds, row.lost_seconds) == (Cause.LOST, 90.0, 90.0)
    assert (row.holder, row.is_estimate) == ("here", True)


def test_an_attempt_that_another_runner_has_recorded_as_lost_holds_nothing() -> None:
    rig = Rig(parallel(1, 1), objective=None)
    tuner = rig.tuner()
    rig.turns(tuner, 2)
    rig.clock.advance(100.0)
    study = rig.study()
    meter = tuner._effects.meter
    assert meter.running_seconds(study.record(0)) >= 100.0
    study.end_attempt(0, 1, Verdict(Cause.EVICTED, None, "gone"))
    assert meter.running_seconds(study.record(0)) == 0.0
