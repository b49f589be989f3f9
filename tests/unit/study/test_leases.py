"""Which trials are another runner's to look after, by what is seen of it."""

from __future__ import annotations

import optuna
import pytest
from tests.unit.study.studies import make_spec, open_study

from studyflow.study import Leases, beats_elsewhere, heartbeat, load_beats, shows_life, this_machine
from studyflow.study.leases import UNHELD_LEASES
from studyflow.trial.record import TrialRecord, TrialState

pytestmark = pytest.mark.fault("F24")


def trial(holder: str | None, number: int = 0) -> TrialRecord:
    return TrialRecord(number, TrialState.RUNNING, {}, holder=holder)


class Sky:
    """What one runner sees, second by second."""

    def __init__(self, site: str = "b", lease_seconds: float = 30.0) -> None:
        self.leases = Leases(site, lease_seconds)
        self.now = 0.0
        self.beats: dict[str, int] = {}
        self.running: list[TrialRecord] = []
        self.leases.observe(self.beats, self.running, self.now)

    def watch(self, seconds: int, *beating: str) -> None:
        """Look every second while some sites beat."""
        for _ in range(seconds):
            self.now += 1.0
            self.beats |= {site: self.beats.get(site, 0) + 1 for site in beating}
            self.leases.observe(self.beats, self.running, self.now)


def test_alone_every_trial_is_ones_own() -> None:
    sky = Sky()

    assert not sky.leases.is_elsewhere(trial("b"))
    assert not sky.leases.is_elsewhere(trial(None))


def test_a_holder_that_never_beat_is_given_a_lease_too() -> None:
    sky = Sky()
    assert sky.leases.is_elsewhere(trial("a")), "it appeared since the last look"
    sky.running = [trial("a")]

    sky.watch(30)
    assert sky.leases.is_elsewhere(trial("a"))
    sky.watch(1)
    assert not sky.leases.is_elsewhere(trial("a"))


def test_a_site_that_beats_keeps_its_trials() -> None:
    sky = Sky()
    sky.watch(300, "a")

    assert sky.leases.is_elsewhere(trial("a"))
    assert not sky.leases.is_elsewhere(trial("b"))
    assert sky.leases.active == ("a",)


def test_a_site_that_is_silent_for_a_lease_loses_its_trials() -> None:
    sky = Sky()
    sky.watch(5, "a")

    sky.watch(29)
    assert sky.leases.is_elsewhere(trial("a"))
    sky.watch(1)
    assert not sky.leases.is_elsewhere(trial("a"))
    assert sky.leases.others == ()


def test_what_was_silent_before_one_came_is_watched_for_a_lease_first() -> None:
    sky = Sky()
    sky.beats = {"a": 7}

    sky.watch(30)
    assert sky.leases.is_elsewhere(trial("a")), "seen for the first time a second ago"
    assert sky.leases.active == (), "never seen at work"
    sky.watch(1)
    assert not sky.leases.is_elsewhere(trial("a"))


def test_a_site_that_comes_back_holds_what_it_held() -> None:
    sky = Sky()
    sky.watch(5, "a")
    sky.watch(60)

    sky.watch(1, "a")

    assert sky.leases.is_elsewhere(trial("a"))


def test_the_first_of_those_that_are_left_takes_over() -> None:
    skies = [Sky(site) for site in "bcd"]
    for sky in skies:
        sky.watch(5, "a", "b", "c", "d")
        sky.watch(40, "b", "c", "d")

    assert [sky.leases.is_elsewhere(trial("a")) for sky in skies] == [False, True, True]


def test_a_runner_that_could_not_look_does_not_take_others_for_dead() -> None:
    sky = Sky()
    sky.watch(5, "a")

    sky.now += 3600.0  # the storage was away, or this machine asleep
    sky.watch(1)

    assert sky.leases.is_elsewhere(trial("a"))


def test_a_trial_that_nobody_holds_yet_is_left_to_who_may_be_asking_for_it() -> None:
    sky = Sky()
    sky.running = [trial(None, 4)]

    sky.watch(30 * UNHELD_LEASES, "z")
    assert sky.leases.is_elsewhere(trial(None, 4))
    sky.watch(1, "z")
    assert not sky.leases.is_elsewhere(trial(None, 4))


# ---- for whoever looks once ----------------------------------------------------------------------


def test_a_heartbeat_shows_life_for_a_while_and_a_last_one_does_not() -> None:
    assert shows_life([{"at": 950.0}], 1000.0)
    assert not shows_life([{"at": 930.0}], 1000.0)
    assert not shows_life([{"at": 999.0, "is_last": True}], 1000.0)


@pytest.mark.fault("F77")
@pytest.mark.parametrize(
    "site",
    ["gpu-1/2b", "gpu-1/1", "gpu-10/1a", "gpu-1.lab.org/1a", "gpu-1", "gpu-1/1a/", "trials@1a"],
)
def test_only_the_whole_name_of_a_site_is_ones_own(site: str) -> None:
    beats = {site: {"at": 0.0}, "gpu-1/1a": {"at": 0.0}}
    assert list(beats_elsewhere(beats, "gpu-1/1a", "boot-7")) == [site]
    assert list(beats_elsewhere(beats, None, "boot-7")) == [site, "gpu-1/1a"]


@pytest.mark.fault("F77")
def test_a_copy_of_a_folder_on_a_machine_of_the_same_name_is_elsewhere() -> None:
    beats = {"gpu-1/1a": {"at": 0.0, "machine": "boot-8"}}
    assert beats_elsewhere(beats, "gpu-1/1a", "boot-7") == beats
    assert beats_elsewhere(beats, "gpu-1/1a", "boot-8") == {}


def test_a_runner_that_ends_says_that_its_last_beat_is_the_last() -> None:
    storage = optuna.storages.InMemoryStorage()
    study = open_study(make_spec(), storage)
    with heartbeat(study, storage, "gpu-1/1a", seconds=3600.0):
        pass
    beat = load_beats(study.optuna_study)["gpu-1/1a"]
    assert (beat["is_last"], beat["machine"]) == (True, this_machine())
    assert not shows_life([beat], beat["at"])
