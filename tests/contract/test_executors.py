"""Every executor passes the suites that studyflow ships."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from studyflow.executors import AttemptId, Executor
from studyflow.executors.local import LocalExecutor
from studyflow.testing.executor_contract import (
    METRIC,
    STUDY,
    ExecutorContract,
    ExecutorPlace,
    Script,
    ScriptContract,
)
from studyflow.testing.fake_clock import FakeClock
from studyflow.testing.fake_executor import FOREVER, FakeExecutor, FakeMachine
from studyflow.trial import Cause

COUNT_STARTS = """\
import json, os
trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
with open({starts!r}, "a") as file:
    file.write(f"{{trial['number']}}-{{trial['attempt']}}\\n")
"""


class LocalPlace:
    """Processes of this machine below a temporary folder."""

    patience_seconds = 10.0

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._starts = folder / "starts.txt"
        self._executors: list[Executor] = []

    def executor(
        self,
        script: Script,
        *,
        timeout_seconds: float | None = None,
        stop_grace_seconds: float = 0.2,
    ) -> Executor:
        source = COUNT_STARTS.format(starts=str(self._starts)) + script.value
        (self._folder / "train.py").write_text(source)
        executor = LocalExecutor(
            STUDY,
            ["python", "train.py"],
            root=self._folder / "root",
            cwd=self._folder,
            timeout_seconds=timeout_seconds,
            stop_grace_seconds=stop_grace_seconds,
        )
        self._executors.append(executor)
        return executor

    def kill_behind_its_back(self, attempt: AttemptId) -> None:
        folder = self._folder / "root" / "trials" / str(attempt.number)
        pids = json.loads((folder / f"attempt-{attempt.attempt}" / "pid.json").read_text())
        os.kill(pids["supervisor"], signal.SIGKILL)

    def starts(self, attempt: AttemptId) -> int:
        return Counter(self._starts.read_text().split())[str(attempt)]

    def close(self) -> None:
        for executor in self._executors:
            for attempt in executor.poll():
                executor.stop(attempt, Cause.CANCELLED, "the test is over")
            executor.close()


class TestLocalExecutor(ScriptContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[ExecutorPlace]:
        place = LocalPlace(tmp_path)
        yield place
        place.close()


class FakePlace:
    """Functions under a fake clock that behave as the scripts do."""

    patience_seconds = 1.0

    def __init__(self) -> None:
        self._machine = FakeMachine(FakeClock())

    def executor(
        self,
        script: Script,
        *,
        timeout_seconds: float | None = None,
        stop_grace_seconds: float = 0.2,
    ) -> FakeExecutor:
        hangs = script is Script.HANG
        return FakeExecutor(
            STUDY,
            objective=lambda params: {METRIC: 0.5},
            duration=FOREVER if hangs else 3.0,
            curve=lambda params: [{METRIC: 1 / (i + 1)} for i in range(1 if hangs else 3)],
            timeout_seconds=timeout_seconds,
            stop_seconds=stop_grace_seconds,
            machine=self._machine,
        )

    def kill_behind_its_back(self, attempt: AttemptId) -> None:
        FakeExecutor(STUDY, machine=self._machine).lose(attempt)

    def starts(self, attempt: AttemptId) -> int:
        return sum(
            AttemptId(trial.number, trial.attempt) == attempt for trial in self._machine.submitted
        )


class TestFakeExecutor(ExecutorContract):
    @pytest.fixture
    def place(self) -> ExecutorPlace:
        return FakePlace()
