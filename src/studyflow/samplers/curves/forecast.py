"""How each trial will end, with the risk that it does not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from studyflow.samplers.arrays import FloatArray, IntArray
from studyflow.samplers.curves.model import CurveModel
from studyflow.samplers.curves.reports import CurveScale, LearningCurves
from studyflow.samplers.curves.rungs import progress


@dataclass(frozen=True)
class Forecast:
    """How some trials will end, larger is better."""

    trials: IntArray
    """Which, `t`: those neither ended nor lost."""
    mean: FloatArray
    """On the model's scale, for trials that are not lost on the way, `t`."""
    deviation: FloatArray
    """Standard deviation, `t`."""
    risk: FloatArray
    """Probability of being lost on the way, `t`."""
    scale: CurveScale

    def quantile(self, share: float) -> FloatArray:
        """Return a quantile of each final, `t`, larger is better; -inf where the loss reaches it.

        Args:
            share: From 0 to 1, both excluded.
        """
        rest = (share - self.risk) / (1.0 - self.risk)
        with np.errstate(invalid="ignore"):
            targets = self.mean + self.deviation * ndtri(np.where(rest > 0.0, rest, np.nan))
        return np.array(
            [-math.inf if math.isnan(t) else self.scale.final(t) for t in targets.tolist()]
        )


def forecast(model: CurveModel) -> Forecast:
    """Return how all trials that are neither ended nor lost will end."""
    curves = model.curves
    trials = np.flatnonzero(~curves.ended & ~curves.lost)
    mean, variance = model.posterior(model.ends_of(trials))
    return Forecast(trials, mean, np.sqrt(variance), risk_of(curves)[trials], curves.scale)


def risk_of(curves: LearningCurves) -> FloatArray:
    """Return the probability that each trial is lost before its end, `n`.

    At a constant rate along the model's axis of time, as trials were lost so far.
    """
    u = np.concatenate([[0.0], progress(curves.steps)])[curves.reached]
    rate = float(curves.lost.sum()) / (float(u.sum()) + 1.0)
    return np.asarray(1.0 - np.exp(-rate * (1.0 - u)))
