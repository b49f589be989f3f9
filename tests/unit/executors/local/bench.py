"""A study's folder with a script in it, and what tests of local attempts ask of it."""

from __future__ import annotations

import json
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from studyflow.executors import AttemptId, AttemptStatus
from studyflow.executors.local import LocalExecutor
from studyflow.executors.local.starting import SupervisorStarter
from studyflow.testing.executor_contract import Watch
from studyflow.trial import Cause, Trial

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux keeps a process tree together"
)

FIRST = AttemptId(0, 1)
HANG = "import time\nwhile True: time.sleep(0.05)\n"


def a_trial(number: int = 0, attempt: int = 1, **params: float) -> Trial:
    return Trial("demo", number, params, attempt=attempt, metrics=("loss",))


class Bench:
    """A study's folder with a script in it, and executors for it that are closed in the end."""

    def __init__(self, folder: Path) -> None:
        self.cwd = folder / "study"
        self.cwd.mkdir()
        self.root = folder / "root"
        self._executors: list[LocalExecutor] = []

    def write(self, source: str, name: str = "train.py") -> None:
        (self.cwd / name).write_text(textwrap.dedent(source))

    def executor(
        self, command: Sequence[str] = ("python", "train.py"), **options: Any
    ) -> LocalExecutor:
        options.setdefault("stop_grace_seconds", 0.1)
        executor = LocalExecutor("demo", command, root=self.root, cwd=self.cwd, **options)
        self._executors.append(executor)
        return executor

    def folder(self, attempt: AttemptId) -> Path:
        return self.root / "trials" / str(attempt.number) / f"attempt-{attempt.attempt}"

    def run(self, source: str, trial: Trial | None = None, **options: Any) -> AttemptStatus:
        self.write(source)
        executor = self.executor(**options)
        return Watch(executor, 10.0).until_ended(executor.submit(trial or a_trial()))

    def log(self, attempt: AttemptId = FIRST) -> str:
        return (self.folder(attempt) / "log.txt").read_text()

    def close(self) -> None:
        for executor in self._executors:
            for attempt in executor.poll():
                executor.stop(attempt, Cause.CANCELLED, "the test is over")
            executor.close()


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.005)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def read_pids(bench: Bench, attempt: AttemptId = FIRST) -> dict[str, Any]:
    def script_started() -> bool:
        path = bench.folder(attempt) / "pid.json"
        return path.exists() and json.loads(path.read_text())["script"] is not None

    until(script_started)
    pids: dict[str, Any] = json.loads((bench.folder(attempt) / "pid.json").read_text())
    return pids


def as_it_was_claimed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> AttemptId:
    """Leave what a runner leaves that is killed between claiming an attempt and starting it."""
    with monkeypatch.context() as patch:
        patch.setattr(SupervisorStarter, "start", lambda self, attempt, cgroup: None)
        executor = bench.executor()
        attempt = executor.submit(a_trial())
        executor.close()
    return attempt


COUNTED = "from studyflow import sdk\nprint('started')\nsdk.finish(loss=1.0)\n"
