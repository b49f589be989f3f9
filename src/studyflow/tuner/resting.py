"""Which running attempts have nothing new: a turn leaves them out, so that it costs what changed.

An attempt rests once a look at it has led to nothing. It wakes when its status or its record
changes, when `Reports.due` names it, and when its runner is cancelled. What an attempt is watched
for must follow from these alone, or the attempt never rests: see `Resting.keep`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from studyflow.executors import AttemptId, AttemptState, AttemptStatus
from studyflow.trial.record import TrialRecord
from studyflow.tuner.metering import Meter


class _Entry(NamedTuple):
    """An attempt at rest, as it was when it was last watched."""

    attempt: AttemptId
    record: TrialRecord
    status: AttemptStatus


class Resting:
    """The attempts of one site that rest.

    An executor shows that an attempt has not changed by the same status object. One that makes a
    new object for each poll is right too; its attempts are watched in every turn.

    Args:
        site: This runner's own.
        meter: Told until when an attempt ran that wakes.
    """

    def __init__(self, site: str, meter: Meter) -> None:
        self._site = site
        self._meter = meter
        self._entries: dict[int, _Entry] = {}
        """By identity of the status, which is kept here and so stays the only one of it."""
        self._records: dict[int, _Entry] = {}
        """The same, by number of the trial."""
        self._polled_at = 0.0

    def __len__(self) -> int:
        """Return how many rest."""
        return len(self._entries)

    def wake(
        self,
        polled: Mapping[AttemptId, AttemptStatus],
        now: float,
        *,
        wakes_all: bool = False,
    ) -> dict[AttemptId, AttemptStatus]:
        """Return the attempts of a poll that do not rest: those that are new or have changed.

        Args:
            polled: The attempts that the executor knows.
            now: When that was asked, in seconds.
            wakes_all: Whether none may rest.
        """
        last_polled_at, self._polled_at = self._polled_at, now
        for entry in list(self._entries.values()) if wakes_all else ():
            self._drop(entry, last_polled_at)
        entries = self._entries
        awake = {
            attempt: status
            for attempt, status in polled.items()
            if (seen := entries.get(id(status))) is None
            or (seen.attempt is not attempt and seen.attempt != attempt)
        }
        if len(polled) - len(awake) < len(entries):
            shown = {id(status) for status in polled.values()}
            for entry in [entry for key, entry in entries.items() if key not in shown]:
                self._drop(entry, last_polled_at)
        return awake

    def rouse(self, numbers: Iterable[int]) -> dict[AttemptId, AttemptStatus]:
        """Return the attempts of some trials that rested until now: there is news of them."""
        found = [self._records[number] for number in numbers if number in self._records]
        for entry in found:
            self._drop(entry, self._polled_at)
        return {entry.attempt: entry.status for entry in found}

    def wake_changed(
        self, running: Collection[TrialRecord]
    ) -> tuple[tuple[TrialRecord, ...], dict[AttemptId, AttemptStatus]]:
        """Return the running trials whose attempts do not rest, and attempts that wake for it.

        Args:
            running: All running trials, as the storage has them.
        """
        records = self._records
        others = tuple(
            record
            for record in running
            if (seen := records.get(record.number)) is None or seen.record is not record
        )
        if len(running) - len(others) == len(records):
            return others, {}
        unchanged = {id(record) for record in running}
        woken = [entry for entry in records.values() if id(entry.record) not in unchanged]
        for entry in woken:
            self._drop(entry, self._polled_at)
        return others, {entry.attempt: entry.status for entry in woken}

    def awake(self, running: Iterable[TrialRecord]) -> list[TrialRecord]:
        """Return the running trials whose attempts did not rest when this was last found out."""
        return [record for record in running if record.number not in self._records]

    def keep(self, attempt: AttemptId, record: TrialRecord, status: AttemptStatus) -> None:
        """Let an attempt rest that was watched, unless its status has to be told of in each turn.

        Args:
            attempt: As the poll named it.
            record: Its trial. Of a trial that another site holds the lease may run out.
            status: What was polled.
        """
        is_quiet = status.state is AttemptState.RUNNING or (
            status.state is AttemptState.PENDING
            and status.reason is None
            and not status.waits_for_room
        )
        if not is_quiet or status.points or record.holder != self._site:
            return
        if id(status) not in self._entries and record.number not in self._records:
            entry = _Entry(attempt, record, status)
            self._entries[id(status)] = self._records[record.number] = entry

    def _drop(self, entry: _Entry, looked_at: float) -> None:
        del self._entries[id(entry.status)]
        del self._records[entry.record.number]
        if entry.status.state is AttemptState.RUNNING:
            self._meter.saw_running(entry.record, looked_at)
