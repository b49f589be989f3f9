"""What a study has spent, as sums over its ledger. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from studyflow.reasons import Cause
from studyflow.trial.cost import AttemptCost

_K = TypeVar("_K")


@dataclass(frozen=True, slots=True)
class Spending:
    """What some attempts cost together. Seconds are those of GPUs, or of places without any."""

    n_attempts: int = 0
    n_estimates: int = 0
    """How many of them are estimates."""
    gpu_seconds: float = 0.0
    place_seconds: float = 0.0
    """Seconds of attempts that held no GPU."""
    startup_seconds: float = 0.0
    """Of both kinds, before the first report."""
    lost_seconds: float = 0.0
    """Of both kinds, lost with attempts that the infrastructure ended."""
    money: float = 0.0
    """By their prices."""
    n_unpriced: int = 0
    """How many attempts that ran have no price."""
    by_cause: Mapping[Cause, float] = field(default_factory=dict)
    """Seconds of both kinds, in the order of `Cause`."""
    by_node: Mapping[str, float] = field(default_factory=dict)
    """Seconds of both kinds by node, the largest first; empty where no node is known."""
    restart_seconds: float | None = None
    """What starting an attempt costs before it gets anywhere: the median until the first report;
    `None` before any has reported."""

    @property
    def unit_seconds(self) -> float:
        """Seconds of both kinds: what `budget.gpu_hours` counts."""
        return self.gpu_seconds + self.place_seconds

    @property
    def gpu_hours(self) -> float:
        """Hours of GPUs."""
        return self.gpu_seconds / 3600

    @property
    def unit_hours(self) -> float:
        """Hours of both kinds."""
        return self.unit_seconds / 3600


def spending(rows: Iterable[AttemptCost]) -> Spending:
    """Return what rows of the ledger add up to; the order of the rows does not matter."""
    rows = tuple(rows)
    by_cause = _sums((row.cause, row.unit_seconds) for row in rows)
    by_node = _sums((row.node, row.unit_seconds) for row in rows if row.node is not None)
    return Spending(
        n_attempts=len(rows),
        n_estimates=sum(row.is_estimate for row in rows),
        gpu_seconds=math.fsum(row.unit_seconds for row in rows if row.gpus),
        place_seconds=math.fsum(row.unit_seconds for row in rows if not row.gpus),
        startup_seconds=math.fsum(row.units * (row.startup_seconds or 0.0) for row in rows),
        lost_seconds=math.fsum(row.units * row.lost_seconds for row in rows),
        money=math.fsum(row.money or 0.0 for row in rows),
        n_unpriced=sum(row.price is None and row.seconds > 0 for row in rows),
        by_cause={cause: by_cause[cause] for cause in Cause if cause in by_cause},
        by_node=dict(sorted(by_node.items(), key=lambda item: (-item[1], item[0]))),
        restart_seconds=restart_seconds(rows),
    )


def restart_seconds(rows: Sequence[AttemptCost]) -> float | None:
    """Return the median time until the first report; `None` before any attempt has reported."""
    times = [row.startup_seconds for row in rows if row.startup_seconds is not None]
    return statistics.median(times) if times else None


def _sums(pairs: Iterable[tuple[_K, float]]) -> dict[_K, float]:
    parts: dict[_K, list[float]] = {}
    for key, value in pairs:
        parts.setdefault(key, []).append(value)
    return {key: math.fsum(values) for key, values in parts.items()}
