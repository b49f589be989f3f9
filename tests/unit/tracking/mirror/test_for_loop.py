"""The mirror of the runner's loop: it asks, and waits for no answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from tests.unit.tracking.fake_runner import FakeRunner

from studyflow.testing.tracker_contract import card, points
from studyflow.tracking.mirror import AWAITED, Awaited, LoopMirror, Mirror
from studyflow.tracking.mirror.calls import CALLS_AT_ONCE
from studyflow.tracking.mirror.for_loop import LONGEST_PAUSE_SECONDS
from studyflow.tracking.mirror.sender import SHOW_SECONDS
from studyflow.trial import TrackingRef


@pytest.fixture
def mirror(runner: FakeRunner) -> Iterator[Mirror]:
    mirror = runner.mirror(is_threaded=True)
    mirror.open_study(card())
    yield mirror
    runner.tracker.release.set()
    mirror.close(timeout_seconds=5.0)


def answer_of(ask: Callable[[], object]) -> object:
    """Ask until there is an answer, as turns of a loop do."""
    deadline = time.monotonic() + 30.0
    while isinstance(found := ask(), Awaited):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return found


def test_a_hundred_trials_ask_for_their_runs_while_none_is_opened(
    runner: FakeRunner, mirror: Mirror
) -> None:
    loop = mirror.for_loop()
    runner.tracker.hang("reserve_trial")
    records = [runner.start(number) for number in range(100)]

    assert {loop.open_trial(record) for record in records} == {AWAITED}
    assert all(loop.is_opening(record) for record in records)
    assert runner.tracker.calls["reserve_trial"] <= CALLS_AT_ONCE

    runner.tracker.release.set()
    refs = [answer_of(partial(loop.open_trial, record)) for record in records]
    assert refs == [TrackingRef("memory:", runner.memory.runs[n].run_id) for n in range(100)]
    assert runner.tracker.calls["reserve_trial"] == 100
    assert not any(loop.is_opening(record) for record in records)


@pytest.mark.fault("F33")
def test_a_run_that_takes_too_long_is_done_without_and_opened_later(
    runner: FakeRunner, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studyflow.tracking.mirror.for_loop.OPEN_SECONDS", 0.01)
    loop = mirror.for_loop()
    runner.tracker.hang("reserve_trial")
    record = runner.start(0)

    assert answer_of(lambda: loop.open_trial(record)) is None
    assert loop.open_trial(runner.start(1)) is None, "it is known to be away"
    runner.tracker.release.set()
    assert mirror.flush(30.0) == 0
    assert set(runner.memory.runs) == {-1, 0, 1}


@pytest.mark.fault("F33")
def test_runs_that_wait_behind_hanging_calls_are_not_awaited_once_the_tracker_is_away(
    runner: FakeRunner, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studyflow.tracking.mirror.for_loop.OPEN_SECONDS", 0.01)
    loop = mirror.for_loop()
    runner.tracker.hang("reserve_trial")
    records = [runner.start(number) for number in range(CALLS_AT_ONCE + 1)]
    assert {loop.open_trial(record) for record in records} == {AWAITED}
    assert loop.is_opening(records[-1])

    assert answer_of(lambda: loop.open_trial(records[0])) is None
    assert not any(loop.is_opening(record) for record in records)
    assert loop.seconds_to_answer() == 0.0, "the loop starts them without their runs"
    assert [loop.open_trial(record) for record in records[1:]] == [None] * CALLS_AT_ONCE


def test_a_trial_that_ends_before_its_run_is_opened_is_not_opened_after_it(
    runner: FakeRunner, mirror: Mirror
) -> None:
    loop = mirror.for_loop()
    runner.tracker.hang("reserve_trial")
    for number in range(CALLS_AT_ONCE + 1):
        loop.open_trial(runner.start(number))
    last = CALLS_AT_ONCE
    loop.finish_trial(runner.end(last))
    runner.tracker.release.set()

    assert mirror.flush(30.0) == 0
    assert runner.memory.runs[last].status == "FINISHED"
    assert runner.memory.runs[last].opened == 0


def test_an_answer_is_the_same_until_it_is_dropped(runner: FakeRunner, mirror: Mirror) -> None:
    loop = mirror.for_loop()
    record = runner.start(0)
    mirror.open_trial(record)
    mirror.points(record, points(0))
    assert mirror.flush(30.0) == 0

    for _ in range(3):
        found = answer_of(lambda: loop.read_points(record, "loss"))
        assert isinstance(found, tuple)
        assert len(found) == 3
    assert runner.tracker.calls["read_points"] == 1
    loop.drop(record)
    answer_of(lambda: loop.read_points(record, "loss"))
    assert runner.tracker.calls["read_points"] == 2


def test_running_trials_are_read_by_one_call(runner: FakeRunner, mirror: Mirror) -> None:
    loop = mirror.for_loop()
    records = [runner.start(number) for number in range(50)]
    for record in records:
        mirror.open_trial(record)
        mirror.points(record, points(record.number))
    assert mirror.flush(30.0) == 0

    found = answer_of(lambda: loop.read_running(records, "loss"))
    assert isinstance(found, dict)
    assert sorted(found) == list(range(50))
    assert runner.tracker.calls["read_running"] == 1


def test_the_loop_sleeps_longer_each_time_that_no_answer_came(
    runner: FakeRunner, mirror: Mirror
) -> None:
    loop: LoopMirror = mirror.for_loop()
    assert loop.seconds_to_answer() is None
    runner.tracker.hang("reserve_trial")
    record = runner.start(0)
    loop.open_trial(record)

    pauses = [loop.seconds_to_answer() for _ in range(8)]
    assert pauses[:3] == [0.01, 0.02, 0.04]
    assert pauses[-1] == LONGEST_PAUSE_SECONDS
    runner.tracker.release.set()
    while loop.is_opening(record):
        threading.Event().wait(0.001)
    assert loop.seconds_to_answer() == 0.0, "there is an answer"
    assert loop.seconds_to_answer() is None, "nobody takes it, such as while the study is paused"


def test_a_run_that_was_only_reserved_shows_its_parameters_soon(
    runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = TrackingRef("memory:", "reserved")
    monkeypatch.setattr(runner.memory, "reserve_trial", lambda record: ref, raising=False)
    mirror = runner.mirror()
    mirror.open_study(card())

    assert mirror.for_loop().open_trial(runner.start(0)) == ref
    assert mirror.step() == SHOW_SECONDS
    assert runner.tracker.calls["open_trial"] == 0
    runner.now += SHOW_SECONDS
    mirror.step()
    assert runner.memory.runs[0].opened == 1
    assert mirror.status.pending == 0


def test_a_reserved_run_of_a_trial_that_ends_at_once_is_only_closed(
    runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = TrackingRef("memory:", "reserved")
    monkeypatch.setattr(runner.memory, "reserve_trial", lambda record: ref, raising=False)
    mirror = runner.mirror()
    mirror.open_study(card())
    mirror.for_loop().open_trial(runner.start(0))
    mirror.finish_trial(runner.end(0))

    assert mirror.step() is None
    assert (runner.tracker.calls["open_trial"], runner.tracker.calls["close_trial"]) == (0, 1)
