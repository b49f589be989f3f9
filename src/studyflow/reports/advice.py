"""What to do about what the diagnostics of the sampler's model show, in plain sentences."""

from __future__ import annotations

from typing import Final

from studyflow.reports import surrogate, wording
from studyflow.reports.data import StudyData
from studyflow.reports.predictions import (
    MIN_JUDGED,
    RELEVANCE,
    calibration,
    lengthscales,
    predictions,
)

UNTRUSTED: Final = 0.1
"""Share of variance explained at trials left out below which a model says nothing."""
_LISTED: Final = 4
_NOT_EXPLAINED: Final = (
    "A model of the trials predicts those left out hardly better than their mean: do not read "
    "importances and expected values as facts. More trials, fewer parameters or narrower ranges "
    "help."
)


def model_advice(data: StudyData) -> tuple[str, ...]:
    """Return what the diagnostics say and what to do about it, the most pressing first.

    Empty while there is nothing to judge.
    """
    judged = calibration(predictions(data))
    advice: list[str] = []
    if judged.count >= MIN_JUDGED:
        advice.append(f"{judged.sentence}: {judged.verdict}.")
        if judged.within_2_sd < 0.8 * judged.count:
            advice.append(
                "The objective may be noisy, or jump: train the best configurations again with "
                "other seeds (studyflow retrain) before you trust one of them."
            )
    advice += _explained(data)
    idle = _idle_parameters(data)
    if idle:
        listed = ", ".join(wording.one_line(name, 40) for name in idle[:_LISTED])
        more = f" and {len(idle) - _LISTED} more" if len(idle) > _LISTED else ""
        advice.append(
            f"{listed}{more} made no difference so far: fix {'it' if len(idle) == 1 else 'them'} "
            "under `fixed`, and the same budget searches a smaller space."
        )
    return tuple(advice)


def _explained(data: StudyData) -> list[str]:
    values = [data.value(record, 0) for record in data.complete]
    if len(values) < surrogate.MIN_TRIALS or min(values) == max(values):
        return []
    explained = surrogate.fitted(data, 0)[0].explained
    if explained >= UNTRUSTED:
        share = wording.percent(explained)
        return [f"A model of the trials predicts {share} of the variance of those left out."]
    return [_NOT_EXPLAINED]


def _idle_parameters(data: StudyData) -> list[str]:
    """Return the parameters that the sampler's newest model found without influence."""
    for record in reversed(data.trials):
        if found := lengthscales(record):
            return [name for name, scale in found.items() if scale > RELEVANCE[-1][0]]
    return []
