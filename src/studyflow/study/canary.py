"""Holds a study to one new attempt at a time until its script is known to run.

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
    run for a while. Once known, it stays known, unless trials fail before any has succeeded: then
    one attempt has to run for longer than they did before others start beside it.

    Args:
        seconds: How long an attempt has to run; 0 lets all begin at once.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running_since: Mapping[tuple[int, int], float] = {}
        self._has_run = seconds <= 0
        self._is_held = False

    def observe(
        self,
        proven_seconds: float,
        running: Collection[tuple[int, int]],
        now: float,
        outlast_seconds: float | None = None,
    ) -> None:
        """Take in the trials and attempts of one turn.

        Args:
            proven_seconds: The most that any of the study's trials gives; see `proven_seconds`.
            running: Trial and attempt number of every attempt whose script runs.
            now: Seconds, by a clock that never goes back.
            outlast_seconds: How long an attempt has to run to go further than those that failed
                before any success; `None` without any.
        """
        self._is_held = outlast_seconds is not None
        if self._has_run and outlast_seconds is None:
            return
        self._running_since = {key: self._running_since.get(key, now) for key in running}
        observed = [now - since for since in self._running_since.values()]
        self._has_run = self._has_run or max(proven_seconds, *observed, 0.0) >= self._seconds
        if outlast_seconds is not None and observed:
            self._is_held = max(observed) < outlast_seconds

    @property
    def is_proven(self) -> bool:
        """Whether as many attempts may begin as the study's budget allows."""
        return self._has_run and not self._is_held


def proven_seconds(record: TrialRecord) -> float:
    """Return for how long a trial shows that the study's script runs where its trials run.

    Infinite once it has given or reported a value; 0 for one that another study has run.
    """
    if record.is_taken_over:
        return 0.0
    if record.state in (TrialState.COMPLETE, TrialState.PRUNED) or record.intermediate:
        return math.inf
    return record.trained_seconds or 0.0
