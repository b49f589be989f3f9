"""Exit codes of every command, so that scripts can tell what to do next."""

from __future__ import annotations

from typing import Final

from studyflow import interrupt
from studyflow.errors import (
    PlatformError,
    SpecError,
    StudyflowError,
    StudyMismatch,
    StudyNotFound,
    TableError,
)
from studyflow.reasons import Code, ReasonCode

FAILED: Final = 1
"""The study ended without a result, or its trials cannot work."""
BAD_INPUT: Final = 2
"""The study file, a table, a flag or a name is wrong; nothing was started."""
UNAVAILABLE: Final = 3
"""Something does not answer. Nothing is lost: the same command continues later."""
MOSTLY_FAILED: Final = 4
"""The study has spent its budget and has a result, but most of its latest trials failed."""
INTERRUPTED: Final = interrupt.EXIT_CODE
"""Ctrl-C or SIGTERM: running trials were stopped, finished ones are kept."""


def exit_code(error: StudyflowError) -> int:
    """Return the exit code that goes with an error."""
    wrong = SpecError | PlatformError | StudyMismatch | StudyNotFound | TableError
    if isinstance(error, wrong):
        return BAD_INPUT
    return UNAVAILABLE if error.retryable else FAILED


def exit_code_of_run(code: ReasonCode, *, is_failure: bool) -> int:
    """Return the exit code of a study that has ended.

    Args:
        code: Why no further trial is started.
        is_failure: Whether it ended because its trials cannot work, or without a result.
    """
    if is_failure:
        return FAILED
    return MOSTLY_FAILED if code is Code.MOSTLY_FAILED else 0
