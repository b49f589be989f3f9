"""Which other runners work on the study, as one runner observes them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.tuner.rig import Diary

from studyflow.study import this_runner
from studyflow.testing.fake_clock import FakeClock
from studyflow.trial.record import TrialRecord, TrialState
from studyflow.tuner.other_runners import OtherRunners
from studyflow.tuner.progress import Notes

LEASE = 30.0


class Watcher:
    """A runner at site "m", and what it sees of others."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.diary = Diary()
        self.notes = Notes(self.diary)
        self.others = OtherRunners("m", LEASE, self.notes, self.clock)

    def observe(self, beats: dict[str, Any], *running: TrialRecord) -> None:
        self.notes.begin_turn()
        self.others.observe(beats, running)

    def see_at_work(self, *sites: str, times: int = 2) -> None:
        """Observe heartbeats that change."""
        for number in range(times):
            self.observe({site: {"number": number} for site in sites})
            self.clock.advance(1.0)


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


def trial(number: int, holder: str | None = None) -> TrialRecord:
    return TrialRecord(number, TrialState.RUNNING, {}, attempt=1, holder=holder)


def own(number: int) -> dict[str, Any]:
    return {"number": number, **this_runner()}


def another(number: int) -> dict[str, Any]:
    return {"number": number, **this_runner(), "process": -1}


def test_alone_there_is_nobody(watcher: Watcher) -> None:
    watcher.observe({"m": own(0)})

    assert watcher.others.active == ()
    assert not watcher.others.is_joined
    assert not watcher.others.may_share
    assert watcher.diary.notes == []


def test_a_site_is_at_work_once_its_heartbeat_changes(watcher: Watcher) -> None:
    watcher.see_at_work("b", times=1)
    assert "b" not in watcher.others.active
    assert watcher.others.may_share, "it may be at work"

    watcher.see_at_work("b")
    assert watcher.others.active == ("b",)
    assert watcher.diary.notes == [
        "b works on this study too: budget and parallel trials are shared."
    ]


def test_several_sites_are_told_of_in_one_note(watcher: Watcher) -> None:
    watcher.see_at_work("b", "a")

    assert watcher.others.active == ("a", "b")
    assert watcher.diary.notes == [
        "a and b work on this study too: budget and parallel trials are shared."
    ]


def test_a_site_that_falls_silent_is_gone_after_its_lease(watcher: Watcher) -> None:
    watcher.see_at_work("b")
    for _ in range(60):
        watcher.observe({"b": {"number": 1}})
        watcher.clock.advance(1.0)

    assert watcher.others.active == ()
    assert not watcher.others.may_share


def test_another_runner_at_the_same_site_has_joined(watcher: Watcher) -> None:
    watcher.observe({"m": own(0)})
    watcher.observe({"m": another(1)})

    assert watcher.others.is_joined
    assert watcher.others.may_share
    assert watcher.others.active == (), "it is no other site"

    watcher.clock.advance(LEASE)
    assert not watcher.others.is_joined


def test_a_heartbeat_from_before_this_runner_is_its_predecessor_s(watcher: Watcher) -> None:
    watcher.observe({"m": another(7)})
    assert not watcher.others.is_joined

    watcher.observe({"m": own(0)})
    assert not watcher.others.is_joined


def test_trials_of_a_site_that_lives_are_held_there(watcher: Watcher) -> None:
    watcher.see_at_work("b")

    assert watcher.others.held_elsewhere([trial(0, "m"), trial(1, "b")]) == {1}


def test_trials_of_a_site_that_is_gone_are_not(watcher: Watcher) -> None:
    running = [trial(0, "m"), trial(1, "z")]
    for _ in range(60):
        watcher.observe({}, *running)
        watcher.clock.advance(1.0)

    assert watcher.others.held_elsewhere(running) == frozenset()


def test_alone_a_surplus_trial_is_abandoned_at_once(watcher: Watcher) -> None:
    watcher.observe({"m": own(0)})
    assert watcher.others.abandoned([4, 5]) == {4, 5}


def test_beside_others_a_surplus_trial_is_left_a_lease(watcher: Watcher) -> None:
    watcher.see_at_work("b")
    assert watcher.others.abandoned([4]) == frozenset()

    watcher.clock.advance(LEASE - 1)
    assert watcher.others.abandoned([4, 5]) == frozenset()
    watcher.clock.advance(1)
    assert watcher.others.abandoned([4, 5]) == {4}, "5 was seen later"


def test_a_trial_that_was_no_surplus_for_a_while_gets_a_lease_again(watcher: Watcher) -> None:
    watcher.see_at_work("b")
    watcher.others.abandoned([4])
    watcher.clock.advance(LEASE)
    watcher.others.abandoned([])

    assert watcher.others.abandoned([4]) == frozenset()
