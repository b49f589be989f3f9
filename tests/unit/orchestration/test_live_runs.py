"""Which flow runs live: told by locks that the kernel frees, and by nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from studyflow.settings import Settings

if TYPE_CHECKING:  # the module imports Prefect
    from studyflow.orchestration.live_runs import FlowRunMarks

pytestmark = [pytest.mark.fault("F77"), pytest.mark.filterwarnings("default")]

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_SH)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def marks(home: Path) -> FlowRunMarks:
    from studyflow.orchestration.live_runs import FlowRunMarks

    return FlowRunMarks(Settings.resolve(home=home, environment={}))


def test_a_run_that_nobody_marked_is_never_known_to_have_ended(marks: FlowRunMarks) -> None:
    assert marks.ended() == {}


def test_a_marked_run_lives_until_its_file_is_closed(marks: FlowRunMarks) -> None:
    with marks.hold("run-1"), marks.hold("run-2"):
        assert marks.ended() == {}
    assert sorted(marks.ended()) == ["run-1", "run-2"]
    marks.forget("run-1")
    marks.forget("run-1")
    assert sorted(marks.ended()) == ["run-2"]


def test_a_killed_process_has_ended_and_a_stopped_one_has_not(
    marks: FlowRunMarks, home: Path
) -> None:
    marks.hold("run").close()
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", HOLD, str(home / "prefect" / "runs" / "run.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        process.send_signal(signal.SIGSTOP)
        assert marks.ended() == {}
        process.kill()
        process.wait()
        assert list(marks.ended()) == ["run"]


def test_a_process_may_replace_one_that_is_just_ending(marks: FlowRunMarks) -> None:
    ending = marks.hold("run")
    with marks.hold("run"):
        ending.close()
        assert marks.ended() == {}


def test_a_mark_tells_when_its_run_was_last_known_to_live(marks: FlowRunMarks, home: Path) -> None:
    with marks.hold("run"):
        os.utime(home / "prefect" / "runs" / "run.lock", (50.0, 50.0))
    assert marks.ended() == {"run": 50.0}
    marks.renew("run")
    assert marks.ended()["run"] > 50.0


def test_on_a_network_share_a_lock_proves_nothing(
    marks: FlowRunMarks, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks.hold("run").close()
    monkeypatch.setattr("studyflow.orchestration.live_runs.is_on_network", lambda _: True)
    assert marks.ended() == {}
