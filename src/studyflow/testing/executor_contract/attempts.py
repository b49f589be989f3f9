"""What every executor promises about attempts."""

from __future__ import annotations

import pytest

from studyflow.executors.earlier import of_present_protocol
from studyflow.executors.protocol import (
    AttemptId,
    AttemptState,
    AttemptStatus,
)
from studyflow.testing.executor_contract.bench import ExecutorPlace, Watch, a_trial
from studyflow.testing.executor_contract.scripts import METRIC, STUDY, Script
from studyflow.trial import Cause, Consequence


class ExecutorContract:
    """What an executor promises about attempts."""

    @pytest.fixture
    def place(self) -> ExecutorPlace:
        """Return where attempts run; subclasses give their own.

        Raises:
            NotImplementedError: This class runs nothing by itself.
        """
        raise NotImplementedError("give a place to run")

    def run(self, place: ExecutorPlace, script: Script, **options: float) -> AttemptStatus:
        """Return how one attempt of the script ends."""
        executor = place.executor(script, **options)
        try:
            attempt = executor.submit(a_trial())
            return Watch(executor, place.patience_seconds).until_ended(attempt)
        finally:
            executor.close()

    def test_a_new_executor_has_no_attempts(self, place: ExecutorPlace) -> None:
        assert dict(place.executor(Script.FINISH).poll()) == {}

    def test_an_attempt_is_named_by_trial_and_attempt_number(self, place: ExecutorPlace) -> None:
        executor = place.executor(Script.HANG)
        assert executor.submit(a_trial(7, 2)) == AttemptId(7, 2)
        assert list(executor.poll()) == [AttemptId(7, 2)]

    def test_an_attempt_ends_with_what_its_script_finished_with(self, place: ExecutorPlace) -> None:
        status = self.run(place, Script.FINISH)
        assert status.outcome is not None
        assert (status.outcome.study, status.outcome.number, status.outcome.attempt) == (
            STUDY,
            0,
            1,
        )
        assert status.outcome.cause is Cause.OK
        assert status.outcome.metrics == {METRIC: 0.5}
        assert status.outcome.message == ""
        assert status.started_at is not None
        assert status.ended_at is not None
        assert status.started_at <= status.ended_at

    def test_each_reported_metric_is_seen_once_in_order(self, place: ExecutorPlace) -> None:
        executor = place.executor(Script.FINISH)
        watch = Watch(executor, place.patience_seconds)
        attempt = executor.submit(a_trial())
        watch.until_ended(attempt)
        executor.poll()
        assert [(p.name, p.step, p.value) for p in watch.points[attempt]] == [
            (METRIC, 0, 1.0),
            (METRIC, 1, 0.5),
            (METRIC, 2, 1 / 3),
        ]
        assert executor.poll()[attempt].points == ()

    def test_start_reports_and_end_of_an_attempt_are_times_of_one_clock(
        self, place: ExecutorPlace
    ) -> None:
        executor = place.executor(Script.FINISH)
        watch = Watch(executor, place.patience_seconds)
        attempt = executor.submit(a_trial())
        status = watch.until_ended(attempt)
        stamps = [point.timestamp_ms / 1000 for point in watch.points.get(attempt, ())]
        assert status.started_at is not None
        assert status.ended_at is not None
        assert bool(stamps) is executor.traits.brings_points
        for stamp in stamps:  # which is in whole milliseconds
            assert status.started_at - 0.001 <= stamp <= status.ended_at + 0.001

    def test_an_attempt_says_what_it_holds_while_it_runs_and_afterwards(
        self, place: ExecutorPlace
    ) -> None:
        executor = place.executor(Script.HANG)
        attempt = executor.submit(a_trial())
        watch = Watch(executor, place.patience_seconds)
        watch.until_reported(attempt)
        running = executor.poll()[attempt].allocation
        assert running is not None
        assert running.gpus == 0  # the contract's study asks for none
        executor.stop(attempt, Cause.CANCELLED, "seen enough")
        assert watch.until_ended(attempt).allocation == running

    def test_a_running_attempt_is_seen_running(self, place: ExecutorPlace) -> None:
        executor = place.executor(Script.HANG)
        attempt = executor.submit(a_trial())
        watch = Watch(executor, place.patience_seconds)
        watch.until_reported(attempt)
        status = executor.poll()[attempt]
        assert status.state is AttemptState.RUNNING
        assert status.started_at is not None
        assert status.exit_code is None

    def test_a_trial_that_is_already_running_is_not_submitted_twice(
        self, place: ExecutorPlace
    ) -> None:
        executor = place.executor(Script.HANG)
        attempt = executor.submit(a_trial())
        assert executor.submit(a_trial()) == attempt
        Watch(executor, place.patience_seconds).until_reported(attempt)
        assert executor.submit(a_trial()) == attempt
        assert list(executor.poll()) == [attempt]
        assert place.starts(attempt) == 1

    def test_a_trial_that_has_ended_is_not_run_again_by_submitting_it(
        self, place: ExecutorPlace
    ) -> None:
        executor = place.executor(Script.FINISH)
        watch = Watch(executor, place.patience_seconds)
        attempt = executor.submit(a_trial())
        before = watch.until_ended(attempt)
        executor.submit(a_trial())
        assert executor.poll()[attempt].outcome == before.outcome
        assert place.starts(attempt) == 1

    def test_another_attempt_of_a_trial_is_another_attempt(self, place: ExecutorPlace) -> None:
        executor = place.executor(Script.FINISH)
        attempts = {executor.submit(a_trial(0, 1)), executor.submit(a_trial(0, 2))}
        assert attempts == {AttemptId(0, 1), AttemptId(0, 2)}
        statuses = Watch(executor, place.patience_seconds).until(
            lambda seen: all(status.outcome is not None for status in seen.values())
        )
        assert {
            (status.outcome.number, status.outcome.attempt)
            for status in statuses.values()
            if status.outcome is not None
        } == {(0, 1), (0, 2)}

    def test_a_second_executor_sees_and_adopts_a_running_attempt(
        self, place: ExecutorPlace
    ) -> None:
        first = place.executor(Script.HANG)
        attempt = first.submit(a_trial())
        Watch(first, place.patience_seconds).until_reported(attempt)
        first.close()

        second = place.executor(Script.HANG)
        assert second.poll()[attempt].state is AttemptState.RUNNING
        assert second.submit(a_trial()) == attempt
        second.stop(attempt, Cause.CANCELLED, "no longer wanted")
        status = Watch(second, place.patience_seconds).until_ended(attempt)
        assert status.outcome is not None
        assert status.outcome.cause is Cause.CANCELLED
        assert place.starts(attempt) == 1

    def test_executors_that_see_the_same_attempts_have_the_same_site(
        self, place: ExecutorPlace
    ) -> None:
        first, second = (of_present_protocol(place.executor(Script.HANG)) for _ in range(2))
        assert first.site == second.site != ""

    def test_a_second_executor_sees_the_end_of_an_attempt_and_all_its_metrics(
        self, place: ExecutorPlace
    ) -> None:
        first = place.executor(Script.FINISH)
        attempt = first.submit(a_trial())
        Watch(first, place.patience_seconds).until_ended(attempt)
        first.close()

        watch = Watch(place.executor(Script.FINISH), place.patience_seconds)
        status = watch.until_ended(attempt)
        assert status.outcome is not None
        assert status.outcome.metrics == {METRIC: 0.5}
        assert len(watch.points[attempt]) == 3

    @pytest.mark.parametrize("cause", [Cause.PRUNED, Cause.NAN, Cause.CANCELLED])
    def test_a_stopped_attempt_ends_with_the_cause_it_was_stopped_for(
        self, place: ExecutorPlace, cause: Cause
    ) -> None:
        executor = place.executor(Script.HANG)
        attempt = executor.submit(a_trial())
        watch = Watch(executor, place.patience_seconds)
        watch.until_reported(attempt)
        executor.stop(attempt, cause, "worse than the median")
        status = watch.until_ended(attempt)
        assert status.outcome is not None
        assert status.outcome.cause is cause
        assert status.outcome.message == "worse than the median"

    def test_stopping_twice_is_stopping_once(self, place: ExecutorPlace) -> None:
        executor = place.executor(Script.HANG)
        attempt = executor.submit(a_trial())
        watch = Watch(executor, place.patience_seconds)
        watch.until_reported(attempt)
        executor.stop(attempt, Cause.PRUNED, "first")
        executor.stop(attempt, Cause.CANCELLED, "second")
        status = watch.until_ended(attempt)
        assert status.outcome is not None
        assert (status.outcome.cause, status.outcome.message) == (Cause.PRUNED, "first")

    def test_an_attempt_stopped_at_once_ends(self, place: ExecutorPlace) -> None:
        executor = place.executor(Script.HANG)
        attempt = executor.submit(a_trial())
        executor.stop(attempt, Cause.CANCELLED, "changed my mind")
        status = Watch(executor, place.patience_seconds).until_ended(attempt)
        assert status.outcome is not None
        assert status.outcome.cause is Cause.CANCELLED

    def test_an_ended_attempt_keeps_its_outcome_when_it_is_stopped(
        self, place: ExecutorPlace
    ) -> None:
        executor = place.executor(Script.FINISH)
        watch = Watch(executor, place.patience_seconds)
        attempt = executor.submit(a_trial())
        watch.until_ended(attempt)
        executor.stop(attempt, Cause.CANCELLED, "too late")
        for seen_by in (executor, place.executor(Script.FINISH)):
            outcome = seen_by.poll()[attempt].outcome
            assert outcome is not None
            assert outcome.cause is Cause.OK

    def test_a_forgotten_attempt_is_seen_by_nobody(self, place: ExecutorPlace) -> None:
        executor = place.executor(Script.FINISH)
        attempt = executor.submit(a_trial())
        Watch(executor, place.patience_seconds).until_ended(attempt)
        executor.forget(attempt)
        executor.forget(attempt)
        assert dict(executor.poll()) == {}
        assert dict(place.executor(Script.FINISH).poll()) == {}

    def test_what_does_not_exist_is_stopped_and_forgotten_silently(
        self, place: ExecutorPlace
    ) -> None:
        executor = place.executor(Script.FINISH)
        executor.stop(AttemptId(99, 1), Cause.CANCELLED, "never was")
        executor.forget(AttemptId(99, 1))
        assert dict(executor.poll()) == {}

    def test_what_does_not_exist_has_no_files_and_no_log(self, place: ExecutorPlace) -> None:
        executor = place.executor(Script.FINISH)
        assert executor.files(AttemptId(99, 1)).log is None
        assert executor.read_log(AttemptId(99, 1)) == b""

    def test_an_attempt_killed_behind_its_back_is_lost(self, place: ExecutorPlace) -> None:
        executor = place.executor(Script.HANG)
        attempt = executor.submit(a_trial())
        watch = Watch(executor, place.patience_seconds)
        watch.until_reported(attempt)
        place.kill_behind_its_back(attempt)
        status = watch.until_ended(attempt)
        assert status.outcome is not None
        assert status.outcome.cause.consequence is Consequence.RETRY
        assert status.outcome.message != ""
        again = place.executor(Script.HANG)
        assert Watch(again, place.patience_seconds).until_ended(attempt).outcome == status.outcome

    def test_an_attempt_killed_behind_its_back_is_not_started_again(
        self, place: ExecutorPlace
    ) -> None:
        executor = place.executor(Script.HANG)
        attempt = executor.submit(a_trial())
        watch = Watch(executor, place.patience_seconds)
        watch.until_reported(attempt)
        place.kill_behind_its_back(attempt)
        watch.until_ended(attempt)
        assert place.starts(attempt) == 1

    def test_a_hanging_attempt_ends_at_its_time_limit(self, place: ExecutorPlace) -> None:
        status = self.run(place, Script.HANG, timeout_seconds=0.3)
        assert status.outcome is not None
        assert status.outcome.cause is Cause.TIMEOUT
        assert status.outcome.reason.code is Cause.TIMEOUT
        assert status.outcome.message

    def test_attempts_go_on_when_their_executor_is_closed(self, place: ExecutorPlace) -> None:
        executor = place.executor(Script.FINISH)
        attempt = executor.submit(a_trial())
        executor.close()
        status = Watch(place.executor(Script.FINISH), place.patience_seconds).until_ended(attempt)
        assert status.outcome is not None
        assert status.outcome.cause is Cause.OK

    def test_waiting_without_attempts_ends_in_time(self, place: ExecutorPlace) -> None:
        place.executor(Script.FINISH).wait(0.01)
