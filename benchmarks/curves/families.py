"""Made curves, by the formulas of `snapshots.py`, over an objective of four parameters.

The formulas of the two halves differ, and so do their objectives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from benchmarks.curves.snapshots import DIMENSION, FAMILIES, draw_objective
from benchmarks.curves.tasks import STEP_SECONDS, STEPS, Half, Task
from numpy.typing import NDArray

from studyflow.simulation import Params, Training

NAMES: Final = [f"x{i}" for i in range(DIMENSION)]
COSTLY: Final[dict[str, tuple[Half, str, int]]] = {
    "costly-power": ("tune", "power", 0),
    "costly-two-rates": ("report", "two-rates", 3),
}
"""Families whose steps take up to seven times as long, by one parameter: half, formula, which."""
N_POINTS: Final = 4000
_SHARE: Final = np.arange(1, STEPS + 1) / STEPS


class _Typical(np.random.Generator):
    """Draws the middle of each distribution: what a trial is worth without noise."""

    def standard_normal(self, size: Any = None, *_: Any, **__: Any) -> Any:
        return 0.0 if size is None else np.zeros(size)

    def random(self, size: Any = None, *_: Any, **__: Any) -> Any:
        return 0.5 if size is None else np.full(size, 0.5)


@cache
def made() -> tuple[Task, ...]:
    """Return a task of each family."""
    return tuple(_tasks())


def _tasks() -> Iterator[Task]:
    for seed, (name, (half, _)) in enumerate(FAMILIES.items()):
        yield _task(name, name, half, seed, None)
    for seed, (name, (half, formula, costly)) in enumerate(COSTLY.items(), start=100):
        yield _task(name, formula, half, seed, costly)


def _task(name: str, formula: str, half: Half, seed: int, costly: int | None) -> Task:
    quality = draw_objective(np.random.default_rng([seed, 2026]))
    draw = FAMILIES[formula][1]
    typical = _Typical(np.random.PCG64(0))

    def curve(point: Sequence[float], generator: np.random.Generator) -> NDArray[np.float64]:
        return draw(float(quality(np.asarray(point))), point, _SHARE, generator)

    def step_seconds(point: Sequence[float]) -> float:
        factor = 1.0 if costly is None else math.exp(2.0 * point[costly] - 1.0)
        return STEP_SECONDS * factor

    def train(params: Params, own_seed: int) -> Training:
        point = [float(params[n]) for n in NAMES]
        values = curve(point, np.random.default_rng(own_seed))
        return Training(values.tolist(), step_seconds(point))

    def true_value(params: Params) -> float:
        return float(curve([float(params[n]) for n in NAMES], typical)[-1])

    points = np.random.default_rng([seed, 1]).random((N_POINTS, DIMENSION))
    values = np.array([curve(p.tolist(), typical)[-1] for p in points])
    best = points[np.argsort(values)[:5]]
    optimum = min(_descend(lambda p: float(curve(p, typical)[-1]), p.tolist()) for p in best)
    return Task(
        name,
        formula if costly is None else "costly",
        half,
        {n: {"type": "float", "low": 0.0, "high": 1.0} for n in NAMES},
        train,
        true_value,
        optimum,
        float(np.median(values)) - optimum,
        STEPS * float(np.mean([step_seconds(p.tolist()) for p in points])),
    )


def _descend(value: Any, start: Sequence[float]) -> float:
    from scipy.optimize import minimize

    found: Any = minimize(
        lambda p: value(np.clip(p, 0, 1).tolist()), start, method="Nelder-Mead", tol=1e-6
    )
    return min(float(found.fun), float(value(start)))
