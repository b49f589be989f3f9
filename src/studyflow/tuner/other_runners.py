"""Which other runners work on the study, as this one has observed them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from studyflow.study import Leases, is_from, this_runner
from studyflow.trial.record import TrialRecord
from studyflow.tuner.progress import Notes, enumerated


class OtherRunners:
    """What this runner has seen of the others, at other sites and at its own.

    Args:
        site: This runner's own.
        lease_seconds: How long another runner may be silent.
        notes: Told which others are at work.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, site: str, lease_seconds: float, notes: Notes, clock: Callable[[], float]
    ) -> None:
        self._site = site
        self._lease_seconds = lease_seconds
        self._notes = notes
        self._clock = clock
        self._leases = Leases(site, lease_seconds)
        self._runner = this_runner()
        self._has_beaten = False
        """Whether a heartbeat of this runner was seen."""
        self._joined_at = -math.inf
        """When a later heartbeat was seen at this site that is another runner's."""
        self._surplus_since: dict[int, float] = {}
        """By trial that the budget has no room for, when it was first seen."""

    def observe(
        self, beats: Mapping[str, Mapping[str, Any]], running: Iterable[TrialRecord]
    ) -> None:
        """Take in what the storage says.

        Args:
            beats: The newest heartbeat of every site.
            running: The running trials.
        """
        now, beat = self._clock(), beats.get(self._site)
        if beat is not None and is_from(beat, self._runner):
            self._has_beaten = True
        elif beat is not None and self._has_beaten:
            self._joined_at = now
        self._leases.observe(beats, running, now)
        if active := self._leases.active:
            verb = "work" if len(active) > 1 else "works"
            self._notes.add(
                f"{enumerated(active)} {verb} on this study too: budget and parallel trials are "
                "shared."
            )

    @property
    def active(self) -> tuple[str, ...]:
        """Other sites that were seen at work, by name."""
        return self._leases.active

    @property
    def is_joined(self) -> bool:
        """Whether another runner was seen at work at this site, such as a namespace."""
        return self._clock() - self._joined_at < self._lease_seconds

    @property
    def may_share(self) -> bool:
        """Whether others may be at work on the study, whose limits hold as well."""
        return bool(self._leases.others) or self.is_joined

    def abandoned(self, surplus: Collection[int]) -> frozenset[int]:
        """Return which trials nobody will withdraw any more: their runners are gone.

        A runner withdraws its own surplus trial as soon as it has all parameters. It is left a
        lease for that, and one with a larger budget begins its trial within it.

        Args:
            surplus: Numbers of the trials that this runner's budget has no room for.
        """
        now = self._clock()
        self._surplus_since = {n: self._surplus_since.get(n, now) for n in surplus}
        patience = self._lease_seconds if self.may_share else 0.0
        return frozenset(n for n, since in self._surplus_since.items() if now - since >= patience)

    def held_elsewhere(self, running: Iterable[TrialRecord]) -> frozenset[int]:
        """Return the numbers of the running trials that another site holds."""
        return frozenset(r.number for r in running if self._leases.is_elsewhere(r))
