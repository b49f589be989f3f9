"""The steps at which curves are read and decided about."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from studyflow.samplers.arrays import FloatArray

MAX_RUNGS: Final = 12
"""Steps of a curve that the model reads, at most; its matrix has a row for each."""
_WARP: Final = 0.25
"""Power of the share of steps in which a curve changes at an even pace. Logarithms stretch the
first steps so far that the second half of a training looks like its end."""


def rungs(steps: int) -> tuple[int, ...]:
    """Return 1, 2, 3, 5, 8, ... and the last step; of very long trainings at most `MAX_RUNGS`.

    Args:
        steps: The steps of a whole training, at least 1.
    """
    found = [1]
    following = 2
    while found[-1] < steps:
        found.append(min(following, steps))
        following = found[-1] + found[-2]
    while len(found) > MAX_RUNGS:
        # Leave out the step whose neighbours are nearest to each other, on the logarithmic scale.
        gaps = [math.log(found[i + 1] / found[i - 1]) for i in range(1, len(found) - 1)]
        del found[1 + int(np.argmin(gaps))]
    return tuple(found)


def progress(steps: int) -> FloatArray:
    """Return how far along each rung is on the model's axis of time, from 0 to 1."""
    share = np.array(rungs(steps)) / steps
    if steps == 1:
        return np.ones(1)
    first = steps**-_WARP
    return np.asarray((share**_WARP - first) / (1.0 - first))
