"""Makes what a pause policy looks at, of the trials that have changed since it was made last."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from studyflow.ledger.rows import rows_of
from studyflow.study.pausing.standing import Stage, TrialStanding
from studyflow.trial.record import TrialRecord, TrialState


class Standings:
    """The trials of one study as policies see them."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[TrialRecord, TrialStanding]] = {}
        """By trial, what was made of which record of it."""

    def of(
        self,
        records: Collection[TrialRecord],
        cleared_steps: Mapping[int, int],
        out_of_reach: Collection[int] = (),
    ) -> tuple[TrialStanding, ...]:
        """Return the trials that have begun and were not taken over, by number.

        Args:
            records: All trials.
            cleared_steps: By running trial, up to which step this runner has let it go on.
            out_of_reach: Paused trials that this runner cannot take up now.
        """
        return tuple(
            self._of(record, cleared_steps.get(record.number), record.number not in out_of_reach)
            for record in records
            if record.attempt and not record.is_taken_over
        )

    def _of(self, record: TrialRecord, cleared: int | None, can_resume: bool) -> TrialStanding:
        known = self._known.get(record.number)
        if known is not None and known[0] is record:
            found = known[1]
            if (found.cleared_step, found.can_resume) == (_cleared(record, cleared), can_resume):
                return found
        made = standing_of(record, cleared, can_resume=can_resume)
        self._known[record.number] = record, made
        return made


def standing_of(
    record: TrialRecord, cleared_step: int | None = None, *, can_resume: bool = True
) -> TrialStanding:
    """Return one trial that has begun, as policies see it.

    Args:
        record: The trial.
        cleared_step: Up to which step its runner has let it go on; `None` if it has not decided.
        can_resume: Whether this runner can take it up if it is paused.
    """
    rows = rows_of(record)
    return TrialStanding(
        record.number,
        _stage(record),
        record.params,
        record.intermediate,
        _cleared(record, cleared_step),
        record.pauses[-1].checkpoint_step if record.is_paused else None,
        can_resume,
        sum(row.seconds for row in rows),
        _step_seconds(record),
        tuple(row.startup_seconds for row in rows if row.startup_seconds is not None),
    )


def _stage(record: TrialRecord) -> Stage:
    if record.state is TrialState.RUNNING:
        return Stage.PAUSED if record.is_paused else Stage.RUNNING
    return Stage.COMPLETE if record.state is TrialState.COMPLETE else Stage.STOPPED


def _cleared(record: TrialRecord, cleared: int | None) -> int:
    """Return up to which step a trial goes on: one that was taken up has passed its last pause."""
    if record.is_paused:
        return -1
    paused_at = record.pauses[-1].last_step if record.pauses else None
    return max(-1 if cleared is None else cleared, -1 if paused_at is None else paused_at)


def _step_seconds(record: TrialRecord) -> float | None:
    """Return what one step took in the ended attempts of a trial; `None` if they do not tell.

    Of each attempt that is the time from its first report to its end, over the steps that it
    reported after the first.
    """
    ended = {one.attempt: (one.first_step, one.last_step) for one in record.followed_attempts}
    if record.state.is_finished and record.attempt not in ended and record.intermediate:
        before = max((last for _, last in ended.values() if last is not None), default=-1)
        first = min((step for step in record.intermediate if step > before), default=None)
        ended[record.attempt] = (first, max(record.intermediate))
    seconds, n_steps = 0.0, 0
    for row in record.costs:
        first, last = ended.get(row.attempt, (None, None))
        if first is None or last is None or row.startup_seconds is None or last <= first:
            continue
        seconds += max(row.seconds - row.startup_seconds, 0.0)
        n_steps += last - first
    return seconds / n_steps if n_steps else None
