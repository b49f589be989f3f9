"""What an executor makes of real scripts, which takes a real interpreter."""

from __future__ import annotations

import math

import pytest

from studyflow.executors.protocol import (
    AttemptId,
    AttemptState,
    AttemptStatus,
    ExecutorWithLogs,
)
from studyflow.testing.executor_contract.attempts import ExecutorContract
from studyflow.testing.executor_contract.bench import ExecutorPlace, Watch, a_trial
from studyflow.testing.executor_contract.scripts import METRIC, Script
from studyflow.trial import Cause, Trial


class ScriptContract(ExecutorContract):
    """What an executor makes of real scripts: exits, signals, documents, logs."""

    @pytest.mark.parametrize(
        ("script", "cause", "exit_code", "words"),
        [
            (Script.SILENT, Cause.BAD_METRIC, 0, "sdk.finish"),
            (Script.EXIT_3, Cause.USER_ERROR, 3, "the data set is empty"),
            (Script.RAISE, Cause.USER_ERROR, 1, "ValueError: the data set is empty"),
            (Script.MEMORY_ERROR, Cause.HOST_OOM, 1, "MemoryError"),
            (Script.CUDA_ERROR, Cause.CUDA_OOM, 1, "CUDA out of memory"),
            (Script.FINISH_WITHOUT_METRIC, Cause.BAD_METRIC, 0, "'loss'"),
            (Script.FINISH_WITH_TEXT, Cause.USER_ERROR, 1, "'0.5' (str)"),
            (Script.GARBAGE, Cause.BAD_METRIC, 0, '{"version'),
            (Script.ANOTHER_TRIAL, Cause.BAD_METRIC, 0, "refused"),
            (Script.FINISH_SWALLOWED, Cause.BAD_METRIC, 0, "An outcome could not be written"),
            (Script.SURVIVE_OOM, Cause.USER_ERROR, 1, "KeyError: 'lr'"),
            (Script.CHILD_FAILS_ALONE, Cause.USER_ERROR, 0, "RuntimeError: no display"),
        ],
        ids=lambda value: value.name if isinstance(value, Script) else "",
    )
    def test_a_script_without_a_result_ends_with_a_cause_and_a_sentence(
        self, place: ExecutorPlace, script: Script, cause: Cause, exit_code: int, words: str
    ) -> None:
        status = self.run(place, script)
        assert status.outcome is not None
        assert status.outcome.cause is cause
        assert words in str(status.outcome.reason)
        assert status.exit_code == exit_code
        assert status.outcome.is_silent is (script is Script.SILENT)

    @pytest.mark.parametrize("script", [Script.CHILD_FAILS_LATER, Script.CHILD_FAILS_BEFORE])
    def test_a_child_that_fails_does_not_take_back_the_result(
        self, place: ExecutorPlace, script: Script
    ) -> None:
        status = self.run(place, script)
        assert status.outcome is not None
        assert (status.outcome.cause, status.outcome.metrics) == (Cause.OK, {METRIC: 0.5})
        assert status.exit_code == 0

    @pytest.mark.parametrize(
        ("script", "cause", "exit_code", "words"),
        [
            (Script.KILL_ITSELF, Cause.LOST, -9, "SIGKILL"),
            (Script.SEGFAULT, Cause.USER_ERROR, -11, "SIGSEGV"),
        ],
        ids=lambda value: value.name if isinstance(value, Script) else "",
    )
    def test_a_script_killed_by_a_signal_ends_with_a_cause_and_the_signal_s_name(
        self, place: ExecutorPlace, script: Script, cause: Cause, exit_code: int, words: str
    ) -> None:
        status = self.run(place, script)
        assert status.outcome is not None
        assert status.outcome.cause is cause
        assert words in str(status.outcome.reason)
        assert status.exit_code == exit_code

    def test_a_crash_after_finish_changes_nothing(self, place: ExecutorPlace) -> None:
        status = self.run(place, Script.FINISH_AND_CRASH)
        assert status.outcome is not None
        assert (status.outcome.cause, status.outcome.metrics) == (Cause.OK, {METRIC: 0.5})
        assert status.exit_code == 5

    def test_the_last_finish_counts_as_a_whole(self, place: ExecutorPlace) -> None:
        status = self.run(place, Script.FINISH_TWICE)
        assert status.outcome is not None
        assert status.outcome.metrics == {METRIC: 0.5}

    def test_a_nan_is_passed_on_for_the_study_to_judge(self, place: ExecutorPlace) -> None:
        status = self.run(place, Script.FINISH_NAN)
        assert status.outcome is not None
        assert status.outcome.cause is Cause.OK
        assert math.isnan(status.outcome.metrics[METRIC])

    def test_a_script_that_finished_before_it_was_stopped_keeps_its_outcome(
        self, place: ExecutorPlace
    ) -> None:
        executor = place.executor(Script.FINISH_AND_HANG)
        attempt = executor.submit(a_trial())
        watch = Watch(executor, place.patience_seconds)
        watch.until_reported(attempt)
        executor.stop(attempt, Cause.PRUNED, "worse than the median")
        status = watch.until_ended(attempt)
        assert status.outcome is not None
        assert (status.outcome.cause, status.outcome.metrics) == (Cause.OK, {METRIC: 0.5})

    def test_a_script_that_finished_keeps_its_outcome_when_its_time_is_up(
        self, place: ExecutorPlace
    ) -> None:
        status = self.run(place, Script.FINISH_AND_HANG, timeout_seconds=place.script_seconds)
        assert status.outcome is not None
        assert (status.outcome.cause, status.outcome.metrics) == (Cause.OK, {METRIC: 0.5})

    def test_a_script_that_finishes_when_it_is_stopped_ends_with_the_stop_s_cause(
        self, place: ExecutorPlace
    ) -> None:
        executor = place.executor(Script.LEAVE_WHEN_ASKED, stop_grace_seconds=10.0)
        status = _stopped(place, executor, a_trial(), Cause.PRUNED, "worse than the median")
        assert status.outcome is not None
        assert status.outcome.cause is Cause.PRUNED
        assert status.exit_code == 0

    def test_a_script_without_a_step_left_may_finish_when_it_is_stopped(
        self, place: ExecutorPlace
    ) -> None:
        executor = place.executor(Script.FINISH_AFTER_SIGTERM, stop_grace_seconds=10.0)
        status = _stopped(place, executor, a_trial(budget=1), Cause.PRUNED, "worse than the median")
        assert status.outcome is not None
        assert (status.outcome.cause, status.outcome.metrics) == (Cause.PRUNED, {METRIC: 0.25})
        assert status.exit_code == 0

    def test_a_script_that_ignores_sigterm_is_killed_after_the_grace(
        self, place: ExecutorPlace
    ) -> None:
        executor = place.executor(Script.IGNORE_SIGTERM, stop_grace_seconds=0.1)
        status = _stopped(place, executor, a_trial(), Cause.CANCELLED, "no longer wanted")
        assert status.outcome is not None
        assert status.outcome.cause is Cause.CANCELLED
        assert status.exit_code == -9

    def test_an_attempt_that_still_writes_does_not_reach_the_checkpoints_of_the_next(
        self, place: ExecutorPlace
    ) -> None:
        executor = place.executor(Script.CHECKPOINTS)
        watch = Watch(executor, place.patience_seconds)
        lost = executor.submit(a_trial(0, 1))
        watch.until_reported(lost)
        status = watch.until_ended(executor.submit(a_trial(0, 2)))
        assert status.outcome is not None
        assert status.outcome.reason.message == ""
        assert (status.outcome.cause, status.outcome.metrics) == (Cause.OK, {METRIC: 0.5})
        assert executor.poll()[lost].state is AttemptState.RUNNING

    def test_the_log_is_read_in_pieces(self, place: ExecutorPlace) -> None:
        executor = place.executor(Script.EXIT_3)
        attempt = executor.submit(a_trial())
        Watch(executor, place.patience_seconds).until_ended(attempt)
        assert executor.read_log(attempt) == b"the data set is empty\n"
        assert executor.read_log(attempt, offset=4, limit_bytes=8) == b"data set"
        assert executor.read_log(attempt, offset=22) == b""

    def test_the_log_of_a_stopped_attempt_is_what_its_script_wrote(
        self, place: ExecutorPlace
    ) -> None:
        executor = place.executor(Script.PRINT_AND_HANG)
        _stopped(place, executor, a_trial(), Cause.PRUNED, "worse than the median")
        assert executor.read_log(AttemptId(0, 1)).splitlines()[0] == b"epoch 1"

    def test_the_log_can_be_followed_to_its_end(self, place: ExecutorPlace) -> None:
        executor = place.executor(Script.EXIT_3)
        attempt = executor.submit(a_trial())
        assert b"".join(executor.follow_log(attempt)) == b"the data set is empty\n"
        Watch(executor, place.patience_seconds).until_ended(attempt)
        assert b"".join(executor.follow_log(attempt)) == b"the data set is empty\n"
        assert b"".join(executor.follow_log(AttemptId(99, 1))) == b""


def _stopped(
    place: ExecutorPlace, executor: ExecutorWithLogs, trial: Trial, cause: Cause, reason: str
) -> AttemptStatus:
    """Submit an attempt, stop it once it has reported, and return the status of its end."""
    attempt = executor.submit(trial)
    watch = Watch(executor, place.patience_seconds)
    watch.until_reported(attempt)
    executor.stop(attempt, cause, reason)
    return watch.until_ended(attempt)
