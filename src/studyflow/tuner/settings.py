"""Numbers of the loop."""

from __future__ import annotations

from dataclasses import dataclass

from studyflow.ledger.prices import NO_PRICES, Prices
from studyflow.study import LEASE_SECONDS


@dataclass(frozen=True, slots=True)
class TunerSettings:
    """Numbers of the loop."""

    poll_seconds: float = 1.0
    """Longest pause between two polls of the executor. An executor that notices an end by itself
    wakes the loop earlier, so this bounds only how late a pruning decision may come."""
    tracker_poll_seconds: float = 10.0
    """Pause between two reads of MLflow for metrics that scripts logged without the SDK. Only a
    study with a pruner reads them; one request for all
    running trials that have nothing new."""
    tracker_patience_seconds: float = 300.0
    """How long a trial that ended well and gave nothing waits for an MLflow that is away: what it
    logged may be there."""
    lease_seconds: float = LEASE_SECONDS
    """How long another runner may be silent before this one takes over its trials."""
    prices: Prices = NO_PRICES
    """What an hour of a GPU costs; without any, no attempt has a price."""
