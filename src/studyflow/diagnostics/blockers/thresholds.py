"""From when on something is worth telling, and how much of a message is shown."""

from __future__ import annotations

from typing import Final

from studyflow.reports.wording import one_line

SLOW_READ_SECONDS: Final = 1.0
"""A small read that takes longer than this is felt: a runner makes several in every turn."""
LATE_SECONDS: Final = 60.0
"""A flow run that nobody has taken up for longer than this waits in vain."""
QUIET_SECONDS: Final = 900.0
"""Without a sign of life for longer than this, and than three trials, no runner is at work."""
MIN_TRIALS: Final = 3
"""Trials from which anything is concluded."""
MUCH_WAITING_SECONDS: Final = 10.0
"""What a trial may wait without anybody being told."""
MAX_MESSAGE_CHARS: Final = 300
"""Longest piece of somebody else's message that is shown."""


def shown(text: str) -> str:
    """Return somebody else's message as one short line."""
    return one_line(text, MAX_MESSAGE_CHARS)
