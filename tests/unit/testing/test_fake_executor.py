"""The fake executor does what its test tells it, under a clock that does the same."""

from __future__ import annotations

import pytest

from studyflow.errors import ExecutorError, ExecutorUnavailable
from studyflow.executors import AttemptId, AttemptState, Executor
from studyflow.testing.fake_clock import FakeClock
from studyflow.testing.fake_executor import FakeExecutor
from studyflow.trial import Cause, Outcome, ParamValue, Trial


def a_trial(number: int = 0, attempt: int = 1, **params: ParamValue) -> Trial:
    return Trial("demo", number, params, attempt=attempt, metrics=("loss",))


def outcome_of(executor: FakeExecutor, attempt: AttemptId) -> Outcome:
    outcome = executor.poll()[attempt].outcome
    assert outcome is not None
    return outcome


def test_the_clock_goes_forward_only() -> None:
    clock = FakeClock(5.0)
    clock.advance(2.5)
    assert clock() == 7.5
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


def test_a_study_of_hours_takes_no_time() -> None:
    clock = FakeClock(0.0)
    executor = FakeExecutor(
        "demo",
        objective=lambda params: {"loss": float(str(params["x"])) ** 2},
        duration=lambda params: 3600.0 * float(str(params["x"])),
        clock=clock,
    )
    attempts = [executor.submit(a_trial(n, x=float(n))) for n in (1, 2)]
    ends = []
    while any(status.outcome is None for status in executor.poll().values()):
        executor.wait(1e9)
        ends.append(clock())
    assert ends == [3600.0, 7200.0]
    assert [outcome_of(executor, attempt).metrics for attempt in attempts] == [
        {"loss": 1.0},
        {"loss": 4.0},
    ]
    assert executor.machine.most_running == 2


def test_a_trial_without_a_result_is_silent() -> None:
    executor = FakeExecutor("demo", objective=lambda params: None)
    attempt = executor.submit(a_trial())
    executor.wait(1.0)
    assert executor.poll()[attempt].exit_code == 0
    assert outcome_of(executor, attempt).cause is Cause.BAD_METRIC
    assert outcome_of(executor, attempt).is_silent


def test_waiting_lasts_no_longer_than_asked() -> None:
    clock = FakeClock(0.0)
    FakeExecutor("demo", clock=clock).wait(30.0)
    assert clock() == 30.0


def test_a_curve_is_reported_while_time_passes() -> None:
    executor = FakeExecutor(
        "demo",
        objective=lambda params: 1.0,
        duration=10.0,
        curve=lambda params: [{"loss": 2.0}, {"loss": 1.0}],
    )
    attempt = executor.submit(a_trial())
    assert [p.value for p in executor.poll()[attempt].points] == [2.0]
    executor.wait(100.0)
    assert [p.value for p in executor.poll()[attempt].points] == [1.0]
    assert [p.step for p in executor.again().poll()[attempt].points] == [0, 1]


def test_an_objective_can_fail_in_any_way() -> None:
    def objective(params: object) -> Cause:
        raise ValueError("no data")

    for number, (executor, cause) in enumerate(
        [
            (FakeExecutor("demo", objective=objective), Cause.USER_ERROR),
            (FakeExecutor("demo", objective=lambda params: Cause.EVICTED), Cause.EVICTED),
        ]
    ):
        attempt = executor.submit(a_trial(number))
        executor.wait(5.0)
        assert outcome_of(executor, attempt).cause is cause


def test_a_test_ends_attempts_by_hand() -> None:
    executor = FakeExecutor("demo")
    finished, lost = executor.submit(a_trial(0)), executor.submit(a_trial(1))
    executor.report(finished, 3, loss=0.5)
    executor.finish(finished, 0.25)
    executor.lose(lost, Cause.NODE_LOST)
    executor.lose(finished)
    assert executor.poll()[finished].exit_code == 0
    assert outcome_of(executor, finished).metrics == {"loss": 0.25}
    assert outcome_of(executor, lost).cause is Cause.NODE_LOST


def test_a_place_that_is_away_answers_nobody_and_its_attempts_go_on() -> None:
    executor = FakeExecutor("demo", objective=lambda params: 1.0)
    attempt = executor.submit(a_trial())
    executor.go_away()
    for call in (executor.poll, lambda: executor.again().submit(a_trial(1))):
        with pytest.raises(ExecutorUnavailable):
            call()
    executor.wait(5.0)
    executor.come_back()
    assert executor.poll()[attempt].state is AttemptState.ENDED


def test_slots_that_are_taken_are_worth_another_try() -> None:
    executor = FakeExecutor("demo", objective=lambda params: 1.0, slots=1)
    executor.submit(a_trial(0))
    with pytest.raises(ExecutorUnavailable, match="All 1 slots"):
        executor.submit(a_trial(1))
    executor.wait(5.0)
    executor.submit(a_trial(1))


def test_the_same_attempt_with_other_parameters_is_refused() -> None:
    executor: Executor = FakeExecutor("demo")
    executor.submit(a_trial(0, x=1.0))
    with pytest.raises(ExecutorError, match="other parameters"):
        executor.submit(a_trial(0, x=2.0))
