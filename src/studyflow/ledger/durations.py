"""How long trials of a study take, learned from those that have ended. Pure.

The logarithm of a trial's time is a straight line in its parameters, fitted robustly: one trial
that hung says little. With few trials, it is their median.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from studyflow.ledger.rows import rows_of
from studyflow.reasons import Consequence
from studyflow.spec import StudySpec
from studyflow.spec.parameters import CategoricalParameter
from studyflow.spec.space import SearchSpace
from studyflow.trial import ParamValue
from studyflow.trial.record import TrialRecord

MAX_TRIALS: Final = 500
"""Most trials that a fit looks at: the latest."""

MIN_SPREAD: Final = 0.1
"""Least standard deviation of the logarithm: two alike times do not make a third one certain."""

_RIDGE: Final = 0.1
"""Weight of the assumption that a parameter does not matter, in trials."""

_HUBER: Final = 1.5
"""Beyond so many standard deviations a trial counts less."""

_ROUNDS: Final = 10

_TINY_SECONDS: Final = 1e-3

Sample = tuple[Mapping[str, ParamValue], float]
"""Parameters of a trial, and the seconds that its attempts took without what was lost."""


def sample_of(record: TrialRecord) -> Sample | None:
    """Return what a trial says of durations; `None` if it says nothing.

    Trials that their script, the infrastructure or a person cut short say nothing.
    """
    rows, cause = rows_of(record), record.cause
    uncut = (Consequence.TELL, Consequence.INFEASIBLE)
    if not record.state.is_finished or not rows or cause is None or cause.consequence not in uncut:
        return None
    seconds = sum(row.seconds - row.lost_seconds for row in rows)
    return (record.params, seconds) if seconds > 0 else None


@dataclass(frozen=True, slots=True)
class Durations:
    """What trials of a study are expected to take."""

    center: float
    """Median of the logarithm of a trial's seconds, or what is assumed before any has ended."""
    spread: float = MIN_SPREAD
    """Standard deviation of the logarithm."""
    slopes: tuple[float, ...] = ()
    """Change of the logarithm by feature; empty for a median alone."""
    means: tuple[float, ...] = ()
    """Mean of each feature."""
    n_trials: int = 0
    """How many trials it was learned from; 0 for an assumption."""
    space: SearchSpace | None = None

    @property
    def typical_seconds(self) -> float:
        """What a trial is expected to take whose parameters are not known."""
        return math.exp(self.center)

    def expected_seconds(self, params: Mapping[str, ParamValue]) -> float:
        """Return the median of what a trial with these parameters takes."""
        return math.exp(self._location(params))

    def remaining_seconds(self, params: Mapping[str, ParamValue], elapsed_seconds: float) -> float:
        """Return the median of what a trial still takes that has run for a while.

        One that is over its expected time is taken for one of the long ones.
        """
        location = self._location(params)
        if elapsed_seconds <= 0 or not self.n_trials:
            return max(math.exp(location) - max(elapsed_seconds, 0.0), 0.0)
        normal = statistics.NormalDist(location, self.spread)
        survives = 1.0 - normal.cdf(math.log(elapsed_seconds))
        if survives < 1e-9:  # so long that nothing is known: as long again
            return elapsed_seconds
        return max(math.exp(normal.inv_cdf(1.0 - survives / 2)) - elapsed_seconds, 0.0)

    def _location(self, params: Mapping[str, ParamValue]) -> float:
        if not self.slopes or self.space is None:
            return self.center
        given = np.subtract(_features(self.space, params), self.means)
        return self.center + float(np.dot(given, self.slopes))


def assumed(seconds: float) -> Durations:
    """Return what is taken for granted before any trial has ended."""
    return Durations(math.log(max(seconds, _TINY_SECONDS)))


def learn(spec: StudySpec, samples: Sequence[Sample]) -> Durations:
    """Return what trials say of how long further ones take; the same samples say the same.

    Args:
        spec: The study.
        samples: What its trials have shown, the latest last; at least one.

    Raises:
        ValueError: There is none.
    """
    latest = samples[-MAX_TRIALS:]
    times = np.log([max(seconds, _TINY_SECONDS) for _, seconds in latest])
    center = float(np.median(times))
    spread = max(_spread(times - center), MIN_SPREAD)
    space = spec.space
    features = np.array([_features(space, params) for params, _ in latest])
    n, d = features.shape
    if n < 2 * (d + 1):
        return Durations(center, spread, n_trials=n)
    means = features.mean(axis=0)
    centered = features - means
    weights, slopes = np.ones(n), np.zeros(d)
    for _ in range(_ROUNDS):
        weighted = centered * weights[:, None]
        slopes = np.linalg.solve(
            centered.T @ weighted + _RIDGE * np.eye(d), weighted.T @ (times - center)
        )
        residuals = times - centered @ slopes
        center = float(np.median(residuals))
        spread = max(_spread(residuals - center), MIN_SPREAD)
        weights = np.minimum(1.0, _HUBER * spread / np.maximum(np.abs(residuals - center), 1e-12))
    return Durations(center, spread, tuple(slopes), tuple(means), n, space)


def _spread(residuals: Any) -> float:
    return 1.4826 * float(np.median(np.abs(residuals)))


def _features(space: SearchSpace, params: Mapping[str, ParamValue]) -> list[float]:
    """Return the parameters as numbers: where they lie in their range, or which choice they are."""
    row: list[float] = []
    for name, parameter in space.items():
        is_given = name in params and parameter.contains(params[name])
        if isinstance(parameter, CategoricalParameter):
            row += [float(is_given and params[name] == choice) for choice in parameter.choices[1:]]
        else:
            row.append(float(parameter.to_unit(params[name])) if is_given else 0.5)
    return row
