"""What trials do in a simulation: the values they report, and how long that takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from studyflow.trial import Cause

Params = Mapping[str, Any]
"""A trial's parameters: numbers, texts and truth values by name."""


@dataclass(frozen=True, slots=True)
class Training:
    """One trial from its first step to its end, if nothing stops it.

    Raises:
        ValueError: The parts do not fit together, or a time is negative.
    """

    values: Sequence[float] = ()
    """The first objective, by report; empty for a training that reports nothing."""
    seconds: float | Sequence[float] = 1.0
    """How long each step takes: one number for all, or one for each report."""
    final: float | Mapping[str, float] | None = None
    """What it finishes with: the first objective, or all metrics; the last value by default."""
    steps: Sequence[int] | None = None
    """Number of the step of each report, ascending; 0, 1, 2, … by default."""
    tail_seconds: float = 0.0
    """Time after the last report, such as for a test; all of it for one that reports nothing."""
    gpus: int | None = None
    """GPUs that an attempt holds; `None` for what the study file asks for."""
    cause: Cause = Cause.OK
    """How it ends after its last step."""

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        n = len(self.values)
        if self.steps is not None and len(self.steps) != n:
            raise ValueError(f"steps: {len(self.steps)} numbers for {n} values")
        if not isinstance(self.seconds, float | int) and len(self.seconds) != n:
            raise ValueError(f"seconds: {len(self.seconds)} times for {n} values")
        times = [self.tail_seconds, *self.step_seconds]
        if any(math.isnan(time) or time < 0 for time in times):
            raise ValueError(f"seconds: a time is negative or NaN: {min(times)}")

    @property
    def step_seconds(self) -> tuple[float, ...]:
        """How long it takes to each report from the one before."""
        if isinstance(self.seconds, float | int):
            return (float(self.seconds),) * len(self.values)
        return tuple(map(float, self.seconds))

    @property
    def total_seconds(self) -> float:
        """How long all of it takes, without any start-up."""
        return math.fsum(self.step_seconds) + self.tail_seconds

    def step(self, index: int) -> int:
        """Return the number of the step of a report."""
        return index if self.steps is None else int(self.steps[index])

    def metrics(self, objective: str) -> dict[str, float]:
        """Return what it finishes with; nothing for one that fails.

        Args:
            objective: Name of the first objective.
        """
        if self.cause is not Cause.OK:
            return {}
        if isinstance(self.final, Mapping):
            return {name: float(value) for name, value in self.final.items()}
        if self.final is None and not len(self.values):
            return {}
        return {objective: float(self.values[-1] if self.final is None else self.final)}


class Workload(Protocol):
    """Gives each trial its training."""

    def __call__(self, params: Params, seed: int, /) -> Training:
        """Return the training of one trial; the same for the same arguments.

        Args:
            params: The trial's.
            seed: A number of this trial's own, for noise.
        """
