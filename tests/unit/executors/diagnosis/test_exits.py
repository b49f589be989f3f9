"""What an exit code and the last lines of a log mean, one rule after the other."""

# ruff: noqa: E501 - a table reads best with one row a line

from __future__ import annotations

from dataclasses import replace

import pytest

from studyflow.executors.diagnosis.ending import Ending, How
from studyflow.executors.diagnosis.exits import judge_exit
from studyflow.reasons import Reason
from studyflow.trial import Cause, TrackingRef, Trial

TRIAL = Trial("demo", 7, {"x": 1.0}, metrics=("loss",))
TRACEBACK = 'Traceback (most recent call last):\n  File "train.py", line 3, in <module>\n'
CUDA_OOM = f"{TRACEBACK}torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n"
HOST_OOM = f"{TRACEBACK}MemoryError: Unable to allocate 8 GiB\n"
LOADER = f"{TRACEBACK}RuntimeError: DataLoader worker (pid 12) is killed by signal: Killed.\n"


def exited(code: int | None, *, oom: bool = False) -> Ending:
    return Ending(How.EXITED, exit_code=code, oom=oom)


@pytest.mark.parametrize(
    ("ending", "log", "cause", "message"),
    [
        # Nobody knows how it ended: no log makes up for that.
        (exited(None), "", Cause.LOST, "The script ended, and how it ended is not known."),
        (exited(None, oom=True), CUDA_OOM, Cause.LOST, "The script ended, and how it ended is not known."),
        # The kernel killed something: it has to be what ended the script.
        (exited(-9, oom=True), "", Cause.HOST_OOM, "The kernel killed it for want of memory."),
        (exited(137, oom=True), "", Cause.HOST_OOM, "The kernel killed it for want of memory."),
        (exited(1, oom=True), LOADER, Cause.HOST_OOM, "The kernel killed it for want of memory."),
        (exited(1, oom=True), "train.sh: line 4:    12 Killed     python train.py", Cause.HOST_OOM, "The kernel killed it for want of memory."),
        (exited(1, oom=True), "Killed\n", Cause.HOST_OOM, "The kernel killed it for want of memory."),
        (exited(1, oom=True), "ValueError: no such file", Cause.USER_ERROR, "Exit code 1. Last line: ValueError: no such file"),
        (exited(-9, oom=True), CUDA_OOM, Cause.HOST_OOM, "The kernel killed it for want of memory."),
        # What the script says of memory comes before what its code says.
        (exited(1), CUDA_OOM, Cause.CUDA_OOM, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"),
        (exited(1), HOST_OOM, Cause.HOST_OOM, "MemoryError: Unable to allocate 8 GiB"),
        (exited(-6), f"{TRACEBACK}std::bad_alloc\n", Cause.HOST_OOM, "std::bad_alloc"),
        (exited(1), f"{CUDA_OOM}retrying with a smaller batch\nepoch 1\nepoch 2\n", Cause.USER_ERROR, "Exit code 1. Last line: epoch 2"),
        # Signals that only others send.
        (exited(-9), "", Cause.LOST, "Killed by SIGKILL from outside."),
        (exited(-15), "epoch 3", Cause.LOST, "Killed by SIGTERM from outside. Last line: epoch 3"),
        (exited(-1), "", Cause.LOST, "Killed by SIGHUP from outside."),
        (exited(137), "", Cause.LOST, "Killed by SIGKILL from outside."),
        (exited(143), "", Cause.LOST, "Killed by SIGTERM from outside."),
        # Signals that a script brings on itself.
        (exited(-11), "", Cause.USER_ERROR, "Killed by SIGSEGV."),
        (exited(-6), "free(): invalid pointer", Cause.USER_ERROR, "Killed by SIGABRT. Last line: free(): invalid pointer"),
        (exited(-200), "", Cause.USER_ERROR, "Killed by signal 200."),
        # A shell's code for such a signal is a code like any other.
        (exited(139), "", Cause.USER_ERROR, "Exit code 139."),
        # All else.
        (exited(0), "", Cause.USER_ERROR, "Exit code 0."),
        (exited(1), "", Cause.USER_ERROR, "Exit code 1."),
        (exited(128), "", Cause.USER_ERROR, "Exit code 128."),
        (exited(2), "usage: train.py\n\n \n", Cause.USER_ERROR, "Exit code 2. Last line: usage: train.py"),
        (exited(1), "\x1b[31mred\x1b[0m alert", Cause.USER_ERROR, "Exit code 1. Last line: red alert"),
    ],
)  # fmt: skip
def test_the_first_rule_that_applies_gives_cause_and_message(
    ending: Ending, log: str, cause: Cause, message: str
) -> None:
    assert judge_exit(ending, log, TRIAL) == (cause, Reason(cause, message))


def test_what_mlflow_refused_comes_with_its_way_out() -> None:
    trial = replace(TRIAL, tracking=TrackingRef("http://mlflow:5000", "abc"))
    log = (
        f"{TRACEBACK}mlflow.exceptions.RestException: RESOURCE_DOES_NOT_EXIST: "
        "Run with id=abc not found\n"
    )

    cause, reason = judge_exit(exited(1), log, trial)

    assert cause is Cause.USER_ERROR
    assert "http://mlflow:5000" in reason.message
    assert reason.hint is not None
    assert "MLFLOW_TRACKING_URI" in reason.hint


@pytest.mark.parametrize("code", [-9, None])
def test_what_mlflow_refused_does_not_explain_a_script_that_was_killed(code: int | None) -> None:
    trial = replace(TRIAL, tracking=TrackingRef("http://mlflow:5000", "abc"))
    log = f"{TRACEBACK}RestException: RESOURCE_DOES_NOT_EXIST: Run with id=abc not found\n"

    assert judge_exit(exited(code), log, trial)[0] is Cause.LOST
