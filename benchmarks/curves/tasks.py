"""What is tuned: a search space, and the curve of each of its points."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from studyflow.simulation import Params, Training

Half = Literal["tune", "report"]
STEPS = 27
"""Steps of a whole training: three rungs of a reduction by 3."""
STEP_SECONDS = 60.0
"""Virtual time of a usual step."""
FLOOR = 1e-3
"""Regret below this share of a random point's counts as this much: no tuner needs more."""


@dataclass(frozen=True)
class Task:
    """One problem of the suite; smaller is better."""

    name: str
    family: str
    half: Half
    space: Mapping[str, Mapping[str, Any]]
    """As `search_space` in a study file."""
    train: Callable[[Params, int], Training]
    """A trial's training, by its parameters and a seed for its noise."""
    true_value: Callable[[Params], float]
    """What a whole training is worth, without noise."""
    optimum: float
    """The least true value there is, or that was ever found."""
    scale: float
    """Median regret of a random point."""
    full_seconds: float
    """Mean time of a whole training of a random point, without any start-up."""

    def regret(self, value: float | None) -> float:
        """Return how far a value is from the optimum, floored; of none, ten random points'."""
        if value is None or not math.isfinite(value):
            return 10 * self.scale
        return max(value - self.optimum, FLOOR * self.scale)


def all_tasks() -> dict[str, Task]:
    """Return the whole suite by name; a real training is trained when it is asked for."""
    from benchmarks.curves.families import made
    from benchmarks.curves.trainings import real

    return {task.name: task for task in (*made(), *real())}
