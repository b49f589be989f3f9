"""Holds a new study to one attempt until its script is known to run.

A wrong image, a missing Secret or a mistake in the script's first lines then costs one GPU, not as
many as may run at once, and no autoscaler adds nodes for pods that cannot start.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from studyflow.trial.record import TrialRecord, TrialState


class Canary:
    """Finds out whether a study's script is known to run.

    It is when it has reported a value, when a trial is complete or pruned, or when an attempt has
    run for a while. Once known, it stays known.

    Args:
        seconds: How long an attempt has to run; 0 lets all begin at once.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running_since: Mapping[tuple[int, int], float] = {}
        self._is_proven = seconds <= 0

    def observe(
        self, proven_seconds: float, running: Collection[tuple[int, int]], now: float
    ) -> None:
        """Take in the trials and attempts of one turn.

        Args:
            proven_seconds: The most that any of the study's trials gives; see `proven_seconds`.
            running: Trial and attempt number of every attempt whose script runs.
            now: Seconds, by a clock that never goes back.
        """
        if self._is_proven:
            return
        self._running_since = {key: self._running_since.get(key, now) for key in running}
        observed = (now - since for since in self._running_since.values())
        self._is_proven = max(proven_seconds, *observed, 0.0) >= self._seconds

    @property
    def is_proven(self) -> bool:
        """Whether as many attempts may begin as the study's budget allows."""
        return self._is_proven


def proven_seconds(record: TrialRecord) -> float:
    """Return for how long a trial shows that the study's script runs where its trials run.

    Infinite once it has given or reported a value; 0 for one that another study has run.
    """
    if record.is_taken_over:
        return 0.0
    if record.state in (TrialState.COMPLETE, TrialState.PRUNED) or record.intermediate:
        return math.inf
    return record.trained_seconds or 0.0
