"""The tests that every executor passes. Subclass one of the suites and give it a place to run.

    class TestMyExecutor(ScriptContract):
        @pytest.fixture
        def place(self, tmp_path):
            yield MyPlace(tmp_path)

`ExecutorContract` is about attempts; `ScriptContract` adds what needs a real interpreter: exit
codes, signals, logs, documents. Both work against a cluster as well as against processes.
"""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import pytest

from studyflow.executors.protocol import (
    AttemptId,
    AttemptState,
    AttemptStatus,
    Executor,
    ExecutorWithLogs,
)
from studyflow.trial import Cause, Consequence, MetricPoint, Trial

STUDY = "contract"
METRIC = "loss"

_SLEEP = "import time\nwhile True: time.sleep(0.05)\n"


_FAILING_CHILD = (
    "import subprocess, sys\n"
    "subprocess.run([sys.executable, '-c', 'from studyflow import sdk; sdk.current_trial(); "
    'raise RuntimeError("no display")\'])\n'
)


class Script(enum.Enum):
    """Training scripts, by what they do. The value is their source."""

    FINISH = (
        "from studyflow import sdk\n"
        "for step in range(3): sdk.report(step, loss=1.0 / (step + 1))\n"
        "sdk.finish(loss=0.5)\n"
    )
    HANG = "from studyflow import sdk\nsdk.report(0, loss=1.0)\n" + _SLEEP
    PRINT_AND_HANG = (
        "from studyflow import sdk\nprint('epoch 1', flush=True)\nsdk.report(0, loss=1.0)\n"
        + _SLEEP
    )
    FINISH_AND_HANG = (
        "from studyflow import sdk\nsdk.finish(loss=0.5)\nsdk.report(0, loss=1.0)\n" + _SLEEP
    )
    IGNORE_SIGTERM = (
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "from studyflow import sdk\nsdk.report(0, loss=1.0)\n" + _SLEEP
    )
    LEAVE_WHEN_ASKED = (
        "import time\nfrom studyflow import sdk\nsdk.should_stop()\nsdk.report(0, loss=1.0)\n"
        "while not sdk.should_stop(): time.sleep(0.01)\n"
        "sdk.finish(loss=0.25)\n"
    )
    FINISH_AFTER_SIGTERM = (
        "import time\nfrom studyflow import sdk\nfrom studyflow.sdk.session import session\n"
        "sdk.report(0, loss=1.0)\n"
        "while not session()._sigterm.is_received: time.sleep(0.01)\n"
        "sdk.finish(loss=0.25)\n"
    )
    """It never asks whether to stop; one step is its whole budget."""
    SILENT = "pass\n"
    EXIT_3 = "import sys\nprint('the data set is empty')\nsys.exit(3)\n"
    RAISE = (
        "from studyflow import sdk\nsdk.current_trial()\n"
        "raise ValueError('the data set is empty')\n"
    )
    MEMORY_ERROR = "from studyflow import sdk\nsdk.current_trial()\nraise MemoryError\n"
    CUDA_ERROR = (
        "class OutOfMemoryError(RuntimeError): __module__ = 'torch'\n"
        "raise OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 MiB')\n"
    )
    KILL_ITSELF = "import os\nos.kill(os.getpid(), 9)\n"
    SEGFAULT = "import os\nos.kill(os.getpid(), 11)\n"
    FINISH_AND_CRASH = "import os\nfrom studyflow import sdk\nsdk.finish(loss=0.5)\nos._exit(5)\n"
    FINISH_TWICE = (
        "from studyflow import sdk\nsdk.finish(loss=0.75, other=1.0)\nsdk.finish(loss=0.5)\n"
    )
    FINISH_NAN = "from studyflow import sdk\nsdk.finish(loss=float('nan'))\n"
    FINISH_WITHOUT_METRIC = "from studyflow import sdk\nsdk.finish(accuracy=0.5)\n"
    FINISH_WITH_TEXT = "from studyflow import sdk\nsdk.finish(loss='0.5')\n"
    GARBAGE = (
        "import json, os, pathlib\n"
        "trial = json.loads(os.environ['STUDYFLOW_TRIAL'])\n"
        "pathlib.Path(trial['outcome_path']).write_bytes(b'{\"version\": 1, \"stu\\xff')\n"
    )
    ANOTHER_TRIAL = (
        "import dataclasses, json, os\n"
        "trial = json.loads(os.environ['STUDYFLOW_TRIAL'])\n"
        "trial['number'] += 1\n"
        "os.environ['STUDYFLOW_TRIAL'] = json.dumps(trial)\n"
        "from studyflow import sdk\nsdk.finish(loss=0.5)\n"
    )
    CHILD_FAILS_LATER = "from studyflow import sdk\nsdk.finish(loss=0.5)\n" + _FAILING_CHILD
    CHILD_FAILS_BEFORE = _FAILING_CHILD + "from studyflow import sdk\nsdk.finish(loss=0.5)\n"
    CHILD_FAILS_ALONE = "from studyflow import sdk\nsdk.report(0, loss=0.5)\n" + _FAILING_CHILD
    SURVIVE_OOM = (
        "import traceback\n"
        "class OutOfMemoryError(RuntimeError): __module__ = 'torch'\n"
        "try: raise OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 MiB')\n"
        "except OutOfMemoryError: traceback.print_exc()\n"
        "print('halved the batch size')\n"
        "{}['lr']\n"
    )
    FINISH_SWALLOWED = (
        "import resource\nfrom studyflow import sdk\nsdk.report(0, loss=2.0)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60))\n"
        "try: sdk.finish(loss=0.5)\n"
        "except OSError: pass\n"
    )


class ExecutorPlace(Protocol):
    """Where a suite's attempts run, and a side door to it."""

    patience_seconds: float
    """How long anything may take here."""

    script_seconds: float
    """Enough for a script to start, to import the SDK and to finish, when the place is busy."""

    def executor(
        self,
        script: Script,
        *,
        timeout_seconds: float | None = None,
        stop_grace_seconds: float = 0.2,
    ) -> ExecutorWithLogs:
        """Return a new executor object for the study `STUDY` whose attempts run the script.

        All objects of one place see the same attempts, as runners in several processes would.
        """

    def kill_behind_its_back(self, attempt: AttemptId) -> None:
        """Kill an attempt with all that watches over it, without the code under test."""

    def starts(self, attempt: AttemptId) -> int:
        """Return how often the attempt's script was really started."""


class Watch:
    """Looks at an executor again and again, and keeps what it saw."""

    def __init__(self, executor: Executor, patience_seconds: float) -> None:
        self._executor = executor
        self._patience_seconds = patience_seconds
        self.points: dict[AttemptId, list[MetricPoint]] = {}

    def until(
        self, condition: Callable[[Mapping[AttemptId, AttemptStatus]], bool]
    ) -> Mapping[AttemptId, AttemptStatus]:
        """Return the first look that fulfils the condition; fail when none does in time."""
        deadline = time.monotonic() + self._patience_seconds
        while True:
            statuses = self._executor.poll()
            for attempt, status in statuses.items():
                self.points.setdefault(attempt, []).extend(status.points)
                assert (status.outcome is not None) == (status.state is AttemptState.ENDED)
            if condition(statuses):
                return statuses
            if time.monotonic() > deadline:
                pytest.fail(f"not within {self._patience_seconds} s; last seen: {statuses}")
            self._executor.wait(0.5)

    def until_ended(self, attempt: AttemptId) -> AttemptStatus:
        """Return the status of the attempt's end."""
        return self.until(lambda statuses: statuses[attempt].state is AttemptState.ENDED)[attempt]

    def until_reported(self, attempt: AttemptId) -> None:
        """Return when the attempt's script runs and has reported something."""
        self.until(lambda _: bool(self.points.get(attempt)))


def a_trial(number: int = 0, attempt: int = 1, budget: int | None = None, **params: float) -> Trial:
    """Return an attempt of the contract's study."""
    return Trial(
        STUDY, number, params or {"x": 1.5}, attempt=attempt, budget=budget, metrics=(METRIC,)
    )


class ExecutorContract:
    """What an executor promises about attempts."""

    @pytest.fixture
    def place(self) -> ExecutorPlace:
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
        assert place.executor(Script.HANG).site == place.executor(Script.HANG).site != ""

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
        assert "0.3 s" in status.outcome.message

    def test_attempts_go_on_when_their_executor_is_closed(self, place: ExecutorPlace) -> None:
        executor = place.executor(Script.FINISH)
        attempt = executor.submit(a_trial())
        executor.close()
        status = Watch(place.executor(Script.FINISH), place.patience_seconds).until_ended(attempt)
        assert status.outcome is not None
        assert status.outcome.cause is Cause.OK

    def test_waiting_without_attempts_ends_in_time(self, place: ExecutorPlace) -> None:
        place.executor(Script.FINISH).wait(0.01)


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
        attempt = executor.submit(a_trial())
        watch = Watch(executor, place.patience_seconds)
        watch.until_reported(attempt)
        executor.stop(attempt, Cause.PRUNED, "worse than the median")
        status = watch.until_ended(attempt)
        assert status.outcome is not None
        assert status.outcome.cause is Cause.PRUNED
        assert status.exit_code == 0

    def test_a_script_without_a_step_left_may_finish_when_it_is_stopped(
        self, place: ExecutorPlace
    ) -> None:
        executor = place.executor(Script.FINISH_AFTER_SIGTERM, stop_grace_seconds=10.0)
        attempt = executor.submit(a_trial(budget=1))
        watch = Watch(executor, place.patience_seconds)
        watch.until_reported(attempt)
        executor.stop(attempt, Cause.PRUNED, "worse than the median")
        status = watch.until_ended(attempt)
        assert status.outcome is not None
        assert (status.outcome.cause, status.outcome.metrics) == (Cause.PRUNED, {METRIC: 0.25})
        assert status.exit_code == 0

    def test_a_script_that_ignores_sigterm_is_killed_after_the_grace(
        self, place: ExecutorPlace
    ) -> None:
        executor = place.executor(Script.IGNORE_SIGTERM, stop_grace_seconds=0.1)
        attempt = executor.submit(a_trial())
        watch = Watch(executor, place.patience_seconds)
        watch.until_reported(attempt)
        executor.stop(attempt, Cause.CANCELLED, "no longer wanted")
        status = watch.until_ended(attempt)
        assert status.outcome is not None
        assert status.outcome.cause is Cause.CANCELLED
        assert status.exit_code == -9

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
        attempt = executor.submit(a_trial())
        watch = Watch(executor, place.patience_seconds)
        watch.until_reported(attempt)
        executor.stop(attempt, Cause.PRUNED, "worse than the median")
        watch.until_ended(attempt)
        assert executor.read_log(attempt).splitlines()[0] == b"epoch 1"

    def test_the_log_can_be_followed_to_its_end(self, place: ExecutorPlace) -> None:
        executor = place.executor(Script.EXIT_3)
        attempt = executor.submit(a_trial())
        assert b"".join(executor.follow_log(attempt)) == b"the data set is empty\n"
        Watch(executor, place.patience_seconds).until_ended(attempt)
        assert b"".join(executor.follow_log(attempt)) == b"the data set is empty\n"
        assert b"".join(executor.follow_log(AttemptId(99, 1))) == b""
