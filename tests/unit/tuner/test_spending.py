"""A study keeps within its budget of GPU-hours, money and time, over all runs and runners."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from tests.unit.study.studies import make_spec, open_study
from tests.unit.tuner.rig import Rig
from tests.unit.tuner.test_sites import Site

from studyflow.executors import AttemptId
from studyflow.ledger import Prices, all_rows, spending
from studyflow.ledger.durations import Durations
from studyflow.ledger.limits import account
from studyflow.reasons import Code
from studyflow.spec import StudySpec
from studyflow.study import is_counted
from studyflow.testing.fake_clock import FakeClock
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState
from studyflow.tuner import TunerResult
from studyflow.tuner import spending as spending_of_tuner

HOUR = 3600.0


def metered(parallel: int = 1, timeout_seconds: float | None = None, **budget: Any) -> StudySpec:
    return make_spec(
        budget={"n_trials": 100, "max_parallel_trials": parallel, **budget},
        retry={"backoff_seconds": 1},
        trial={"command": ["true"], "timeout_seconds": timeout_seconds},
    )


def drive(rig: Rig, **settings: Any) -> TunerResult:
    """Run the study to its end; the fake executor wakes the loop at every event anyway."""
    return rig.tuner(poll_seconds=600.0, **settings).drive()


def slot_hours(records: tuple[TrialRecord, ...]) -> float:
    return spending(all_rows(records)).unit_hours


def n_complete(rig: Rig) -> int:
    return sum(record.state is TrialState.COMPLETE for record in rig.study().records())


def test_a_study_ends_when_no_further_trial_fits() -> None:
    rig = Rig(metered(gpu_hours=5.5), duration=HOUR)
    result = drive(rig)
    assert result.reason.code is Code.GPU_HOURS_SPENT
    assert str(result.reason) == (
        "The next trial is expected to cost 1 slot-hours, and budget.gpu_hours leaves 0.5: 5 of "
        "5.5 spent. Hint: raise budget.gpu_hours to go on"
    )
    assert (result.is_finished, result.is_failure) == (True, False)
    assert slot_hours(rig.study().records()) == 5.0


def test_what_runs_is_committed_so_parallel_trials_do_not_exceed_the_budget_together() -> None:
    rig = Rig(metered(4, gpu_hours=6.5), duration=HOUR)
    drive(rig)
    assert n_complete(rig) == 6
    assert rig.machine.most_running == 4


def test_what_a_trial_holds_is_found_out_a_few_times_while_slots_are_filled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    n, asked, remaining_seconds = 60, [], Durations.remaining_seconds

    def counting(self: Durations, *given: Any) -> float:
        asked.append(given)
        return remaining_seconds(self, *given)

    monkeypatch.setattr(Durations, "remaining_seconds", counting)
    rig = Rig(metered(n, gpu_hours=1e6), objective=None)
    rig.turns(rig.tuner(), 1)
    assert len(rig.machine.running()) == n
    assert len(asked) <= 3 * n, "as it is asked for, begun, and named in MLflow"


def test_gpus_are_counted_each() -> None:
    spec = metered(gpu_hours=8.5)
    rig = Rig(
        spec.model_copy(
            update={"trial": make_spec(trial={"command": ["x"], "resources": {"gpu": 4}}).trial}
        ),
        duration=HOUR,
        gpus=4,
    )
    drive(rig)
    assert n_complete(rig) == 2


def test_money_is_counted_by_the_prices() -> None:
    rig = Rig(metered(cost=10.0), duration=HOUR)
    result = drive(rig, prices=Prices.parse("slot=3"))
    assert result.reason.code is Code.COST_SPENT
    assert n_complete(rig) == 3
    assert spending(all_rows(rig.study().records())).money == pytest.approx(9.0)


def test_a_first_trial_that_does_not_fit_is_not_started() -> None:
    rig = Rig(metered(timeout_seconds=HOUR, gpu_hours=0.5), duration=60.0)
    result = drive(rig)
    assert (result.reason.code, result.is_failure) == (Code.GPU_HOURS_SPENT, True)
    assert rig.machine.submitted == []
    assert rig.study().records() == ()


def test_a_time_limit_far_above_what_trials_take_only_holds_back_the_first_ones() -> None:
    rig = Rig(metered(4, timeout_seconds=2 * HOUR, gpu_hours=5.0), duration=600.0)
    rig.turns(rig.tuner(), 1)
    assert len(rig.machine.running()) == 2, "two may take up to two hours each, and one is left"
    drive(rig)
    assert n_complete(rig) == 30
    assert rig.machine.most_running == 4


def test_a_resumed_study_with_a_higher_budget_goes_on_where_it_was() -> None:
    rig = Rig(metered(gpu_hours=2.0), duration=HOUR)
    drive(rig)
    rig.spec = metered(gpu_hours=5.0)
    drive(rig)
    assert n_complete(rig) == 5
    assert sum(map(is_counted, rig.study().records())) == 5


def test_a_resumed_study_with_less_than_it_has_spent_says_so_and_starts_nothing() -> None:
    rig = Rig(metered(gpu_hours=3.0), duration=HOUR)
    drive(rig)
    rig.spec = metered(gpu_hours=1.5)
    result = drive(rig)
    assert "budget.gpu_hours is spent: 3 of 1.5 slot-hours." in str(result.reason)
    assert len(rig.machine.submitted) == 3


def test_lost_attempts_are_part_of_what_is_spent() -> None:
    results = iter([Cause.EVICTED, Cause.EVICTED])
    rig = Rig(metered(gpu_hours=4.5), objective=lambda params: next(results, 0.5), duration=HOUR)
    drive(rig)
    assert slot_hours(rig.study().records()) == 4.0
    assert n_complete(rig) == 2


@pytest.mark.fault("F93")
def test_a_retry_that_no_longer_fits_ends_its_trial_by_the_budget() -> None:
    results = iter([0.5, 0.5, Cause.EVICTED])
    rig = Rig(metered(gpu_hours=3.2), objective=lambda params: next(results, 0.5), duration=HOUR)
    result = drive(rig)
    assert result.reason.code is Code.GPU_HOURS_SPENT
    last = rig.study().records()[2]
    assert (last.state, last.cause, last.code) == (
        TrialState.FAILED,
        Cause.BUDGET,
        Code.GPU_HOURS_SPENT,
    )
    assert not is_counted(last)
    assert [row.cause for row in last.costs] == [Cause.EVICTED]


@pytest.mark.fault("F93")
def test_a_retry_waits_for_what_runs_and_starts_if_that_costs_less_than_expected() -> None:
    rig = Rig(metered(2, timeout_seconds=HOUR, gpu_hours=2.2), objective=None)
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    assert len(rig.machine.running()) == 2
    rig.clock.advance(0.5 * HOUR)
    rig.executor.lose(AttemptId(0, 1), Cause.EVICTED)
    rig.turns(tuner, 5)
    assert rig.machine.running() == [AttemptId(1, 1)]
    assert any("Trial 0 waits" in note for note in rig.diary.notes)
    rig.executor.finish(AttemptId(1, 1), 0.5)
    rig.turns(tuner, 5)
    assert rig.machine.running()[0] == AttemptId(0, 2)


def test_of_two_runners_that_ask_for_the_last_trial_at_once_one_gets_it() -> None:
    spec, clock = metered(4, timeout_seconds=HOUR, gpu_hours=1.5), FakeClock()
    rig = Rig(spec)
    a, b = (Site(n, spec, rig.storage, clock, objective=None) for n in "ab")
    first, second = a.study.ask("a"), b.study.ask("b")
    assert first is not None
    assert second is not None
    refusals = [
        site.tuner._effects.spender.refusal(asked) for site, asked in ((b, second), (a, first))
    ]
    assert [refusal is None for refusal in refusals] == [False, True]


def test_what_holds_trials_back_is_told_once_while_its_numbers_change() -> None:
    rig = Rig(metered(2, timeout_seconds=HOUR, gpu_hours=2.2), objective=None)
    tuner = rig.tuner()
    for _ in range(10):
        rig.clock.advance(180.0)
        rig.turns(tuner, 1)
    assert len(rig.diary.notes) == 1
    rig.executor.lose(AttemptId(0, 1), Cause.EVICTED)
    for _ in range(10):
        rig.clock.advance(30.0)
        rig.turns(tuner, 1)
    assert sum(note.startswith("Trial 0 waits") for note in rig.diary.notes) == 1


def test_a_suggestion_that_does_not_fit_is_withdrawn_once_and_not_again_and_again() -> None:
    rig = Rig(
        metered(gpu_hours=20.0),
        duration=lambda params: HOUR * (0.1 if float(str(params["x"])) < 0.7 else 3.0),
    )
    drive(rig)
    withdrawn = [r for r in rig.study().records() if r.cause is Cause.BUDGET]
    assert len(withdrawn) <= 1
    assert all(r.attempt == 0 and not r.costs and not is_counted(r) for r in withdrawn)
    assert slot_hours(rig.study().records()) <= 20.0


def test_finish_by_is_one_moment_for_all_runs() -> None:
    now = 1_700_000_000.0
    spec = metered(finish_by="2023-11-15T00:00+00:00")  # 6,400 s later
    rig = Rig(spec, duration=1000.0)
    result = drive(rig)
    assert result.reason.code is Code.FINISH_TIME_REACHED
    assert n_complete(rig) == 6
    assert rig.clock() <= now + 6400.0
    assert drive(rig).reason.code is Code.FINISH_TIME_REACHED
    assert len(rig.machine.submitted) == 6


def test_a_time_of_day_is_one_days_also_for_a_run_that_begins_after_it() -> None:
    rig = Rig(metered(finish_by="07:00"), duration=1000.0)
    study = rig.study()
    before = study.finish_at(rig.clock())
    assert before is not None
    assert 0 < before - rig.clock() <= 25 * HOUR
    rig.clock.advance(48 * HOUR)
    assert rig.study().finish_at(rig.clock()) == before
    rig.spec = metered(finish_by="7:00")
    later = rig.study().finish_at(rig.clock())
    assert later is not None
    assert later > before


def test_runs_with_other_times_of_day_keep_to_their_own_days() -> None:
    spec = metered(finish_by="07:00")
    storage, now = optuna.storages.InMemoryStorage(), 1_700_000_000.0
    one, other = open_study(spec, storage), open_study(metered(finish_by="8:00"), storage)
    moment = one.finish_at(now)
    assert moment is not None
    assert other.finish_at(now) != moment
    assert one.finish_at(moment + 60.0) == moment


def stopping(**budget: Any) -> Rig:
    spec = metered(2, gpu_hours=1.0, at_limit="stop", **budget)
    return Rig(spec, objective=None)


def test_at_its_limit_a_study_stops_a_trial_without_checkpoints_at_once() -> None:
    rig = stopping()
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    rig.clock.advance(0.49 * HOUR)
    rig.turns(tuner, 1)
    assert len(rig.machine.running()) == 2
    rig.clock.advance(0.02 * HOUR)
    while tuner.turn() is None:
        rig.executor.wait(1.0)
    records = rig.study().records()
    assert {(r.cause, r.state) for r in records} == {(Cause.BUDGET, TrialState.FAILED)}
    assert [row.cause for r in records for row in r.costs] == [Cause.BUDGET] * 2
    assert not any(is_counted(r) for r in records)
    assert slot_hours(records) == pytest.approx(1.02, abs=0.01)


def test_a_turn_adds_up_what_runs_once_however_much_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def n_accounts(parallel: int) -> int:
        rig = Rig(metered(parallel, gpu_hours=1e3, at_limit="stop"), objective=None)
        tuner = rig.tuner()
        rig.turns(tuner, 1)
        assert len(rig.machine.running()) == parallel
        with monkeypatch.context() as patched:
            counts: list[None] = []
            patched.setattr(spending_of_tuner, "account", counted(account, counts))
            rig.turns(tuner, 1)
        return len(counts)

    assert n_accounts(2) == n_accounts(40) > 0


def test_asking_for_a_trial_adds_up_what_runs_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[None] = []
    monkeypatch.setattr(spending_of_tuner, "account", counted(account, counts))
    rig = Rig(metered(20, gpu_hours=1e3), objective=None)
    rig.turns(rig.tuner(), 1)
    assert len(rig.machine.running()) == 20
    assert len(counts) <= 2 * 20 + 2, "before each is asked for, and before it begins"


def counted(call: Any, counts: list[None]) -> Any:
    def counting(*args: Any, **named: Any) -> Any:
        counts.append(None)
        return call(*args, **named)

    return counting


def test_a_trial_with_checkpoints_goes_on_to_its_next_one() -> None:
    rig = stopping()
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    step = 0.2 * HOUR
    attempts = (AttemptId(0, 1), AttemptId(1, 1))
    for number in range(1, 3):
        rig.clock.advance(step)
        for attempt in attempts:
            rig.executor.report(attempt, number, **{"studyflow.checkpoint": 1.0})
        rig.turns(tuner, 1)
    rig.clock.advance(0.11 * HOUR)  # beyond the limit, before the next checkpoint
    rig.turns(tuner, 2)
    assert len(rig.machine.running()) == 2
    rig.clock.advance(0.09 * HOUR)
    rig.executor.report(attempts[0], 3, **{"studyflow.checkpoint": 1.0})
    rig.turns(tuner, 2)
    assert rig.machine.running() == [attempts[1]], "its checkpoint is awaited"
    rig.clock.advance(2.1 * step)
    while tuner.turn() is None:
        rig.executor.wait(1.0)
    assert rig.machine.running() == []


def test_a_study_whose_budget_stops_nothing_lets_running_trials_finish() -> None:
    rig = Rig(metered(2, gpu_hours=1.0), objective=None)
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    rig.clock.advance(3 * HOUR)
    rig.turns(tuner, 3)
    assert len(rig.machine.running()) == 2


def test_a_begun_attempt_keeps_what_was_left_then() -> None:
    rig = Rig(metered(gpu_hours=3.0), duration=HOUR)
    drive(rig)
    left = [r.begin.left["gpu_hours"] for r in rig.study().records() if r.begin is not None]
    assert left == [3.0, 2.0, 1.0]


def test_progress_says_what_is_spent_of_the_budget() -> None:
    rig = Rig(metered(gpu_hours=10.0), duration=HOUR)
    drive(rig)
    assert rig.diary.progress[-1].spent == "10 of 10 slot-hours"


def test_hours_alone_bound_a_study_without_a_number_of_trials() -> None:
    rig = Rig(metered(3, n_trials=None, gpu_hours=7.5), duration=HOUR)
    result = drive(rig)
    assert (result.reason.code, result.is_finished) == (Code.GPU_HOURS_SPENT, True)
    assert n_complete(rig) == 7
    assert rig.machine.most_running == 3, "each place gets a trial before anything is known"


def test_a_clock_alone_bounds_a_study_without_a_number_of_trials() -> None:
    spec = metered(n_trials=None, finish_by="2023-11-15T00:00+00:00")  # 6,400 s later
    rig = Rig(spec, duration=1000.0)
    result = drive(rig)
    assert (result.reason.code, result.is_finished) == (Code.FINISH_TIME_REACHED, True)
    assert n_complete(rig) == 6


def test_progress_without_a_number_of_trials_is_that_of_the_limit() -> None:
    rig = Rig(metered(n_trials=None, gpu_hours=4.0), duration=HOUR)
    drive(rig)
    shares = [p.share for p in rig.diary.progress if p.share is not None]
    assert {p.n_trials for p in rig.diary.progress} == {None}
    assert shares[0] == pytest.approx(0.0, abs=0.01)
    assert shares[-1] == pytest.approx(1.0)
    assert shares == sorted(shares)
    half = next(p for p in rig.diary.progress if p.n_finished == 2)
    assert half.remaining_seconds == pytest.approx(2 * HOUR, rel=0.05)


def test_a_runs_own_time_alone_bounds_a_study_without_a_number_of_trials() -> None:
    rig = Rig(make_spec(budget={"timeout_seconds": 2.5 * HOUR}), duration=HOUR)
    result = drive(rig)
    assert (result.reason.code, result.is_finished, result.is_failure) == (
        Code.TIME_SPENT, False, False,
    )  # fmt: skip
    assert n_complete(rig) == 3
    assert rig.diary.progress[-1].share == 1.0
