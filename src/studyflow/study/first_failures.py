"""Failures before any success: a few alike end a study, and cost none of its budget.

A mistake in the script, its environment or its metric's name then shows within a few attempts, and
the study has all its trials left once it is fixed. One failure alone proves little: the script may
fail in a part of the search space, and the first trial may fall there. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from studyflow.reasons import Code, Reason, ReasonCode
from studyflow.spec import StudySpec
from studyflow.study.ending import numbers_text
from studyflow.study.stop_rules import failure_signature
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState

SURE: Final[frozenset[ReasonCode | None]] = frozenset({Code.METRIC_MISNAMED, Code.EXECUTOR_REFUSED})
"""Failures that no parameters can change: the first one ends the study."""

BAR_FACTOR: Final = 1.5
"""A script that has run for so many times as long as the failures did goes further than they."""


def limit_of(spec: StudySpec) -> int:
    """Return how many failures alike, before any success, end a study; 0 for none.

    A grid's point that has failed is not suggested again, so a grid counts each of them.
    """
    if spec.sampler.type == "grid":
        return 0
    limits = [spec.stop.first_failures, spec.stop.alike_failures]
    if spec.budget.n_trials is not None:
        limits.append(spec.budget.n_trials)
    return min(limits)


def is_success(record: TrialRecord) -> bool:
    """Return whether a trial shows that the study's script works to its end."""
    is_whole = record.state in (TrialState.COMPLETE, TrialState.PRUNED) or record.cause is Cause.NAN
    return (is_whole or bool(record.pauses)) and not record.is_taken_over


def is_free(failed: Sequence[TrialRecord], spec: StudySpec) -> bool:
    """Return whether one failure more, before any success, costs no budget.

    Failures that are not alike end nothing, so only the first of a run are free.

    Args:
        failed: The free failures of this run so far.
        spec: The study.
    """
    return len(failed) < limit_of(spec) or bool(decisive(failed, spec))


def decisive(failed: Iterable[TrialRecord], spec: StudySpec) -> tuple[TrialRecord, ...]:
    """Return the failures by which a study without any success ends; empty to go on.

    That is one that no parameters can change, or as many alike, of different parameters, as
    `limit_of` says.

    Args:
        failed: Its failures that count here, in the order of their ends.
        spec: The study.
    """
    limit = limit_of(spec)
    groups: dict[str, list[TrialRecord]] = {}
    for record in failed if limit else ():
        if record.code in SURE:
            return (record,)
        groups.setdefault(failure_signature(record), []).append(record)
    for alike in groups.values():
        if len({tuple(sorted(record.params.items())) for record in alike}) >= limit:
            return tuple(alike)
    return ()


def first_failures(
    records: Iterable[TrialRecord], finished_before: Collection[int] = ()
) -> tuple[TrialRecord, ...]:
    """Return the free failures of a study without any success; empty once it has one.

    Args:
        records: The study's trials in any order and state.
        finished_before: Those that were finished when this runner began: now the script may be
            fixed.
    """
    found = []
    for record in records:
        if is_success(record):
            return ()
        if record.is_first_failure and record.number not in finished_before:
            found.append(record)
    return tuple(found)


def seconds_to_outlast(failed: Collection[TrialRecord]) -> float:
    """Return how long a script has to run to go further than the failures did; 0 without any."""
    return max((BAR_FACTOR * (record.trained_seconds or 0.0) for record in failed), default=0.0)


def why_stopped(alike: Sequence[TrialRecord]) -> Reason:
    """Return why a study ends by failures before any success.

    Args:
        alike: What `decisive` returned; not empty.
    """
    last = max(alike, key=lambda record: (record.finished_at or -math.inf, record.number))
    fix = last.hint or "fix the script or its environment."
    again = (
        "Then run the study again: this has cost no budget. With --retry-failed the same "
        "parameters are tried again."
    )
    numbers = numbers_text(record.number for record in alike)
    if len(alike) == 1:
        code, which = Code.FIRST_FAILED, f"trial {numbers} failed"
    else:
        code, which = Code.FAILED_ALIKE, f"trials {numbers} failed alike"
    return Reason(
        code,
        f"Before any trial succeeded, {which} ({last.cause}): {last.message}",
        f"{fix} {again}",
    )
