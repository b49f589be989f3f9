"""How much of the objectives' box the Pareto front dominates."""

from __future__ import annotations

import math
from collections.abc import Sequence

from studyflow.reports.data import StudyData

Point = tuple[float, ...]

MAX_OBJECTIVES = 3
"""Beyond, a volume at each trial takes too long."""


def hypervolume(data: StudyData) -> tuple[list[int], list[float]]:
    """Return the numbers of feasible trials and the hypervolume dominated up to each.

    The box of all feasible values is scaled to the unit cube, its worst corner is the reference.
    """
    signs = [1.0 if d == "minimize" else -1.0 for d in data.spec.directions]
    feasible = [r for r in data.complete if r.is_feasible and r.values is not None]
    costs = [tuple(s * v for s, v in zip(signs, r.values or (), strict=True)) for r in feasible]
    scaled = list(zip(*(_scaled([c[i] for c in costs]) for i in range(len(signs))), strict=True))
    front: list[Point] = []
    volumes: list[float] = []
    for point in scaled:
        if not any(_covers(other, point) for other in front):
            front = [other for other in front if not _covers(point, other)] + [point]
            volumes.append(_volume(front))
        else:
            volumes.append(volumes[-1])
    return [record.number for record in feasible], volumes


def _covers(one: Point, other: Point) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True))


def _volume(front: Sequence[Point]) -> float:
    """Return the volume between a front and the corner (1, 1, …), slice by slice."""
    if len(front[0]) == 1:
        return 1.0 - min(point[0] for point in front)
    ordered = sorted(front, key=lambda point: point[-1])
    ends = [*(point[-1] for point in ordered[1:]), 1.0]
    total = 0.0
    for i, (point, end) in enumerate(zip(ordered, ends, strict=True)):
        if end > point[-1]:
            total += (end - point[-1]) * _volume([p[:-1] for p in ordered[: i + 1]])
    return total


def _scaled(column: Sequence[float]) -> list[float]:
    low, high = min(column, default=0.0), max(column, default=0.0)
    if high - low == math.inf:  # halves of floats differ by a float
        return _scaled([v / 2 for v in column])
    return [(v - low) / (high - low) if high > low else 0.0 for v in column]
