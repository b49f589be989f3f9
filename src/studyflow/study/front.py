"""The best trials of a study, kept up to date trial by trial."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from studyflow.trial.record import TrialRecord

Cost = tuple[float, ...]
"""The values of a trial, each the smaller the better."""


class Front:
    """The best feasible trials so far: what `best_records` says of all that were added.

    Args:
        directions: `minimize` or `maximize` for each objective.
    """

    def __init__(self, directions: Sequence[str]) -> None:
        self._signs = [1.0 if direction == "minimize" else -1.0 for direction in directions]
        self._front: dict[Cost, list[TrialRecord]] = {}
        """The trials of each cost that none dominates."""

    def add(self, record: TrialRecord) -> bool:
        """Take in a finished trial; return whether it is better than all before in some way."""
        if not record.is_feasible or record.values is None:
            return False
        cost = tuple(s * v for s, v in zip(self._signs, record.values, strict=True))
        if cost in self._front:
            self._front[cost].append(record)
            return False
        if any(_is_no_worse(other, cost) for other in self._front):
            return False
        self._front = {o: known for o, known in self._front.items() if not _is_no_worse(cost, o)}
        self._front[cost] = [record]
        return True

    @property
    def records(self) -> tuple[TrialRecord, ...]:
        """The best trial of one objective, or the Pareto front of several; by number.

        Of equally good trials for one objective the earliest stands.
        """
        found = sorted((r for known in self._front.values() for r in known), key=_number)
        return tuple(found[:1] if len(self._signs) == 1 else found)

    def __bool__(self) -> bool:
        """Whether there is any feasible trial."""
        return bool(self._front)


def _is_no_worse(cost: Cost, other: Cost) -> bool:
    return all(map(operator.le, cost, other))


def _number(record: TrialRecord) -> int:
    return record.number
