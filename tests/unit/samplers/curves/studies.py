"""Learning curves that several tests share."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from studyflow.samplers.arrays import FloatArray
from studyflow.samplers.curves.kernel import CurveHyperparameters
from studyflow.samplers.curves.reports import LearningCurves, read_curves

GROUPS = np.array([0, 1, 1])


def some_hyperparameters() -> CurveHyperparameters:
    return CurveHyperparameters(
        lengthscales=np.array([0.6, 1.3]),
        final=1.2,
        common=2.0,
        own=0.3,
        offset=0.05,
        walk=0.2,
        noise=0.01,
        time=0.5,
        eta=0.2,
    )


def power_law(end: float, step: int) -> float:
    """Return a loss that falls to about `end`."""
    return end + 1.0 / math.sqrt(step)


def study(
    n: int = 12, *, n_ended: int = 4, steps: int = 27, unit: float = 1.0, zero: float = 0.0
) -> LearningCurves:
    """Return losses of which the first `n_ended` trials went to their end, the others not."""
    features = np.random.default_rng(0).random((n, 3))
    reports = curves_at(features, n_ended=n_ended, steps=steps, unit=unit, zero=zero)
    finals = [unit * power_law(x[0], steps) + zero for x in features[:n_ended]]
    return read_curves(
        features,
        GROUPS,
        reports,
        [*finals, *[None] * (n - n_ended)],
        steps=steps,
        maximize=unit < 0.0,
    )


def curves_at(
    features: FloatArray, *, n_ended: int, steps: int, unit: float = 1.0, zero: float = 0.0
) -> list[Mapping[int, float]]:
    known = [steps if i < n_ended else 1 + i % 9 for i in range(len(features))]
    return [
        {step: unit * power_law(x[0], step) + zero for step in range(1, last + 1)}
        for x, last in zip(features, known, strict=True)
    ]
