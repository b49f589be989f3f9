"""A runner that is killed at a named step: `python -m tests.faults.killed_runner STEP ARGUMENTS`.

The arguments are those of `studyflow`. SIGKILL comes in the middle of the second such step, so one
trial has gone through it before.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

from studyflow.cli import main
from studyflow.executors.local import LocalExecutor
from studyflow.spec.space import SearchSpace
from studyflow.study import Study
from studyflow.study.attempt_storage import AttemptStorage
from studyflow.tracking.mlflow import MLflowTracker

BEFORE, AFTER = "before", "after"

STEPS: Final[dict[str, tuple[type, str, str]]] = {
    "asked, without parameters": (SearchSpace, "suggest", BEFORE),
    "asked": (Study, "ask", AFTER),
    "about to submit": (LocalExecutor, "submit", BEFORE),
    "submitted": (LocalExecutor, "submit", AFTER),
    "outcome read": (Study, "tell", BEFORE),
    "about to write the end": (AttemptStorage, "set_trial_state_values", BEFORE),
    "told": (Study, "tell", AFTER),
    "about to show in MLflow": (MLflowTracker, "close_trial", BEFORE),
    "shown in MLflow": (MLflowTracker, "close_trial", AFTER),
    "about to forget": (LocalExecutor, "forget", BEFORE),
    "forgotten": (LocalExecutor, "forget", AFTER),
}
"""Where a step is: the class, its method, and the side of it."""

PAUSE_STEPS: Final[dict[str, tuple[type, str, str]]] = {
    "told to pause": (LocalExecutor, "stop", AFTER),
    "about to record a pause": (Study, "end_attempt", BEFORE),
    "pause recorded": (Study, "end_attempt", AFTER),
    "taken up, not submitted": (Study, "begin_attempt", AFTER),
}
"""The same of studies that pause trials."""


def arm(step: str, n_passed: int = 1) -> None:
    """Kill this process at a step, after it was passed some times."""
    owner, method, side = (STEPS | PAUSE_STEPS)[step]
    call: Callable[..., Any] = getattr(owner, method)
    left = [n_passed]

    @functools.wraps(call)
    def deadly(*arguments: Any, **named: Any) -> Any:
        if left[0] == 0 and side == BEFORE:
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*arguments, **named)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return result

    setattr(owner, method, deadly)


if __name__ == "__main__":
    arm(sys.argv[1])
    main(sys.argv[2:])
