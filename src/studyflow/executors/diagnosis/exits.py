"""What a script's exit code and last lines mean: the first rule that applies gives the cause."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from studyflow.executors.diagnosis.ending import Ending
from studyflow.executors.diagnosis.failures import Failure, last_failures
from studyflow.executors.diagnosis.text import last_line, readable
from studyflow.executors.plain_mlflow import explain_crash
from studyflow.reasons import Reason
from studyflow.trial import Cause, Trial

SHELL_SIGNAL_BASE: Final = 128
"""A shell, and so a script that wraps the training, exits with this plus the number of a signal."""

_OUTSIDE_SIGNALS: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGHUP})
"""Signals that somebody else sends: an administrator, a machine that shuts down."""

_CHILD_KILLED: Final = re.compile(
    r"killed by signal: Killed|^Killed\b|: line \d+: +\d+ Killed\b|exitcode *: -9\b"
    r"|died with <Signals\.SIGKILL"
    r"|terminated with signal SIGKILL|SIGKILL\(-9\)|process pool was terminated abruptly",
    re.MULTILINE,
)
"""How PyTorch's data loader, a shell, torchrun and process pools tell of a child that got
SIGKILL."""


@dataclass(frozen=True, slots=True)
class _Exit:
    """A script that ended by itself, and all that is known of it."""

    code: int | None
    """Negative for a signal; `None` when nobody knows."""
    oom: bool
    """Whether the kernel killed something for want of memory while it ran."""
    failures: tuple[Failure, ...]
    """What ended it by its log, then what that names as its cause."""
    log_tail: str
    trial: Trial

    @property
    def signal_number(self) -> int | None:
        """The signal that ended it; `None` when none did."""
        if self.code is not None and self.code < 0:
            return -self.code
        if self.code is not None and self.code > SHELL_SIGNAL_BASE:
            return self.code - SHELL_SIGNAL_BASE
        return None

    @property
    def signal_name(self) -> str:
        """That signal's name."""
        try:
            return signal.Signals(self.signal_number or 0).name
        except ValueError:
            return f"signal {self.signal_number}"

    @property
    def shown(self) -> str:
        """The last line of its log, behind a blank; empty without one."""
        line = last_line(self.log_tail)
        return f" Last line: {line}" if line else ""


_Judged = tuple[Cause, Reason]


def judge_exit(ending: Ending, log_tail: str, trial: Trial) -> _Judged:
    """Return why a script failed that ended by itself.

    Args:
        ending: How it ended.
        log_tail: The end of standard output and standard error; may be torn and hold anything.
        trial: The attempt.
    """
    found = _Exit(ending.exit_code, ending.oom, last_failures(log_tail), log_tail, trial)
    for rule in _RULES:
        if (judged := rule(found)) is not None:
            return judged
    return _because(Cause.USER_ERROR, f"Exit code {found.code}.{found.shown}")


def _unknown_end(found: _Exit) -> _Judged | None:
    if found.code is not None:
        return None
    return _because(Cause.LOST, "The script ended, and how it ended is not known.")


def _killed_for_memory(found: _Exit) -> _Judged | None:
    child_was_killed = any(
        _CHILD_KILLED.search(f"{failure.line}\n{failure.after}") for failure in found.failures
    )
    if not found.oom or not (found.signal_number == signal.SIGKILL or child_was_killed):
        return None
    return _because(Cause.HOST_OOM, "The kernel killed it for want of memory.")


def _ran_out_of_memory(found: _Exit) -> _Judged | None:
    for failure in found.failures:
        if cause := failure.memory_cause:
            return _because(cause, readable(failure.line))
    return None


def _refused_by_mlflow(found: _Exit) -> _Judged | None:
    is_crash = found.code is not None and found.code > 0
    reason = explain_crash(found.log_tail, found.trial) if is_crash else None
    return None if reason is None else (Cause.USER_ERROR, reason)


def _killed_from_outside(found: _Exit) -> _Judged | None:
    if found.signal_number not in _OUTSIDE_SIGNALS:
        return None
    return _because(Cause.LOST, f"Killed by {found.signal_name} from outside.{found.shown}")


def _killed_by_itself(found: _Exit) -> _Judged | None:
    if found.code is None or found.code >= 0:
        return None
    return _because(Cause.USER_ERROR, f"Killed by {found.signal_name}.{found.shown}")


def _because(cause: Cause, message: str) -> _Judged:
    return cause, Reason(cause, message)


_RULES: Final[tuple[Callable[[_Exit], _Judged | None], ...]] = (
    _unknown_end,
    _killed_for_memory,
    _ran_out_of_memory,
    _refused_by_mlflow,
    _killed_from_outside,
    _killed_by_itself,
)
"""In this order: what the kernel did comes before what the script wrote of it."""
