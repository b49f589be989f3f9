"""Decides which nodes a study keeps away from, by what became of its attempts there. Pure.

An attempt that failed by its node is repeated elsewhere. A node where that happens again is barred
for all that follows, and so is one where trials fail alike while the rest of the study works: that
is the node, not the script.

Everything is read from the trials, so the next runner decides the same. Only a pardon is kept
beside them: how many failures of a node no longer count, because there was no place without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from studyflow.spec import StudySpec
from studyflow.study.verdict import failure_signature, is_counted
from studyflow.trial import Cause, Consequence
from studyflow.trial.record import LostAttempt, TrialRecord

FAILURES_TO_BAR: Final = 2
"""Failures of a node after which no further attempt goes there: the first may have been a race."""

INCIDENT_SECONDS: Final = 600.0
"""Attempts lost with their node within this time are one failure of it: whoever runs many trials on
a node loses all of them at once."""

_BY_NODE: Final = frozenset({Cause.NODE_FAULT, Cause.NODE_LOST})


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What a study has against one node."""

    node: str
    n_failures: int
    """All of them, pardoned ones too."""
    n_pardoned: int
    example: str
    """What the newest failure was, in words."""

    @property
    def is_suspect(self) -> bool:
        """Whether an attempt that failed there is repeated elsewhere."""
        return self.n_failures > self.n_pardoned

    @property
    def is_barred(self) -> bool:
        """Whether no attempt of the study goes there."""
        return self.n_failures - self.n_pardoned >= FAILURES_TO_BAR

    @property
    def message(self) -> str:
        """One sentence that says that the node is barred, and why."""
        return (
            f"No trial goes to node {self.node} any more: {self.n_failures} attempts failed by it, "
            f"the last one by {self.example.rstrip('.')}. "
            f"Hint: kubectl describe node {self.node}"
        )


def judge_nodes(
    spec: StudySpec,
    records: Sequence[TrialRecord],
    pardons: Mapping[str, int],
    nodes_in_use: Collection[str] = (),
) -> tuple[NodeRecord, ...]:
    """Return what a study has against nodes, by name; nothing about those that are fine.

    Args:
        spec: The study.
        records: Its trials in any order and state.
        pardons: Failures of each node that no longer count.
        nodes_in_use: Nodes on which attempts of the study run now.
    """
    lost_there: dict[str, list[tuple[int, LostAttempt]]] = {}
    for record in records:
        for lost in record.lost_attempts:
            if lost.node is not None and lost.cause in _BY_NODE:
                lost_there.setdefault(lost.node, []).append((record.number, lost))
    alike = _alike_failures_by_node(spec, records, nodes_in_use)
    return tuple(
        NodeRecord(
            node,
            n_failures=_n_incidents([lost for _, lost in lost_there.get(node, ())])
            + len(alike.get(node, ())),
            n_pardoned=pardons.get(node, 0),
            example=alike[node][-1].message if node in alike else _describe(lost_there[node]),
        )
        for node in sorted({*lost_there, *alike})
    )


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


def _alike_failures_by_node(
    spec: StudySpec, records: Sequence[TrialRecord], nodes_in_use: Collection[str]
) -> dict[str, list[TrialRecord]]:
    """Return, for each node that they are tied to, the failures that ended all its latest trials.

    They are tied to a node when as many trials in a row as would stop the study have failed alike
    there, none has failed alike elsewhere, and elsewhere trials run or have come out.
    """
    if all(record.node is None for record in records):
        return {}
    finished = sorted(
        (record for record in records if is_counted(record)),
        key=lambda record: (record.finished_at or 0.0, record.number),
    )
    on_node: dict[str, list[TrialRecord]] = {}
    signatures: dict[str, set[str | None]] = {}
    for record in finished:
        if record.node is not None:
            on_node.setdefault(record.node, []).append(record)
        if _is_failure(record):
            signatures.setdefault(failure_signature(record), set()).add(record.node)
    working = Counter(r.node for r in finished if not _is_failure(r) and r.node is not None)
    working.update(nodes_in_use)
    found: dict[str, list[TrialRecord]] = {}
    for node, there in on_node.items():
        streak = _streak(there)
        is_tied = (
            len(streak) >= max(spec.stop.alike_failures, FAILURES_TO_BAR)
            and signatures[failure_signature(streak[-1])] == {node}
            and any(other != node for other in working)
        )
        if is_tied:
            found[node] = streak
    return found


def _streak(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the latest trials as far back as they failed alike."""
    streak: list[TrialRecord] = []
    for record in reversed(records):
        if not _is_failure(record):
            break
        if streak and failure_signature(record) != failure_signature(streak[-1]):
            break
        streak.append(record)
    return streak[::-1]


def _is_failure(record: TrialRecord) -> bool:
    return record.cause is not None and record.cause.consequence is Consequence.FAIL


def _describe(lost_attempts: Sequence[tuple[int, LostAttempt]]) -> str:
    """Return the newest of some trials' lost attempts in words."""
    number, lost = max(lost_attempts, key=lambda found: (found[1].ended_at or 0.0, found[0]))
    return f"{lost.cause} (trial {number})"
