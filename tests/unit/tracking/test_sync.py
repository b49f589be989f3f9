"""Synchronising: everything that is missing, and nothing twice."""

from __future__ import annotations

import pytest
from tests.unit.tracking.fake_runner import FakeRunner

from studyflow.errors import TrackingError, TrackingUnavailable
from studyflow.testing.tracker_contract import card, points
from studyflow.tracking import StudySummary, sync_study


@pytest.mark.fault("F32")
def test_sync_sends_what_is_missing_and_only_that(runner: FakeRunner) -> None:
    for number in range(3):
        runner.start(number)
        runner.write(number, points(number))
        runner.end(number)
    runner.start(3)
    runner.memory.close_trial(runner.records[1])
    seen: list[tuple[int, int]] = []
    report = sync_study(
        runner.tracker,
        card(),
        list(runner.records.values()),
        runner.files,
        lambda done, total: seen.append((done, total)),
        summary=lambda: StudySummary(True, (), ()),
    )
    assert report.sent == (0, 2, 3)
    assert report.is_complete
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert runner.memory.runs[1].closed == 1
    assert runner.memory.runs[3].status == "RUNNING"
    assert len(runner.memory.runs[0].points) == 3
    again = sync_study(runner.tracker, card(), list(runner.records.values())[:3], runner.files)
    assert again.sent == ()


def test_sync_says_what_an_outage_left(runner: FakeRunner) -> None:
    records = [runner.end(number) for number in range(4)]
    runner.tracker.refused_trials = {
        1: TrackingError("artifact gone"),
        2: TrackingUnavailable("away"),
    }
    report = sync_study(runner.tracker, card(), records, runner.files)
    assert report.sent == (0, 3), "it answers, only not about trial 2"
    assert report.failed == {1: "artifact gone"}
    assert (report.left, report.error, report.is_retryable) == ((2,), "away", True)
    assert not report.is_complete


@pytest.mark.fault("F78")
def test_sync_ends_when_the_tracker_answers_no_more(runner: FakeRunner) -> None:
    records = [runner.end(number) for number in range(4)]

    def go_away(method: str, number: int | None) -> None:
        runner.tracker.is_away = runner.tracker.is_away or (method == "close_trial" and number == 1)

    runner.tracker.before = go_away
    report = sync_study(
        runner.tracker, card(), records, runner.files, summary=lambda: StudySummary(True, (), ())
    )
    assert (report.sent, report.left, report.is_retryable) == ((0,), (1, 2, 3), True)
    assert runner.tracker.calls["close_trial"] == 2
    assert runner.tracker.calls["close_study"] == 0


@pytest.mark.fault("F78")
def test_a_refused_summary_is_no_outage(runner: FakeRunner) -> None:
    runner.tracker.before = lambda method, _: (
        runner.tracker.fail_next(error=TrackingError("no")) if method == "close_study" else None
    )
    report = sync_study(
        runner.tracker,
        card(),
        [runner.end(0)],
        runner.files,
        summary=lambda: StudySummary(True, (), ()),
    )
    assert (report.sent, report.error, report.is_retryable) == ((0,), "no", False)
