"""What Prefect is asked when a runner is told to end, and what a flow's body ends in."""

from __future__ import annotations

import errno
import logging
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from studyflow.errors import StorageUnavailable

pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.fault("F36")
def test_a_server_that_hangs_does_not_hold_up_a_runner_that_is_told_to_end(
    hung: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studyflow.orchestration import run_states

    monkeypatch.setattr(run_states, "get_run_logger", lambda: logging.getLogger("view"))
    monkeypatch.setattr(run_states, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(run_states, "current_run", lambda: SimpleNamespace(id="1"))
    monkeypatch.setattr(run_states, "get_client", lambda **_named: hung.wait(60))

    assert not run_states.is_cancelled()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            StorageUnavailable("The storage is away.", hint="wait"),
            "The storage is away. Hint: wait",
        ),
        (OSError(errno.ENOSPC, "Disk full", "/data"), "Cannot use /data: Disk full."),
    ],
)
def test_what_a_person_can_mend_is_the_failed_states_message_and_kept_for_the_exit_code(
    error: Any, message: str
) -> None:
    from studyflow.orchestration.run_states import conclude
    from studyflow.orchestration.screen import Screen

    def body() -> None:
        raise error

    screen = Screen()
    with screen.in_use():
        state: Any = conclude(body)

    assert state.is_failed()
    assert state.message.startswith(message)
    assert screen.error is error


@pytest.mark.parametrize("error", [ValueError("a fault of ours"), OSError("no number")])
def test_a_fault_of_ours_keeps_its_stack_trace(error: Exception) -> None:
    from studyflow.orchestration.run_states import conclude

    def body() -> None:
        raise error

    with pytest.raises(type(error)):
        conclude(body)
