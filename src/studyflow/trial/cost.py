"""What an attempt holds while it runs, and what it cost once it has ended: a row of the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from studyflow.reasons import Cause


@dataclass(frozen=True, slots=True)
class Allocation:
    """What an attempt holds from its container's start to its end, whether it uses it or not."""

    gpus: int = 0
    """GPUs that nobody else gets meanwhile; 0 for an attempt that only has a place."""
    resource: str | None = None
    """What they are called, such as `nvidia.com/gpu`; `None` without any."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that its node is known to have: prices may depend on them."""


@dataclass(frozen=True, slots=True)
class AttemptCost:
    """What one ended attempt cost. Written once, together with its end; sums are derived."""

    attempt: int
    """Number of the attempt, from 1."""
    cause: Cause
    """Why it ended."""
    seconds: float = 0.0
    """From the start of its container to its end, by one clock; 0 if it never began."""
    gpus: int = 0
    """GPUs that it held; 0 for an attempt that only had a place."""
    resource: str | None = None
    """What they are called; `None` without any."""
    price: float | None = None
    """Price of an hour of one GPU, or of the place, when it ended; `None` without one."""
    startup_seconds: float | None = None
    """Seconds of these before its first report; `None` if it reported nothing."""
    lost_seconds: float = 0.0
    """Seconds of these that were lost with it: since its last published checkpoint, or since its
    start; 0 for an attempt that nothing of the infrastructure ended."""
    node: str | None = None
    """Node that it ran on; `None` where there is only one machine, or none is known."""
    holder: str | None = None
    """Site that recorded it."""
    recorded_at: float | None = None
    """When that was, in seconds since the epoch, by that site's clock."""
    is_estimate: bool = False
    """Whether the seconds are less certain than one clock's start and end: nobody saw its end, or
    an earlier version recorded it."""

    @property
    def units(self) -> int:
        """What is counted: GPUs, or one place where there are none."""
        return max(self.gpus, 1)

    @property
    def unit_seconds(self) -> float:
        """GPU-seconds, or seconds of a place."""
        return self.units * self.seconds

    @property
    def money(self) -> float | None:
        """What it cost by its price; `None` without one."""
        return None if self.price is None else self.price * self.unit_seconds / 3600


@dataclass(frozen=True, slots=True)
class Why:
    """Why a policy decided something: a sentence, and the numbers that it decided by."""

    message: str
    """A sentence or two for a human."""
    numbers: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """By name: numbers, names and lists of them, as JSON has them."""


@dataclass(frozen=True, slots=True)
class Begin:
    """What the runner knew that began an attempt, written as it began it."""

    attempt: int
    """Number of the attempt."""
    at: float | None = None
    """When, in seconds since the epoch, by the clock of the site that holds it."""
    left: Mapping[str, float] = field(default_factory=dict)
    """What was left of each limit of the budget, by its name: what no ended attempt had spent."""
    resumption: Why | None = None
    """Why it takes up a paused trial; `None` of any other attempt, and as it is read back: see
    `TrialRecord.resumptions`."""
