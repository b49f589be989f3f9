"""Trials that are expected to be cheap come sooner, as long as much of a budget is left.

    a(x) - sqrt(left) * log c(x)

on the log scale of the acquisition function: expected improvement divided by the expected cost to a
power that falls from 1 to 0 while the budget is spent (Lee et al., CArBO, arXiv 2003.10870, whose
power is `left` itself, which falls sooner). `c` is what a whole trial costs: the logarithm is a
straight line in the features, as durations are products of sizes. It is used only if it predicts
each trial from the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from studyflow.samplers.acquisition.closed_form import Acquisition
from studyflow.samplers.arrays import FloatArray
from studyflow.samplers.history import History
from studyflow.samplers.space.encoding import Encoding
from studyflow.trial.cost_form import costs_in

MIN_TRIALS: Final = 4
"""Complete trials before anything is said of costs."""

PREDICTED: Final = 0.25
"""Share of the variance of log costs that must be predicted, each trial from the others."""

RIDGE: Final = 1.0
"""Weight of the assumption that a feature does not matter, in trials of ordinary spread."""


@dataclass(frozen=True)
class ExpectedCost:
    """What a trial is expected to cost, and how much that counts now."""

    center: FloatArray
    """Mean features of the trials that it was learnt from, `f`."""
    slopes: FloatArray
    """Change of the logarithm by feature, `f`."""
    typical: float
    """What a trial with these mean features costs, in GPU-seconds, or seconds of one place."""
    power: float
    """Power of the cost that expected improvement is divided by, from 0 to 1."""

    def log_ratio(self, features: FloatArray) -> FloatArray:
        """Return the logarithm of each point's cost as a ratio to the typical one, `b`."""
        return np.asarray((features - self.center) @ self.slopes)

    def at(self, features: FloatArray) -> float:
        """Return what a trial at one point, `f`, is expected to cost, in the unit of `typical`."""
        return self.typical * float(np.exp(self.log_ratio(features[None])[0]))


class WithCost:
    """An acquisition function on a log scale, divided by a power of the expected cost.

    Args:
        acquisition: What is known of improvement.
        cost: What is known of costs.
    """

    def __init__(self, acquisition: Acquisition, cost: ExpectedCost) -> None:
        self._acquisition = acquisition
        self._cost = cost
        self.name = acquisition.name

    def value(self, features: FloatArray) -> FloatArray:
        """Return the value of each point, `b`."""
        return self._acquisition.value(features) - self._cost.power * self._cost.log_ratio(features)

    def value_and_gradient(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the values, `b`, and their gradients by the features, `b x f`."""
        value, gradient = self._acquisition.value_and_gradient(features)
        cost, power = self._cost, self._cost.power
        return value - power * cost.log_ratio(features), gradient - power * cost.slopes


def expected_cost(
    trials: Sequence[FrozenTrial], encoding: Encoding, history: History, budget: float
) -> ExpectedCost | None:
    """Return what is known of costs; `None` if that is nothing, or the budget is spent.

    Args:
        trials: All trials of the study, any state.
        encoding: The space.
        history: The same trials as arrays.
        budget: What all trials together may cost, in GPU-seconds, or seconds of one place.
    """
    finished = {trial.number: trial for trial in trials if trial.state.is_finished()}
    complete = history.numbers[: history.n_completed]
    costs = np.array([whole_cost(finished[int(number)]) for number in complete], dtype=np.float64)
    known = np.isfinite(costs)
    if known.sum() < MIN_TRIALS:
        return None
    features = encoding.features(history.codes[: history.n_completed][known])
    logs = np.log(costs[known])
    slopes = _slopes(features, logs)
    typical = math.exp(float(logs.mean()))
    running = typical * sum(trial.state is TrialState.RUNNING for trial in trials)
    spent = sum(map(spent_cost, finished.values())) + running
    left = max(1.0 - spent / budget, 0.0)
    if slopes is None or left == 0.0:
        return None
    return ExpectedCost(features.mean(axis=0), slopes, typical, math.sqrt(left))


def whole_cost(trial: FrozenTrial) -> float:
    """Return what a complete trial cost, without what faults have lost; NaN if nobody knows.

    By the ledger's rows of its attempts, or from its start to its end as Optuna has them.
    """
    rows = costs_in(trial.user_attrs)
    seconds = sum(row.units * (row.seconds - row.lost_seconds) for row in rows)
    if not rows and trial.duration is not None:
        seconds = trial.duration.total_seconds()
    return seconds if seconds > 0.0 else math.nan


def spent_cost(trial: FrozenTrial) -> float:
    """Return all that a finished trial cost, what faults have lost too; 0 if nobody knows."""
    rows = costs_in(trial.user_attrs)
    if rows or trial.duration is None:
        return sum(row.unit_seconds for row in rows)
    return max(trial.duration.total_seconds(), 0.0)


def _slopes(features: FloatArray, logs: FloatArray) -> FloatArray | None:
    """Return the ridge regression of log costs on features, `f`; `None` if it predicts little."""
    n, f = features.shape
    centered, given = features - features.mean(axis=0), logs - logs.mean()
    gram = centered.T @ centered + RIDGE * max(float(centered.var()), 1e-12) * np.eye(f)
    slopes = np.linalg.solve(gram, centered.T @ given)
    leverage = np.einsum("ij,ji->i", centered, np.linalg.solve(gram, centered.T)) + 1.0 / n
    missed = float((((given - centered @ slopes) / (1.0 - leverage)) ** 2).sum())
    by_mean = float(((given / (1.0 - 1.0 / n)) ** 2).sum())
    return np.asarray(slopes) if missed < (1.0 - PREDICTED) * by_mean else None
