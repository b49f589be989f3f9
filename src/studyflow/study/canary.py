"""Holds a new study to one attempt until its script is known to run.

A wrong image, a missing Secret or a mistake in the script's first lines then costs one GPU, not as
many as may run at once, and no autoscaler adds nodes for pods that cannot start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

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
        self, records: Iterable[TrialRecord], running: Collection[tuple[int, int]], now: float
    ) -> None:
        """Take in the trials and attempts of one turn.

        Args:
            records: The study's trials.
            running: Trial and attempt number of every attempt whose script runs.
            now: Seconds, by a clock that never goes back.
        """
        if self._is_proven:
            return
        self._running_since = {key: self._running_since.get(key, now) for key in running}
        self._is_proven = any(
            now - since >= self._seconds for since in self._running_since.values()
        ) or any(_has_run(record, self._seconds) for record in records)

    @property
    def is_proven(self) -> bool:
        """Whether as many attempts may begin as the study's budget allows."""
        return self._is_proven


def _has_run(record: TrialRecord, seconds: float) -> bool:
    """Return whether a trial shows that the study's script runs where its trials run."""
    return not record.is_taken_over and (
        record.state in (TrialState.COMPLETE, TrialState.PRUNED)
        or bool(record.intermediate)
        or (record.trained_seconds or 0.0) >= seconds
    )
