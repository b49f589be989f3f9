"""Round numbers along an axis."""

from __future__ import annotations

import math
from typing import Final

_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)


def linear_ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """Return at most about `most` round positions between two numbers."""
    step = _step((high / 2 - low / 2) * 2 / max(most - 1, 2), whole=whole)
    if not 0.0 < step < math.inf or abs(low) / step > 1e9 or abs(high) / step > 1e9:
        return [low, high]
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = 12 - math.floor(math.log10(max(abs(low), abs(high), step)))
    found = (round(i * step, min(max(digits, -300), 300)) for i in range(first, last + 1))
    return [p for p in found if low <= p <= high] or [low, high]


def _step(least: float, *, whole: bool) -> float:
    """Return the smallest round distance of at least `least`; whole numbers have whole ones."""
    if whole and least <= 1.0:
        return 1.0
    if not 0.0 < least < math.inf:
        return math.nan
    power = 10.0 ** math.floor(math.log10(least))
    for factor in _STEPS:
        step = factor * power
        if step >= least * (1 - 1e-9) and not (whole and step != int(step)):
            return step
    return 10.0 * power


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Return at most about `most` round positions between two positive numbers."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    slack = 1 + 1e-9
    for factors in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
        positions = [
            float(f"{factor}e{power}")
            for power in range(first, last + 1)
            for factor in factors
            if low / slack <= float(f"{factor}e{power}") <= high * slack
        ]
        if len(positions) >= min(3, most):
            break
    if len(positions) < 2:
        return [low, high]
    stride = math.ceil(len(positions) / most)
    return positions[::stride]
