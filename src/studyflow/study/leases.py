"""Which runners work on a study, and whose trials are left when one of them dies.

A runner has a *site*: where its executor's attempts are, such as one machine, or one namespace of
a cluster. Runners of one site see the same attempts and need no lease. For those of another site
every trial names its *holder*, the site that its newest attempt was launched at, and each site
sends heartbeats: it changes an attribute of the study every few seconds. A site whose heartbeat has
not changed for a whole lease is gone, and its trials are taken over.

Clocks are never compared: each runner counts by its own clock how long it has seen nothing new, and
only while it can read the storage. So a storage that is away for everybody makes no site look dead.
Kubernetes elects its leaders in the same way (client-go, `tools/leaderelection`).

Of several sites that outlive another, the first by name takes over. They agree without a lock, for
each has seen the others for a whole lease by then.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from studyflow.trial.record import TrialRecord

LEASE_SECONDS: Final = 30.0
"""How long a site may be silent before others take over its trials."""

BEAT_SECONDS: Final = 8.0
"""Pause between two heartbeats: three in a row may be late or lost."""

UNHELD_LEASES: Final = 20
"""How many leases a trial without a holder is left alone while other sites live: one of them may
be choosing its parameters at this moment, which takes long in a large study."""


def shows_life(beats: Iterable[Mapping[str, Any]], now: float) -> bool:
    """Return whether any heartbeat is recent and not its runner's last.

    For a single read of the storage. Times are compared with this machine's clock, which is good
    enough for telling a person.

    Args:
        beats: As `studyflow.study.heartbeat` makes them.
        now: Seconds since the epoch.
    """
    return any(
        now - beat["at"] < 2 * LEASE_SECONDS and not beat.get("is_last", False) for beat in beats
    )


def beats_elsewhere(
    beats: Mapping[str, Mapping[str, Any]], here: str | None, machine: str
) -> dict[str, Mapping[str, Any]]:
    """Return the heartbeats of all runners but this machine's own, by site.

    Whole names are compared, and the machine too: another one may have the same host name, or a
    copy of this one's folder.

    Args:
        beats: The newest heartbeat of every site.
        here: Site of this machine's own runner, about which its lock file says more; `None` when
            there was never one.
        machine: This machine, as `studyflow.study.heartbeat` names it.
    """
    return {
        site: beat
        for site, beat in beats.items()
        if site != here or beat.get("machine", machine) != machine
    }


@dataclass(frozen=True, slots=True)
class _Observation:
    """The newest observation of one site, or of a trial without a holder."""

    value: Any
    silent_seconds: float = 0.0
    """For how long it has been the same."""
    is_active: bool = False
    """Whether it was ever seen to change."""

    def followed_by(self, value: Any, seconds: float) -> _Observation:
        if value != self.value:
            return _Observation(value, is_active=True)
        return _Observation(value, self.silent_seconds + seconds, self.is_active)


class Leases:
    """What one runner has seen of the others.

    Args:
        site: This runner's own.
        lease_seconds: How long another may be silent.
    """

    def __init__(self, site: str, lease_seconds: float = LEASE_SECONDS) -> None:
        self._site = site
        self._lease_seconds = lease_seconds
        self._observations: dict[Hashable, _Observation] = {}
        """By site, and by number for trials without a holder."""
        self._observed_at: float | None = None
        self._others: tuple[str, ...] = ()

    def observe(self, beats: Mapping[str, Any], running: Iterable[TrialRecord], now: float) -> None:
        """Take in what the storage says.

        Args:
            beats: The newest heartbeat of every site, this one's among them.
            running: The running trials.
            now: Seconds, by a clock that never goes back.
        """
        # Between two observations far apart this runner was held up; the others may have been, too.
        seconds = 0.0 if self._observed_at is None else min(now - self._observed_at, BEAT_SECONDS)
        self._observed_at = now
        shown: dict[Hashable, Any] = {record.holder or record.number: None for record in running}
        shown.update(beats)
        shown.pop(self._site, None)
        self._observations = {
            key: self._observations[key].followed_by(value, seconds)
            if key in self._observations
            else _Observation(value)
            for key, value in shown.items()
        }
        sites = ((k, seen) for k, seen in self._observations.items() if isinstance(k, str))
        alive = (site for site, seen in sites if seen.silent_seconds < self._lease_seconds)
        self._others = tuple(sorted(alive))

    @property
    def others(self) -> tuple[str, ...]:
        """The other sites that are not known to be gone, by name."""
        return self._others

    @property
    def active(self) -> tuple[str, ...]:
        """Those of them that were seen at work, by name."""
        return tuple(site for site in self.others if self._observations[site].is_active)

    def is_elsewhere(self, record: TrialRecord) -> bool:
        """Return whether a running trial is another runner's to look after."""
        others = self.others
        if record.holder == self._site or (record.holder is None and not others):
            return False
        # A site that was not observed before has appeared since.
        observation = self._observations.get(record.holder or record.number, _Observation(None))
        leases = UNHELD_LEASES if record.holder is None else 1
        is_held = observation.silent_seconds < leases * self._lease_seconds
        return is_held or (bool(others) and others[0] < self._site)
