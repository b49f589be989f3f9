"""Decides which nodes a study keeps away from, by what became of its attempts there. Pure.

An attempt that its node failed is repeated on another node. A node that fails again is barred from
then on, and so is a node where trials fail alike while the rest of the study works: there the node
is to blame, not the script.

Everything is read from the trials, so the next runner decides the same. Only resets are kept
beside them: how many failures of a node no longer count, because no other node had room.
"""

from __future__ import annotations

import bisect
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from studyflow.spec import StudySpec
from studyflow.study.budget import by_end, is_counted
from studyflow.study.stop_rules import failure_signature
from studyflow.trial import Cause, Consequence
from studyflow.trial.record import LostAttempt, TrialRecord

FAILURES_TO_BAR: Final = 2
"""Failures of a node after which no further attempt goes there: the first may have been a race."""

INCIDENT_SECONDS: Final = 600.0
"""Attempts lost with their node within this time are one failure of it: all attempts that ran there
are lost at once."""

_BY_NODE: Final = frozenset({Cause.NODE_FAULT, Cause.NODE_LOST})


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """How often one node has failed a study."""

    node: str
    n_failures: int
    """All of them, those that were reset too."""
    n_reset: int
    example: str
    """What the newest failure was, in words."""

    @property
    def is_suspect(self) -> bool:
        """Whether an attempt that failed there is repeated elsewhere."""
        return self.n_failures > self.n_reset

    @property
    def is_barred(self) -> bool:
        """Whether no attempt of the study goes there."""
        return self.n_failures - self.n_reset >= FAILURES_TO_BAR

    @property
    def message(self) -> str:
        """One sentence that says that the node is barred, and why."""
        return (
            f"No trial goes to node {self.node} any more: {self.n_failures} attempts failed by it, "
            f"the last one by {self.example.rstrip('.')}. "
            f"Hint: kubectl describe node {self.node}"
        )


class NodeFailures:
    """Which nodes have failed a study, kept up to date trial by trial.

    Args:
        spec: The study.
    """

    def __init__(self, spec: StudySpec) -> None:
        self._n_alike = max(spec.stop.alike_failures, FAILURES_TO_BAR)
        self._lost: dict[str, list[tuple[int, LostAttempt]]] = {}
        """By node, the attempts that were lost by it, and the number of the trial of each."""
        self._finished: dict[str, list[TrialRecord]] = {}
        """By node, the trials that ended there, in the order in which they did."""
        self._streaks: dict[str, list[TrialRecord]] = {}
        """By node, the latest of them as far back as they failed alike."""
        self._nodes_of: dict[str, set[str | None]] = {}
        """By signature of a failure, where trials failed so."""
        self._working: set[str] = set()
        """Nodes on which a trial has come out."""

    def add_lost(self, number: int, lost: LostAttempt) -> None:
        """Take in an attempt that was lost.

        Args:
            number: Number of the trial.
            lost: The attempt.
        """
        if lost.node is not None and lost.cause in _BY_NODE:
            self._lost.setdefault(lost.node, []).append((number, lost))

    def add_finished(self, record: TrialRecord) -> None:
        """Take in a finished trial that counts towards the budget."""
        if _is_failure(record):
            self._nodes_of.setdefault(failure_signature(record), set()).add(record.node)
        elif record.node is not None:
            self._working.add(record.node)
        if record.node is None:
            return
        there = self._finished.setdefault(record.node, [])
        if not there or by_end(there[-1]) <= by_end(record):
            there.append(record)
            self._streaks[record.node] = _extended(self._streaks.get(record.node, []), record)
            return
        bisect.insort(there, record, key=by_end)
        streak: list[TrialRecord] = []
        for known in there:
            streak = _extended(streak, known)
        self._streaks[record.node] = streak

    def judge(
        self, resets: Mapping[str, int], nodes_in_use: Collection[str] = ()
    ) -> tuple[NodeRecord, ...]:
        """Return the nodes that have failed the study, by name.

        Args:
            resets: By node, how many of its failures no longer count.
            nodes_in_use: Nodes on which attempts of the study run now.
        """
        working = self._working | set(nodes_in_use)
        alike = {node: s for node, s in self._streaks.items() if self._is_tied(node, s, working)}
        return tuple(
            NodeRecord(
                node,
                n_failures=_n_incidents([lost for _, lost in self._lost.get(node, ())])
                + len(alike.get(node, ())),
                n_reset=resets.get(node, 0),
                example=alike[node][-1].message if node in alike else _describe(self._lost[node]),
            )
            for node in sorted({*self._lost, *alike})
        )

    def _is_tied(self, node: str, streak: Sequence[TrialRecord], working: set[str]) -> bool:
        """Return whether the failures that ended all latest trials of a node are tied to it.

        They are when as many trials in a row as would stop the study have failed alike there, none
        has failed alike elsewhere, and elsewhere trials run or have come out.
        """
        return (
            len(streak) >= self._n_alike
            and self._nodes_of[failure_signature(streak[-1])] == {node}
            and any(other != node for other in working)
        )


def judge_nodes(
    spec: StudySpec,
    records: Iterable[TrialRecord],
    resets: Mapping[str, int],
    nodes_in_use: Collection[str] = (),
) -> tuple[NodeRecord, ...]:
    """Return the nodes that have failed a study, by name.

    Args:
        spec: The study.
        records: Its trials by number, in any state.
        resets: By node, how many of its failures no longer count.
        nodes_in_use: Nodes on which attempts of the study run now.
    """
    known, finished = NodeFailures(spec), []
    for record in records:
        for lost in record.lost_attempts:
            known.add_lost(record.number, lost)
        if is_counted(record):
            finished.append(record)
    for record in sorted(finished, key=by_end):
        known.add_finished(record)
    return known.judge(resets, nodes_in_use)


def nodes_to_avoid(record: TrialRecord, nodes: Sequence[NodeRecord]) -> tuple[str, ...]:
    """Return the nodes that a trial's next attempt avoids: barred ones, and those it failed by."""
    failed_by = {lost.node for lost in record.lost_attempts if lost.cause in _BY_NODE}
    return tuple(
        known.node
        for known in nodes
        if known.is_barred or (known.is_suspect and known.node in failed_by)
    )


def _n_incidents(lost_attempts: Sequence[LostAttempt]) -> int:
    """Return how often a node failed: losing all its attempts at once is one failure."""
    n_failures, until = 0, 0.0
    for lost in sorted(lost_attempts, key=lambda lost: lost.ended_at or 0.0):
        is_known = lost.cause is Cause.NODE_LOST and lost.ended_at is not None
        if is_known and (lost.ended_at or 0.0) < until:
            continue
        n_failures += 1
        if is_known:
            until = (lost.ended_at or 0.0) + INCIDENT_SECONDS
    return n_failures


def _extended(streak: list[TrialRecord], record: TrialRecord) -> list[TrialRecord]:
    """Return the latest trials of a node that failed alike, after another one has ended there."""
    if not _is_failure(record):
        return []
    if streak and failure_signature(record) != failure_signature(streak[-1]):
        return [record]
    return [*streak, record]


def _is_failure(record: TrialRecord) -> bool:
    return record.cause is not None and record.cause.consequence is Consequence.FAIL


def _describe(lost_attempts: Sequence[tuple[int, LostAttempt]]) -> str:
    """Return the newest of some trials' lost attempts in words."""
    number, lost = max(lost_attempts, key=lambda found: (found[1].ended_at or 0.0, found[0]))
    return f"{lost.cause} (trial {number})"
