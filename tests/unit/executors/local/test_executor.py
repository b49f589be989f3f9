"""Local attempts that are refused, and waiting for the others."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.unit.executors.local.bench import (
    COUNTED,
    HANG,
    Bench,
    a_trial,
    as_it_was_claimed,
    is_alive,
    linux_only,
    read_pids,
)

from studyflow.errors import ExecutorError, ExecutorUnavailable
from studyflow.executors import AttemptId, AttemptState
from studyflow.executors.local import LocalExecutor
from studyflow.executors.local import attempt as attempt_module
from studyflow.executors.local.supervisor_handle import SupervisorHandle
from studyflow.testing.executor_contract import Watch
from studyflow.trial import Cause, Trial


def test_the_trials_of_an_older_study_of_the_same_name_are_not_taken_over(bench: Bench) -> None:
    bench.run("pass\n", a_trial(x=1.0))
    with pytest.raises(ExecutorError, match="other parameters"):
        bench.executor().submit(a_trial(x=2.0))


def test_a_trial_of_another_study_is_refused(bench: Bench) -> None:
    bench.write("pass\n")
    with pytest.raises(ExecutorError, match="runs study 'demo'"):
        bench.executor().submit(Trial("other", 0, {}))


def test_an_attempt_that_cannot_be_started_does_not_exist(bench: Bench) -> None:
    bench.write("pass\n")
    executor = bench.executor()
    with pytest.raises(ExecutorError, match="very long"):
        executor.submit(Trial("demo", 0, {"text": "x" * 3_000_000}))
    assert dict(executor.poll()) == {}
    assert executor.submit(a_trial()) == AttemptId(0, 1)


def test_an_attempt_that_runs_cannot_be_forgotten(bench: Bench) -> None:
    bench.write(HANG)
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    with pytest.raises(ExecutorError, match="has not ended"):
        executor.forget(attempt)


def test_a_root_that_went_away_is_worth_another_try(bench: Bench) -> None:
    bench.write("pass\n")
    executor = bench.executor()
    aside = bench.root.rename(bench.root.with_name("aside"))
    with pytest.raises(ExecutorUnavailable, match="was moved or its disk taken away"):
        executor.poll()
    aside.rename(bench.root)
    assert dict(executor.poll()) == {}


def test_what_a_power_cut_left_is_passed_over_and_can_be_submitted_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(COUNTED)
    attempt = as_it_was_claimed(bench, monkeypatch)
    (bench.folder(attempt) / "trial.json").write_text("")
    executor = bench.executor()
    assert dict(executor.poll()) == {}
    status = Watch(executor, 10.0).until_ended(executor.submit(a_trial()))
    assert status.outcome is not None
    assert status.outcome.cause is Cause.OK


# Waiting


def rounds_of(executor: LocalExecutor, seconds: float) -> int:
    """Return how often a runner's loop turns in this time, by itself a few times a second."""
    deadline, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        executor.poll()
        executor.wait(0.1)
        rounds += 1
    return rounds


@linux_only
@pytest.mark.fault("F64")
@pytest.mark.parametrize("is_started", [False, True])
def test_a_supervisor_that_is_frozen_makes_no_busy_loop(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, is_started: bool
) -> None:
    monkeypatch.setattr(attempt_module, "START_PATIENCE_SECONDS", 0.05)
    bench.write(HANG)
    attempt = as_it_was_claimed(bench, monkeypatch)
    folder = bench.folder(attempt)
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_started:
            with subprocess.Popen(["true"]) as gone:
                pass
            pids = {"supervisor": gone.pid, "script": None, "script_start": None}
            (folder / "pid.json").write_text(json.dumps(pids | {"started_at": 1.0}))
        executor = bench.executor()
        assert rounds_of(executor, 0.3) < 10
    executor.stop(attempt, Cause.CANCELLED, "the test is over")


@linux_only
@pytest.mark.fault("F64")
def test_a_dead_supervisor_s_lock_that_another_process_holds_makes_no_busy_loop(
    bench: Bench,
) -> None:
    bench.write("import time\nfrom studyflow import sdk\nsdk.report(0, loss=1.0)\n" + HANG)
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    Watch(executor, 10.0).until_reported(attempt)
    pids = read_pids(bench)
    with (bench.folder(attempt) / "lock").open("a") as lock:
        os.kill(pids["supervisor"], signal.SIGKILL)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert rounds_of(executor, 0.4) < 12
        assert not is_alive(pids["script"])
    status = Watch(executor, 10.0).until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.cause is Cause.LOST


def test_waiting_ends_with_the_attempt(bench: Bench) -> None:
    bench.write("import time\ntime.sleep(0.2)\n")
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    began = time.monotonic()
    while executor.poll()[attempt].state is not AttemptState.ENDED:
        executor.wait(60.0)
    assert time.monotonic() - began < 10.0


def test_waiting_ends_with_an_adopted_attempt(bench: Bench) -> None:
    bench.write("import time\ntime.sleep(0.2)\n")
    bench.executor().submit(a_trial())
    executor = bench.executor()
    began = time.monotonic()
    while executor.poll()[AttemptId(0, 1)].state is not AttemptState.ENDED:
        executor.wait(60.0)
    assert time.monotonic() - began < 10.0


def test_without_pidfds_the_end_is_still_noticed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SupervisorHandle, "watch", lambda self, pid: None)
    status = bench.run("pass\n")
    assert status.state is AttemptState.ENDED


def test_an_ended_attempt_is_not_looked_at_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write("pass\n")
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    before = Watch(executor, 10.0).until_ended(attempt)
    for path in bench.folder(attempt).glob("*.json"):
        path.unlink()
    assert executor.poll()[attempt].outcome == before.outcome


def test_two_folders_are_two_places_on_one_machine(bench: Bench, tmp_path: Path) -> None:
    bench.write(HANG)
    other = LocalExecutor("demo", ("python", "train.py"), root=tmp_path / "other", cwd=bench.cwd)

    assert bench.executor().site != other.site
    assert bench.executor().site.rpartition("/")[0] == other.site.rpartition("/")[0]
