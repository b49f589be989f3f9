"""Low-discrepancy points."""

from __future__ import annotations

from typing import Any

import numpy as np

from studyflow.samplers.arrays import FloatArray


def sobol(dimension: int, count: int, *, seed: int, skip: int = 0) -> FloatArray:
    """Return scrambled Sobol points in the unit cube, `count x dimension`.

    Touches no global random state.

    Args:
        dimension: At most 21201.
        count: How many points.
        seed: Decides the scrambling, so all points of one sequence need the same.
        skip: Index of the first point returned.
    """
    from torch.quasirandom import SobolEngine

    engine: Any = SobolEngine(dimension, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
    if skip:
        engine.fast_forward(skip)
    return np.asarray(engine.draw(count).double().numpy(), dtype=np.float64)
