"""The ledger of a study: one row for each attempt that has ended. Pure.

A row is written with its attempt's end. Of attempts that an earlier version recorded, rows are made
of what that version kept, and say that they are estimates.
"""

from __future__ import annotations

from collections.abc import Iterable

from studyflow.trial.cost import AttemptCost
from studyflow.trial.record import TrialRecord


def rows_of(record: TrialRecord, gpus: int = 0) -> tuple[AttemptCost, ...]:
    """Return what a trial's ended attempts cost, by attempt; none of a trial taken over.

    Args:
        record: The trial.
        gpus: GPUs that each attempt asks for: what is taken of one without a row.
    """
    if record.is_taken_over:
        return ()
    rows = {cost.attempt: cost for cost in record.costs}
    if len(rows) < record.attempt:
        rows = {row.attempt: row for row in _derived(record, gpus)} | rows
    return tuple(rows[attempt] for attempt in sorted(rows))


def all_rows(records: Iterable[TrialRecord], gpus: int = 0) -> tuple[AttemptCost, ...]:
    """Return the rows of several trials, by trial and attempt; see `rows_of`."""
    return tuple(row for record in records for row in rows_of(record, gpus))


def _derived(record: TrialRecord, gpus: int) -> Iterable[AttemptCost]:
    """Yield rows of what a trial's record says without a ledger."""
    for lost in record.followed_attempts:
        seconds = max(lost.trained_seconds or 0.0, 0.0)
        yield AttemptCost(
            lost.attempt,
            lost.cause,
            seconds,
            gpus,
            lost_seconds=seconds if lost.cause.is_infrastructure else 0.0,
            node=lost.node,
            recorded_at=lost.ended_at,
            is_estimate=True,
        )
    if not record.state.is_finished or not record.has_attempt or record.cause is None:
        return
    seconds = record.duration_seconds or 0.0
    yield AttemptCost(
        record.attempt,
        record.cause,
        seconds,
        gpus,
        lost_seconds=seconds if record.cause.is_infrastructure else 0.0,
        node=record.node,
        recorded_at=record.finished_at,
        is_estimate=True,
    )
