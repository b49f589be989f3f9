"""Lines that the SDK prints; a closed pipe or a missing console never stops a training."""

from __future__ import annotations

import contextlib
import sys


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
