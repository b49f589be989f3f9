"""How long an attempt held what it held: from what is known of it, by one clock at a time. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from studyflow.reasons import Cause
from studyflow.trial.cost import Allocation, AttemptCost

_OFTEN_UNSEEN: Final = (Cause.LOST, Cause.NODE_LOST, Cause.EVICTED, Cause.PREEMPTED)
"""Causes of ends that nobody may have seen."""


@dataclass(frozen=True, slots=True)
class Times:
    """When things happened to an attempt, by the clock of the machine that it ran on."""

    started_at: float | None = None
    """Start of its container, in seconds since the epoch."""
    ended_at: float | None = None
    """Its end, as long as somebody saw it."""
    first_report_at: float | None = None
    last_report_at: float | None = None
    checkpoint_at: float | None = None
    """When it published its last checkpoint."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """For how long others have seen an attempt run, each by a clock of its own."""

    watched_seconds: float | None = None
    """Between the first and the last look of the runner that records its end; `None` if that never
    saw it run."""
    held_seconds: float | None = None
    """From its beginning to the last heartbeat of the site that held it, which says more than
    nothing where nobody else saw it; `None` if that is not known."""


def measure(
    attempt: int,
    cause: Cause,
    allocation: Allocation,
    times: Times,
    sighting: Sighting = Sighting(),
    longest_seconds: float | None = None,
) -> AttemptCost:
    """Return the row of an attempt that has ended, without its price and who recorded it.

    A time of one clock is never subtracted from another's. What exceeds the attempt is cut off.

    Args:
        attempt: Its number.
        cause: Why it ended.
        allocation: What it held.
        times: What its own machine says.
        sighting: What others have seen of it.
        longest_seconds: How long any attempt may run; `None` for no limit.
    """
    began, ended = times.started_at, times.ended_at
    if began is not None and ended is not None:
        seconds = max(ended - began, 0.0)
        is_estimate = cause in (Cause.LOST, Cause.NODE_LOST)  # seen when somebody looked
    else:
        first_sign = times.first_report_at if began is None else began
        known = [sighting.watched_seconds, _between(first_sign, times.last_report_at)]
        seen = [seconds for seconds in known if seconds is not None]
        if not seen and sighting.held_seconds is not None:
            seen = [sighting.held_seconds]
        seconds = max(seen, default=0.0)
        is_estimate = bool(seen) or began is not None or cause in _OFTEN_UNSEEN
        if longest_seconds is not None:
            seconds = min(seconds, longest_seconds)
    row = AttemptCost(
        attempt,
        cause,
        seconds,
        allocation.gpus,
        allocation.resource if allocation.gpus else None,
        is_estimate=is_estimate,
    )
    startup = _between(began, times.first_report_at)
    if startup is not None:
        row = replace(row, startup_seconds=min(startup, seconds))
    if cause.is_infrastructure or cause is Cause.PAUSED:
        saved = _between(began, times.checkpoint_at) or 0.0
        row = replace(row, lost_seconds=max(seconds - saved, 0.0))
    return row


def _between(began: float | None, then: float | None) -> float | None:
    return None if began is None or then is None else max(then - began, 0.0)
