"""What a runner leaves that dies while it starts attempts, and who fixes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from tests.unit.executors.local.bench import (
    COUNTED,
    FIRST,
    Bench,
    a_trial,
    as_it_was_claimed,
    until,
)

from studyflow.errors import ExecutorUnavailable
from studyflow.executors import AttemptId, AttemptState
from studyflow.executors.local import attempt as attempt_module
from studyflow.executors.local import supervisor
from studyflow.executors.local.attempt import Attempt, LockState, lock_state
from studyflow.executors.local.command import Surroundings
from studyflow.executors.local.starting import SupervisorStarter
from studyflow.reasons import Code
from studyflow.testing.executor_contract import Watch
from studyflow.trial import Cause


def test_an_attempt_that_was_never_started_is_started_by_the_next_submit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(COUNTED)
    attempt = as_it_was_claimed(bench, monkeypatch)
    executor = bench.executor()
    assert executor.poll()[attempt].state is AttemptState.PENDING
    executor.submit(a_trial())
    status = Watch(executor, 10.0).until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.cause is Cause.OK
    assert bench.log() == "started\n"


def test_an_attempt_that_was_never_started_is_started_by_polling(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(COUNTED)
    attempt = as_it_was_claimed(bench, monkeypatch)
    monkeypatch.setattr(attempt_module, "START_PATIENCE_SECONDS", 0.05)
    status = Watch(bench.executor(), 10.0).until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.cause is Cause.OK
    assert bench.log() == "started\n"


def test_an_attempt_that_was_never_started_can_be_stopped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(COUNTED)
    attempt = as_it_was_claimed(bench, monkeypatch)
    monkeypatch.setattr(attempt_module, "START_PATIENCE_SECONDS", 0.05)
    executor = bench.executor()
    executor.stop(attempt, Cause.CANCELLED, "changed my mind")
    status = Watch(executor, 10.0).until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.cause is Cause.CANCELLED
    assert bench.log() == ""


@pytest.mark.fault("F67")
def test_an_attempt_whose_folder_is_being_removed_as_it_starts_is_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(COUNTED)
    attempt = as_it_was_claimed(bench, monkeypatch)
    (bench.folder(attempt) / supervisor.WORK).rmdir()
    executor = bench.executor()
    status = Watch(executor, 10.0).until_ended(executor.submit(a_trial()))
    assert status.outcome is not None
    assert (status.outcome.cause, status.exit_code) == (Cause.LOST, None)
    assert status.outcome.reason.code is Code.FOLDER_REMOVED


@pytest.mark.fault("F67")
def test_a_start_in_a_folder_that_was_removed_is_worth_another_try(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(COUNTED)
    folder = bench.folder(as_it_was_claimed(bench, monkeypatch))
    attempt = Attempt(FIRST, folder)
    shutil.rmtree(folder)

    with pytest.raises(ExecutorUnavailable, match=r"Attempt 0-1 was not started: .* was removed"):
        SupervisorStarter(Surroundings(bench.cwd, {})).start(attempt, None)


def test_a_runner_killed_before_its_claim_leaves_no_attempt(bench: Bench) -> None:
    bench.write(COUNTED)
    executor = bench.executor()
    (bench.root / "open" / "0-1").touch()
    (bench.root / "trials" / "0" / ".attempt-1.half").mkdir(parents=True)
    assert dict(executor.poll()) == {}
    status = Watch(executor, 10.0).until_ended(executor.submit(a_trial()))
    assert status.outcome is not None
    assert status.outcome.cause is Cause.OK


def start_supervisor(bench: Bench, attempt: AttemptId) -> None:
    followed = Attempt(attempt, bench.folder(attempt))
    SupervisorStarter(Surroundings(bench.cwd)).start(followed, None)


@pytest.mark.fault("F05", "F21")
def test_however_often_an_attempt_is_started_its_script_runs_once(bench: Bench) -> None:
    bench.write("import time\nprint('started')\ntime.sleep(0.3)\n")
    executors = [bench.executor() for _ in range(4)]
    attempt = AttemptId(0, 1)
    for executor in executors:
        executor.submit(a_trial())
        start_supervisor(bench, attempt)
    Watch(executors[-1], 10.0).until_ended(attempt)
    start_supervisor(bench, attempt)
    until(lambda: lock_state(bench.folder(attempt)) is LockState.FREE)
    assert bench.log() == "started\n"


RUNNER = """
import sys
from pathlib import Path
from studyflow.executors.local import LocalExecutor
from studyflow.trial import Trial
root, cwd = Path(sys.argv[1]), Path(sys.argv[2])
executor = LocalExecutor("demo", ["python", "train.py"], root=root, cwd=cwd)
executor.submit(Trial("demo", 0, {}, metrics=("loss",)))
print("submitted", flush=True)
while True: executor.wait(1.0)
"""


@pytest.mark.fault("F21")
def test_a_training_goes_on_and_is_adopted_when_its_runner_is_killed(bench: Bench) -> None:
    bench.write(
        """
        import os, time
        from studyflow import sdk
        print("started", flush=True)
        sdk.report(0, loss=2.0)
        while not os.path.exists(os.path.join(os.environ["GATE"], "gate")): time.sleep(0.005)
        sdk.finish(loss=1.0)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(bench.root), str(bench.cwd)],
        stdout=subprocess.PIPE,
        env={**os.environ, "GATE": str(bench.cwd)},
    ) as runner:
        assert runner.stdout is not None
        assert runner.stdout.readline() == b"submitted\n"
        runner.kill()
    executor = bench.executor()
    watch = Watch(executor, 10.0)
    watch.until_reported(AttemptId(0, 1))
    assert executor.submit(a_trial()) == AttemptId(0, 1)
    (bench.cwd / "gate").touch()
    status = watch.until_ended(AttemptId(0, 1))
    assert status.outcome is not None
    assert status.outcome.metrics == {"loss": 1.0}
    assert bench.log() == "started\n"
