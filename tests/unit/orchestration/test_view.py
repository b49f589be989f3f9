"""The view of a study over a server that does not answer."""

from __future__ import annotations

import logging
import threading
from contextlib import nullcontext
from typing import Any

import pytest

from studyflow.context import StudyContext
from studyflow.observers.observer import Progress
from studyflow.settings import Settings
from studyflow.spec import StudySpec

pytestmark = pytest.mark.filterwarnings("default")

STUDY = """
name: flow-test
objectives: [{metric: loss, direction: minimize}]
search_space: {x: {type: float, low: -2, high: 2}}
budget: {n_trials: 4}
trial: {command: [python, train.py]}
"""


class Tasks:
    """Keeps how long the trials' tasks are waited for."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def leave(self) -> None:
        self.calls.append("leave")

    def wait(self, deadline: float) -> None:
        self.calls.append(deadline)


@pytest.mark.parametrize(("error", "longest"), [(None, 0.2), (KeyboardInterrupt, 0.05)])
@pytest.mark.fault("F36")
def test_tasks_and_progress_are_waited_for_together_and_shorter_after_ctrl_c(
    error: type[BaseException] | None,
    longest: float,
    hung: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from studyflow import runner
    from studyflow.orchestration import progress, view

    log = RunLog()
    monkeypatch.setattr(view, "get_run_logger", lambda: log)
    monkeypatch.setattr(progress, "ARTIFACT_SECONDS", 0.01)
    monkeypatch.setattr(view, "QUIET_SECONDS", 0.02)
    monkeypatch.setattr(view, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(runner, "CLOSE_SECONDS", 0.05)
    monkeypatch.setattr(
        progress, "create_progress_artifact", lambda **_named: hung.wait(60) and None
    )
    monkeypatch.setattr(view, "time", Clock())
    tasks: Any = Tasks()
    shown = view.PrefectView(StudyContext(StudySpec.from_text(STUDY), Settings.resolve()), tasks)
    shown.progressed(Progress("flow-test", 1, 4, (), (), 1.0, None))

    with pytest.raises(error) if error else nullcontext(), shown.closing():
        if error:
            raise error

    assert tasks.calls == ["leave", longest], "the deadline counts from the clock's zero"
    assert log.told == ["Waiting up to 0 s for Prefect's server to take the last progress."]


class RunLog(logging.Logger):
    """A flow run's log. No handler of pytest: Prefect sets up all logging when it is imported."""

    def __init__(self) -> None:
        super().__init__("view")
        self.told: list[str] = []

    def handle(self, record: logging.LogRecord) -> None:
        self.told.append(record.getMessage())


class Clock:
    """A time that stands still."""

    def monotonic(self) -> float:
        return 0.0
