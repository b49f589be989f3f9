"""Where simulated trials run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Cluster:
    """A place with slots, where starting costs time and attempts are lost now and then.

    Raises:
        ValueError: A number is out of its range.
    """

    slots: int = 1
    """How many attempts run at once."""
    pod_seconds: float = 0.0
    """From a launch to the start of its container: takes a slot, and holds and costs no GPU."""
    startup_seconds: float = 0.0
    """From the start of a container to its training: imports, data, a checkpoint to load. Every
    attempt pays it, so it is what a restart costs."""
    checkpoint_every: int | None = None
    """Reports between two published checkpoints: the next attempt of a trial goes on behind the
    last one. `None` without checkpoints: it begins anew."""
    losses_per_hour: float = 0.0
    """How many attempts an hour of one running attempt loses to the infrastructure."""
    stop_seconds: float = 0.0
    """From a stop to the attempt's end; its GPUs are held until then."""
    suggestion_seconds: float = 0.0
    """Virtual time that each suggestion takes: the slot stands empty meanwhile, and costs
    nothing."""
    seed: int = 0
    """Of the losses."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.slots < 1:
            raise ValueError(f"slots must be at least 1, but it is {self.slots}")
        if self.checkpoint_every is not None and self.checkpoint_every < 1:
            raise ValueError(f"checkpoint_every must be at least 1: {self.checkpoint_every}")
        names = ("pod_seconds", "startup_seconds", "losses_per_hour", "stop_seconds")
        for name in (*names, "suggestion_seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, but it is {getattr(self, name)}")

    def seconds_until_loss(self, number: int, attempt: int) -> float:
        """Return after how many seconds of running an attempt is lost; infinite for never.

        Args:
            number: Number of the trial.
            attempt: Number of the attempt.
        """
        if not self.losses_per_hour:
            return float("inf")
        draws = np.random.default_rng([self.seed, number, attempt])
        return float(draws.exponential(3600.0 / self.losses_per_hour))
