"""What a trial pays before its script does anything: processes and modules, never seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.unit.executors.local.bench import FIRST, Bench

from studyflow.executors.local import supervisor
from studyflow.trial import Cause

SUPERVISE = """
import sys
sys.argv[1:] = ["{folder}", "-", "1.0", "-", "true"]
sys.path.append("{package}")
from supervisor.supervision import supervise
supervise(sys.argv[1:])
print(*sorted(sys.modules))
"""

FINISH = """
from studyflow import sdk
sdk.finish(loss=float(sdk.current_trial().number))
import sys
print(*sorted(sys.modules))
"""


def modules_of(code: str, *options: str) -> set[str]:
    command = [sys.executable, *options, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_a_supervisor_loads_few_modules(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    package = Path(supervisor.PROGRAM).parents[1]
    code = SUPERVISE.format(folder=tmp_path, package=package)
    loaded = modules_of(code, "-I", "-S") - modules_of(
        "import sys; print(*sys.modules)", "-I", "-S"
    )

    assert (tmp_path / "exit.json").exists()
    assert loaded.isdisjoint({"json", "enum", "signal", "ctypes", "pathlib", "re", "typing"})
    assert len(loaded) <= 20, sorted(loaded)


def test_a_script_that_only_finishes_loads_nothing_for_checkpoints_or_networks(
    bench: Bench,
) -> None:
    status = bench.run(FINISH)
    loaded = set(bench.log().split())

    assert status.outcome is not None
    assert status.outcome.cause is Cause.OK
    ours = {name for name in loaded if name.startswith("studyflow")}
    unwanted = {"hashlib", "uuid", "shutil", "tempfile", "socket", "urllib.request", "logging"}
    assert loaded.isdisjoint(unwanted)
    assert ours.isdisjoint({"studyflow.sdk.checkpoints", "studyflow.sdk.mlflow_link"})
    assert len(ours) <= 22, sorted(ours)


def test_a_trial_is_two_processes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    spawn = os.posix_spawn

    def count(path: str, *given: Any, **named: Any) -> int:
        started.append(path)
        return spawn(path, *given, **named)

    monkeypatch.setattr(os, "posix_spawn", count)
    bench.run("import os\nprint(os.getppid(), len(os.listdir('/proc/self/task')))")

    assert len(started) == 1, "the supervisor, which forks the script"
    supervisor_pid = json.loads((bench.folder(FIRST) / "pid.json").read_text())["supervisor"]
    assert bench.log().split() == [str(supervisor_pid), "1"]
