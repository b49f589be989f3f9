"""What to prepare, and when a suggestion that does not know the newest results is good enough.

A free slot is worth what its trial is worth in the same time. Waiting for a suggestion that knows
everything costs the slot one suggestion's time: next to nothing beside a trial of an hour, and a
third of the slot beside one of a second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

WAIT_SHARE: Final = 0.02
"""Share of a trial's time that its slot waits for a suggestion that knows all results."""

BUSY_SHARE: Final = 0.7
"""From this share of the time on, in which suggestions would be made without a pause, the search
for each is shortened: a burst of free slots would wait for them otherwise."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a runner needs suggestions for."""

    n_free: int
    """Slots that wait for a trial now."""
    n_slots: int
    """All slots: those, and the ones in which a trial runs."""
    room: int
    """Trials that the budget still allows."""
    trial_seconds: float | None
    """How long a trial takes; `None` before the first has ended."""
    suggestion_seconds: float | None
    """How long a suggestion takes; `None` before the first."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to prepare."""

    n_wanted: int = 0
    """For how many trials, the next ones of the study."""
    takes_stale: bool = False
    """Whether a suggestion that misses the newest results is good enough."""
    is_search_short: bool = False
    """Whether the search for each is shortened, in a study of many results."""


def plan(demand: Demand) -> Plan:
    """Return what to prepare.

    Where a suggestion costs little beside a trial, it is made once its slot is free, and knows all
    results: it is the one that the sampler would have given if asked then. Else suggestions are
    made ahead, as many as slots become free in the time that one takes, and one more.
    """
    n_free = min(demand.n_free, demand.room)
    cost, duration = demand.suggestion_seconds, demand.trial_seconds
    n_slots = demand.n_slots
    if cost is None or duration is None or cost <= WAIT_SHARE * duration or n_slots < 2:
        return Plan(n_free)
    # Trials that take no time at all need no more than one suggestion for each slot.
    busy = n_slots * cost / duration if duration > 0 else math.inf
    n_ahead = n_slots if busy >= n_slots else math.ceil(busy) + 1
    n_wanted = min(max(n_free, min(n_ahead, n_slots)), demand.room)
    return Plan(n_wanted, takes_stale=True, is_search_short=busy > BUSY_SHARE)


def is_good_enough(n_missed: int, n_slots: int, *, takes_stale: bool) -> bool:
    """Return whether a suggestion may be used for the next trial.

    Args:
        n_missed: How many results, and trials of other runners, came after it was begun.
        n_slots: How many trials run at once. It never misses more: they ended meanwhile.
        takes_stale: See `Plan`.
    """
    return n_missed == 0 or (takes_stale and n_missed <= n_slots)


def next_to_make(n_missed: Mapping[int, int], next_number: int, wanted: Plan) -> int | None:
    """Return the number of the trial to make a suggestion for; `None` if all are well.

    Args:
        n_missed: By trial that has a suggestion, how many results it misses.
        next_number: The next trial's.
        wanted: What is to be prepared.
    """
    numbers = range(next_number, next_number + wanted.n_wanted)
    missing = [number for number in numbers if number not in n_missed]
    stale = [number for number in numbers if n_missed.get(number)]
    if wanted.takes_stale:  # a slot without any suggestion waits longer than one with an old one
        return next(iter([*missing, *stale]), None)
    return min([*missing, *stale], default=None)  # each builds on those before it
