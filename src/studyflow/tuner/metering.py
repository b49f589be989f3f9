"""What attempts hold and for how long, as this runner sees it; the row of each when it ends."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from studyflow.executors import AttemptId, AttemptState, AttemptStatus
from studyflow.ledger.limits import requested
from studyflow.ledger.measuring import Sighting, Times, measure
from studyflow.ledger.prices import Prices
from studyflow.spec import StudySpec
from studyflow.trial import Cause
from studyflow.trial.cost import Allocation, AttemptCost
from studyflow.trial.record import TrialRecord
from studyflow.tuner.snapshot import newest_attempt


@dataclass(slots=True)
class _Seen:
    """One attempt as this runner has seen it."""

    started_at: float | None = None
    allocation: Allocation | None = None
    node: str | None = None
    running_since: float | None = None
    """When it began to run, as far as the first look that found it running told, by this runner's
    clock."""
    last_look: float | None = None


class Meter:
    """Measures the attempts of a study. A new runner measures those that it finds from then on.

    Args:
        spec: The study.
        site: This runner's own.
        prices: What an hour costs.
        clock: Seconds, monotonic.
        wall_clock: Seconds since the epoch.
    """

    def __init__(
        self,
        spec: StudySpec,
        site: str,
        prices: Prices,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._spec = spec
        self._site = site
        self._prices = prices
        self._requested = requested(spec)
        self._clock = clock
        self._wall_clock = wall_clock
        self._seen: dict[AttemptId, _Seen] = {}
        self._beats: Mapping[str, Mapping[str, Any]] = {}

    def take_beats(self, beats: Mapping[str, Mapping[str, Any]]) -> None:
        """Take in the newest heartbeat of every site."""
        self._beats = beats

    def look(self, record: TrialRecord, status: AttemptStatus) -> None:
        """Take in how the newest attempt of a trial stands."""
        seen = self._seen.setdefault(newest_attempt(record), _Seen())
        seen.started_at = status.started_at or seen.started_at
        seen.allocation = status.allocation or seen.allocation
        seen.node = status.node or seen.node
        if status.state is AttemptState.RUNNING:
            seen.last_look = self._clock()
            if seen.running_since is None:
                seen.running_since = seen.last_look - (status.running_seconds or 0.0)

    def saw_running(self, record: TrialRecord, at: float) -> None:
        """Take in until when the newest attempt of a trial ran unchanged, by this runner's clock.

        Args:
            record: The trial.
            at: When a look last showed it so, in seconds.
        """
        seen = self._seen.get(newest_attempt(record))
        if seen is not None and seen.last_look is not None:
            seen.last_look = max(seen.last_look, at)

    def running_seconds(self, record: TrialRecord) -> float:
        """Return for how long a running attempt has held what it holds, as far as that is known.

        What another site holds is counted from when it was begun, by this machine's clock: that
        may be too much, and is used for what still fits into a budget, never for a row.
        """
        if not record.has_attempt:
            return 0.0  # it has ended, be it that another runner has seen that
        seen = self._seen.get(newest_attempt(record))
        if seen is not None:
            return 0.0 if seen.running_since is None else self._clock() - seen.running_since
        begin = record.begin
        if begin is None or begin.at is None:
            return 0.0
        return max(self._wall_clock() - begin.at, 0.0)

    def allocation(self, record: TrialRecord) -> Allocation:
        """Return what the newest attempt of a trial holds; what it asked for while unknown."""
        seen = self._seen.get(newest_attempt(record))
        found = None if seen is None else seen.allocation
        return found or self._requested

    def row(
        self, record: TrialRecord, cause: Cause, times: Times, status: AttemptStatus | None
    ) -> AttemptCost | None:
        """Return what the newest attempt of a trial cost; `None` of a trial without one.

        Args:
            record: The trial.
            cause: Why the attempt ended.
            times: When it reported.
            status: How the executor shows its end; `None` if it does not know it.
        """
        if not record.has_attempt:
            return None
        seen = self._seen.get(newest_attempt(record), _Seen())
        if status is not None:
            times = replace(times, started_at=status.started_at, ended_at=status.ended_at)
        limit = self._spec.trial.timeout_seconds
        row = measure(
            record.attempt,
            cause,
            self.allocation(record),
            replace(times, started_at=times.started_at or seen.started_at),
            Sighting(_between(seen.running_since, seen.last_look), self._held_seconds(record)),
            None if limit is None else limit + self._spec.trial.kubernetes.stop_grace_seconds,
        )
        return replace(
            row,
            price=self._prices.of(self.allocation(record)),
            node=seen.node if status is None else status.node or seen.node,
            holder=self._site,
            recorded_at=self._wall_clock(),
        )

    def forget(self, record: TrialRecord) -> None:
        """Forget the newest attempt of a trial: it is recorded."""
        self._seen.pop(newest_attempt(record), None)

    def keep_only(self, alive: Collection[AttemptId]) -> None:
        """Forget all attempts but these: the others have ended."""
        self._seen = {attempt: seen for attempt, seen in self._seen.items() if attempt in alive}

    def _held_seconds(self, record: TrialRecord) -> float | None:
        """Return how long another site has held an attempt, by that site's own clock."""
        begin, beat = record.begin, self._beats.get(record.holder or "", {})
        if record.holder == self._site or begin is None:
            return None
        at = beat.get("at")
        return _between(begin.at, at) if isinstance(at, float | int) else None


def _between(began: float | None, ended: float | None) -> float | None:
    return None if began is None or ended is None else max(ended - began, 0.0)
