"""What the sampler's model expected of each trial, and how often that came true.

A suggestion stores what the model expected of it (`TrialRecord.suggestion`), so the truth that came
later is an honest test: one step ahead, nothing fitted to it. Sampling points where the model is
unsure, and stopping at a good one, both bias such a test a little; it still tells a model that is
sure of nonsense from one that can be believed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from studyflow.reports.data import StudyData
from studyflow.samplers.levels import MODEL_LEVELS
from studyflow.samplers.models.hyperparameters import prior_mode
from studyflow.trial.record import TrialRecord

MIN_JUDGED: Final = 5
"""Truths below which nothing is said about calibration."""

RELEVANCE: Final = ((0.5, "matters a lot"), (1.5, "matters"), (5.0, "matters little"))
"""Largest lengthscale, in units of the parameter's range, and what it says of the parameter."""
_NO_RELEVANCE: Final = "made no difference so far"


@dataclass(frozen=True)
class Prediction:
    """What the model expected of one measurement, and what came true; in the objective's units."""

    trial: int
    mean: float
    sd: float
    """Of the measurement: of the function and of the noise together."""
    truth: float

    @property
    def surprise(self) -> float:
        """How far the truth lay above the expected value, in standard deviations."""
        return (self.truth - self.mean) / self.sd


@dataclass(frozen=True)
class Calibration:
    """How often the truth lay where the model expected it."""

    count: int
    within_1_sd: int
    within_2_sd: int

    @property
    def verdict(self) -> str:
        """One clause: whether the model is well calibrated."""
        if self.count < MIN_JUDGED:
            return "too few to judge"
        if self.within_2_sd < 0.8 * self.count:
            return "the model is too sure of itself"
        if self.count >= 2 * MIN_JUDGED and self.within_1_sd > 0.9 * self.count:
            return "the model is more careful than it need be"
        return "about as it should be"

    @property
    def sentence(self) -> str:
        """One sentence: such as `15 of 18 results lay within 2 sd of their prediction`."""
        results = "result" if self.count == 1 else "results"
        return f"{self.within_2_sd} of {self.count} {results} lay within 2 sd of the prediction"


def predicted(record: TrialRecord, objective: int) -> tuple[float, float] | None:
    """Return mean and standard deviation of the measurement that a trial's suggestion promised.

    Both are in the objective's units. `None` unless a model made the suggestion and stored both.
    """
    entry = objective_entry(record, objective)
    if entry is None:
        return None
    mean, sd, noise = (
        _number(entry.get(key)) for key in ("predicted_mean", "predicted_sd", "noise_sd")
    )
    if mean is None or sd is None:
        return None
    total = math.hypot(sd, noise or 0.0)
    return (mean, total) if 0.0 < total < math.inf else None


def level_of(record: TrialRecord) -> str | None:
    """Return the level of the sampler's fallback chain that gave a trial.

    A newer version may have stored one that is no `SuggestionLevel`.

    Returns:
        `None` where none is stored.
    """
    found = (record.suggestion or {}).get("rung")
    return found if isinstance(found, str) else None


def objective_entry(record: TrialRecord, objective: int) -> Mapping[str, Any] | None:
    """Return what the model of one objective said of a trial; `None` if no model was asked."""
    suggestion = record.suggestion
    if suggestion is None or level_of(record) not in MODEL_LEVELS:
        return None
    entries = suggestion.get("objectives")
    if not isinstance(entries, list | tuple) or not 0 <= objective < len(entries):
        return None
    entry = entries[objective]
    return entry if isinstance(entry, Mapping) else None


def predictions(data: StudyData, objective: int = 0) -> tuple[Prediction, ...]:
    """Return every prediction that has come true or not, by trial."""
    found = []
    for record in data.complete:
        promise = None if record.is_taken_over else predicted(record, objective)
        if promise is not None:
            found.append(Prediction(record.number, *promise, data.value(record, objective)))
    return tuple(found)


def calibration(found: Sequence[Prediction]) -> Calibration:
    """Return how often the truth lay within one and two standard deviations."""
    return Calibration(
        len(found),
        sum(abs(p.surprise) <= 1.0 for p in found),
        sum(abs(p.surprise) <= 2.0 for p in found),
    )


def lengthscales(record: TrialRecord, objective: int = 0) -> dict[str, float]:
    """Return a suggestion's lengthscales, the shortest first; empty if no model was asked."""
    entry = objective_entry(record, objective) or {}
    stored = entry.get("lengthscales")
    if not isinstance(stored, Mapping):
        return {}
    known = {str(name): _number(value) for name, value in stored.items()}
    positive = {name: value for name, value in known.items() if value is not None and value > 0.0}
    return dict(sorted(positive.items(), key=lambda item: item[1]))


def relevance(lengthscale: float) -> str:
    """Return what a lengthscale, in units of the parameter's range, says about the parameter."""
    for limit, words in RELEVANCE:
        if lengthscale <= limit:
            return words
    return _NO_RELEVANCE


def prior_lengthscale(dimension: int) -> float:
    """Return the sampler's most probable lengthscale before any data, for so many parameters."""
    return float(prior_mode(dimension).lengthscales[0])


def _number(value: Any) -> float | None:
    """Return a finite number, or `None` for anything else a document may hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
