"""What an executor found of an attempt's end."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from studyflow.reasons import Reason
from studyflow.trial import Cause


class How(enum.StrEnum):
    """What ended an attempt, before anybody asks why."""

    EXITED = "exited"
    """The script ended by itself, or by a signal that studyflow did not send."""
    TIMEOUT = "timeout"
    """It ran out of time."""
    STOPPED = "stopped"
    """A runner asked for its end."""
    LOST = "lost"
    """Nobody saw its end."""
    FORGED_STOP = "forged-stop"
    """Something else than a runner asked for its end."""
    REMOVED = "removed"
    """Its folder, or what a runner follows it by, was removed or replaced while it ran."""


@dataclass(frozen=True, slots=True)
class Ending:
    """An attempt's end as an executor found it."""

    how: How
    exit_code: int | None = None
    """Exit code of the script, negative for a signal; `None` when it never ran or nobody knows."""
    oom: bool = False
    """Whether the kernel killed something for want of memory while the script ran."""
    finished_first: bool = False
    """Whether the outcome was there before the script was stopped or ran out of time."""
    stop_cause: Cause | None = None
    """What the runner that stopped it wants it to end with."""
    stop_reason: Reason | None = None
    """Why that runner stopped it; `None` where it gave no reason."""
    timeout_seconds: float | None = None
    """The limit that it ran into."""


@dataclass(frozen=True, slots=True)
class NoDocument:
    """Something that stands where `sdk.finish` writes and cannot be read as a document."""

    what: str
    """Such as "a folder"."""
