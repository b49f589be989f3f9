"""The process that makes suggestions: it answers, and ends with its runner."""

from __future__ import annotations

import os
import queue
import select
import signal
import subprocess
import sys
from contextlib import closing
from typing import Any

import psutil
import pytest
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection

from studyflow.samplers.ahead.documents import Answer, Failed, Prepared, Setup, Update
from studyflow.samplers.ahead.policy import Plan
from studyflow.samplers.ahead.worker import WorkerProcess
from studyflow.samplers.strategy import Strategy

pytestmark = pytest.mark.slow

SETUP = Setup(Strategy(seed=1, search_space={"x": FloatDistribution(0.0, 1.0)}), 60.0)
TWO = Update((), (StudyDirection.MINIMIZE,), 0, 0, Plan(2))
PATIENCE_SECONDS = 50.0


def test_it_answers_in_order_and_is_gone_when_it_is_closed() -> None:
    answers: queue.Queue[Answer] = queue.Queue()
    worker = WorkerProcess(SETUP, answers.put)
    with closing(worker):
        worker.send(TWO)
        found = [answers.get(timeout=PATIENCE_SECONDS) for _ in range(2)]
    assert [answer.number for answer in found if isinstance(answer, Prepared)] == [0, 1]
    assert not is_alive(worker.pid)
    assert answers.empty(), "closing it is no failure"


def test_one_that_is_killed_says_so() -> None:
    answers: queue.Queue[Answer] = queue.Queue()
    with closing(WorkerProcess(SETUP, answers.put)) as worker:
        os.kill(worker.pid, signal.SIGKILL)
        killed = Failed("the process ended with exit code -9")
        assert answers.get(timeout=PATIENCE_SECONDS) == killed


def test_one_that_cannot_compute_says_why() -> None:
    answers: queue.Queue[Answer] = queue.Queue()
    broken: Any = Setup(None, 60.0)  # type: ignore[arg-type]
    with closing(WorkerProcess(broken, answers.put)) as worker:
        worker.send(TWO)
        answer = answers.get(timeout=PATIENCE_SECONDS)
    assert isinstance(answer, Failed)
    assert answer.reason.startswith("AttributeError: ")


def test_one_that_cannot_read_what_it_is_told_ends_at_once() -> None:
    answers: queue.Queue[Answer] = queue.Queue()
    with closing(WorkerProcess(SETUP, answers.put)) as worker:
        unreadable: Any = Unreadable()
        worker.send(unreadable)
        unread = Failed("the process ended with exit code 1")
        assert answers.get(timeout=PATIENCE_SECONDS) == unread


class Unreadable:
    """Raises what no pickle that is cut off raises."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_it_does_not_get_the_ctrl_c_of_its_runners_terminal() -> None:
    with closing(WorkerProcess(SETUP, lambda _: None)) as worker:
        assert os.getpgid(worker.pid) == worker.pid != os.getpgrp()


def test_it_gets_none_of_its_runners_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("STUDYFLOW_STORAGE", "MLFLOW_TRACKING_PASSWORD", "PREFECT_API_AUTH_STRING", "HOOK")
    for name in secrets:
        monkeypatch.setenv(name, "secret")
    with closing(WorkerProcess(SETUP, lambda _: None)) as worker:
        environment = psutil.Process(worker.pid).environ()
    assert environment["PATH"] == os.environ["PATH"]
    assert "secret" not in environment.values()


RUNNER = """
import sys, time
from tests.unit.samplers.ahead.test_process import SETUP, TWO
from studyflow.samplers.ahead.worker import WorkerProcess
worker = WorkerProcess(SETUP, lambda answer: print(worker.pid, flush=True))
worker.send(TWO)
time.sleep(600)
"""


def test_it_ends_when_its_runner_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", RUNNER], stdout=subprocess.PIPE) as runner:
        assert runner.stdout is not None
        pid = int(runner.stdout.readline())
        assert is_alive(pid)
        with os.fdopen(os.pidfd_open(pid)) as child:
            runner.kill()
            # Readable once the process has ended.
            assert select.select([child], [], [], PATIENCE_SECONDS)[0]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
