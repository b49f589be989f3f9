"""How fast a study's trials come, and where their time goes."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from studyflow.diagnostics.snapshot import Snapshot
from studyflow.trial.record import TrialRecord, TrialState

RECENT_TRIALS = 20
"""Finished trials that tell how it goes today: what was slow last week says little."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """The recent trials of a study, in numbers."""

    n_trials: int
    """Finished trials that these numbers are of."""
    trials_per_hour: float
    """While at least one trial was under way: the nights between two runs do not count."""
    parallel: float
    """Trials under way at once, on average over the same time."""
    seconds_left: float | None
    """Until all trials are finished, at this rate; `None` with nothing left to do, or where their
    number has no limit."""
    shares: dict[str, float]
    """What the trials' time went to, from being asked for to being told; sums to 1. `training` of
    trials that ended well, `failing` of those that did not, `lost` attempts, `suggestions`, and
    `waiting` for a place and for the script's start."""


def throughput_of(
    counted: Sequence[TrialRecord], running: Sequence[TrialRecord], n_left: int | None, now: float
) -> Throughput | None:
    """Return the throughput of a study; `None` before a trial has finished whose times are known.

    Args:
        counted: Finished trials that cost budget, in the order in which they ended.
        running: Trials that are under way now, if a runner is at work.
        n_left: Trials of the budget that are not finished; `None` for no such limit.
        now: Seconds since the epoch.
    """
    recent = [r for r in counted if _seconds(r) is not None][-RECENT_TRIALS:]
    if not recent:
        return None
    spans = [_span(r) for r in recent]
    begin = min(span[0] for span in spans)
    # Earlier and running ones overlap the recent ones: they took places at the same time.
    spans += [_span(r) for r in counted if r not in recent and _seconds(r) is not None]
    spans += [(r.started_at, now) for r in running if r.started_at is not None]
    spans = [(max(start, begin), end) for start, end in spans if end > begin]
    busy = _covered(spans)
    if busy <= 0:
        return None
    per_hour = 3600 * len(recent) / busy
    return Throughput(
        n_trials=len(recent),
        trials_per_hour=per_hour,
        parallel=sum(end - start for start, end in spans) / busy,
        seconds_left=3600 * n_left / per_hour if n_left else None,
        shares=_shares(recent),
    )


def throughput(snapshot: Snapshot) -> Throughput | None:
    """Return a study's throughput; `None` before a trial has finished whose times are known."""
    running = snapshot.running if snapshot.is_driven else ()
    return throughput_of(snapshot.counted, running, snapshot.n_left, snapshot.now)


def suggestion_seconds(record: TrialRecord) -> float | None:
    """Return how long the sampler thought about a trial; `None` where it does not say."""
    milliseconds = (record.suggestion or {}).get("milliseconds")
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
        return None
    return max(float(milliseconds) / 1000, 0.0)


def typical_seconds(records: Iterable[TrialRecord]) -> float | None:
    """Return the median duration of trials that ended well; `None` without any."""
    durations = [
        record.duration_seconds
        for record in records
        if record.state is TrialState.COMPLETE and record.duration_seconds is not None
    ]
    return statistics.median(durations) if durations else None


def _shares(records: Sequence[TrialRecord]) -> dict[str, float]:
    sums = dict.fromkeys(("training", "failing", "lost", "suggestions", "waiting"), 0.0)
    for record in records:
        left = _seconds(record) or 0.0
        worked = "failing" if record.state is TrialState.FAILED else "training"
        # A clock of another machine may be off: no part is longer than what is left of the whole.
        for part, seconds in (
            (worked, record.trained_seconds or 0.0),
            ("lost", record.lost_seconds),
            ("suggestions", suggestion_seconds(record) or 0.0),
        ):
            taken = min(seconds, left)
            sums[part] += taken
            left -= taken
        if record.trained_seconds is None:  # another version's, or an imported one
            sums[worked] += left
        else:
            sums["waiting"] += left
    total = sum(sums.values())
    return {part: seconds / total for part, seconds in sums.items()} if total > 0 else sums


def _seconds(record: TrialRecord) -> float | None:
    """Return the time from asking to telling."""
    if record.started_at is None or record.finished_at is None:
        return None
    return max(record.finished_at - record.started_at, 0.0)


def _span(record: TrialRecord) -> tuple[float, float]:
    assert record.started_at is not None, "a trial with a duration has a start"
    assert record.finished_at is not None, "a trial with a duration has an end"
    return record.started_at, record.finished_at


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return for how long at least one of the spans held."""
    covered, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        covered += max(end - max(start, until), 0.0)
        until = max(until, end)
    return covered
