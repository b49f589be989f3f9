"""Lines that the SDK prints; a closed pipe or a missing console never stops a training."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def print_line(line: str) -> None:
    """Print a line to standard output, as far as that takes it."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(line)
        sys.stdout.flush()


def print_error(line: str) -> None:
    """Print a line to standard error, as far as that takes it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # None without a console
        sys.stderr.write(line)
        sys.stderr.flush()


def text_of(value: T, write: Callable[[T], str], otherwise: str) -> str:
    """Return what user code makes of a value of its own, such as by `str`, for a message.

    Args:
        value: The value.
        write: Makes a text of it.
        otherwise: The text when that fails: only a message is at stake.
    """
    try:
        return write(value)
    except Exception:  # noqa: BLE001 - user code; a training must not end by a message about it
        return otherwise
