"""Round numbers along an axis."""

from __future__ import annotations

import math


def linear_ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """Return at most about `most` round positions between two numbers."""
    from matplotlib.ticker import MaxNLocator

    locator = MaxNLocator(nbins=max(most - 1, 2), integer=whole, steps=[1, 2, 2.5, 5, 10])
    return [float(p) for p in locator.tick_values(low, high) if low <= p <= high] or [low, high]


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
