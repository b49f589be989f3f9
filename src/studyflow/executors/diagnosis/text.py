"""Text from a trial, made fit to be shown."""

from __future__ import annotations

import re
from typing import Final

LINE_LIMIT_CHARS: Final = 300
"""Longest piece of a log shown in a message."""

ANSI: Final = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\-_])")


def readable(text: str, limit_chars: int = LINE_LIMIT_CHARS) -> str:
    """Return text from a trial as one short line without colours and control characters."""
    # What cannot be seen in the result need not be read; escapes may triple a line's length.
    plain = ANSI.sub("", text[: 8 * limit_chars])
    plain = "".join(c if c.isprintable() else " " for c in plain)
    plain = " ".join(plain.split())
    return plain if len(plain) <= limit_chars else plain[: limit_chars - 1] + "…"


def last_line(log_tail: str) -> str:
    """Return the last line of a log that shows anything; empty when none does."""
    # A progress bar rewrites its line; splitlines takes what follows the last return for the last.
    for line in reversed(log_tail.splitlines()):
        # A log that was cut off at its head while it was written to has a hole there, read as NULs.
        if shown := readable(line.lstrip("\0")):
            return shown
    return ""
