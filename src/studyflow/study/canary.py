"""Holds a new study to one attempt until its script is known to run.

Whatever is wrong with the image, a Secret or the first lines of the script then costs one GPU and
not as many as may run at once, and no autoscaler adds nodes for pods that cannot start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from studyflow.trial.record import TrialRecord, TrialState


class Canary:
    """What one runner has seen of its study's first attempts.

    A script is known to run when it has reported a value, when a trial has come to a value or was
    pruned, or when one of its attempts has run for a while. Once known is known.

    Args:
        seconds: How long an attempt has to run; 0 lets all begin at once.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running_since: Mapping[tuple[int, int], float] = {}
        self._is_proven = seconds <= 0

    def look(
        self, records: Iterable[TrialRecord], running: Collection[tuple[int, int]], now: float
    ) -> None:
        """Take in what is there.

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
