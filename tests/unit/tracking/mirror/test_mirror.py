"""The mirror: nothing lost, nothing twice, nobody kept waiting."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from tests.unit.tracking.fake_runner import FakeRunner

from studyflow.errors import ExecutorUnavailable, TrackingError, TrackingUnavailable
from studyflow.reasons import Code, Reason
from studyflow.testing.tracker_contract import card, points
from studyflow.tracking import Mirror, StudySummary
from studyflow.tracking.mirror import Awaited

T = TypeVar("T")


def drain(mirror: Mirror, limit: int = 200) -> int:
    """Work until nothing can be done at this moment; return how many pieces that took."""
    for step in range(limit):
        wait_seconds = mirror.step()
        if wait_seconds is None or wait_seconds > 0:
            return step + 1
    raise AssertionError("the mirror does not come to rest")


def answered(found: T | Awaited) -> T:
    """Return an answer that is there: without threads each call is made at once."""
    assert not isinstance(found, Awaited)
    return found


def is_away(mirror: Mirror) -> bool:
    return mirror.status.unavailable_since is not None


def test_a_whole_study_reaches_the_tracker(runner: FakeRunner) -> None:
    mirror = runner.mirror()
    assert mirror.open_study(card()) is not None
    assert mirror.open_trial(runner.start(0)) is not None
    mirror.points(runner.records[0], points(0))
    mirror.finish_trial(runner.end(0))
    mirror.close_study(StudySummary(True, (), tuple(runner.records.values())))
    drain(mirror)
    run = runner.memory.runs[0]
    assert (run.status, run.metrics["loss"], len(run.points)) == ("FINISHED", 0.5, 3)
    assert runner.memory.study_run.status == "FINISHED"
    assert mirror.status.pending == 0
    assert mirror.flush(0.0) == 0


def test_a_lost_attempt_is_noted_soon_and_after_an_outage(runner: FakeRunner) -> None:
    mirror = runner.mirror()
    mirror.open_study(card())
    mirror.open_trial(runner.start(0))
    runner.tracker.is_away = True
    mirror.lose_attempt(runner.records[0])
    drain(mirror)
    assert (runner.memory.runs[0].lost_attempt, mirror.status.pending) == (0, 1)
    runner.tracker.is_away = False
    runner.now += 61.0
    drain(mirror)
    assert (runner.memory.runs[0].lost_attempt, mirror.status.pending) == (1, 0)


def test_a_loss_that_is_out_of_date_is_not_sent(runner: FakeRunner) -> None:
    mirror = runner.mirror()
    mirror.open_study(card())
    mirror.open_trial(runner.start(0))
    mirror.lose_attempt(runner.records[0])
    mirror.open_trial(dataclasses.replace(runner.records[0], attempt=2))
    drain(mirror)
    mirror.open_trial(runner.start(1))
    mirror.lose_attempt(runner.records[1])
    mirror.finish_trial(runner.end(1))
    drain(mirror)
    assert runner.tracker.calls["lose_attempt"] == 0
    assert mirror.status.pending == 0


@pytest.mark.fault("F32")
def test_an_outage_loses_nothing_and_doubles_nothing(runner: FakeRunner) -> None:
    mirror = runner.mirror()
    mirror.open_study(card())
    mirror.open_trial(runner.start(0))
    runner.tracker.is_away = True
    mirror.points(runner.records[0], points(0)[:2])
    drain(mirror)
    mirror.points(runner.records[0], points(0)[2:])
    mirror.finish_trial(runner.end(0))
    assert mirror.open_trial(runner.start(1)) is None
    mirror.finish_trial(runner.end(1))
    mirror.close_study(StudySummary(True, (), ()))
    assert mirror.status.pending == 3
    runner.tracker.is_away = False
    runner.now += 61.0
    drain(mirror)
    assert mirror.status.pending == 0
    assert mirror.status.unavailable_since is None
    assert len(runner.memory.runs[0].points) == 3
    assert [runner.memory.runs[n].status for n in (0, 1)] == ["FINISHED", "FINISHED"]
    assert runner.memory.created == 3
    assert runner.memory.study_run.status == "FINISHED"


@pytest.mark.fault("F33")
def test_nobody_waits_for_a_tracker_known_to_be_away(runner: FakeRunner) -> None:
    mirror = runner.mirror()
    mirror.open_study(card())
    runner.tracker.is_away = True
    assert mirror.open_trial(runner.start(0)) is None
    asked = runner.tracker.calls["open_trial"]
    assert [mirror.open_trial(runner.start(n)) for n in range(1, 5)] == [None] * 4
    assert mirror.for_loop().read_points(runner.records[1], "loss") == ()
    assert runner.tracker.calls["open_trial"] == asked
    assert runner.tracker.calls["read_points"] == 0


def test_a_tracker_found_back_is_asked_again(runner: FakeRunner) -> None:
    mirror = runner.mirror()
    mirror.open_study(card())
    runner.tracker.fail_next()
    assert mirror.open_trial(runner.start(0)) is None
    assert mirror.open_trial(runner.start(1)) is None
    runner.now += 1.0
    drain(mirror)
    assert set(runner.memory.runs) == {-1, 0, 1}
    assert mirror.open_trial(runner.start(2)) is not None


def test_a_failed_read_is_enough_to_look_for_the_tracker_later(runner: FakeRunner) -> None:
    mirror = runner.mirror()
    mirror.open_study(card())
    mirror.open_trial(runner.start(0))
    mirror.points(runner.records[0], points(0))
    drain(mirror)
    runner.tracker.fail_next()
    assert mirror.for_loop().read_points(runner.records[0], "loss") == ()
    assert is_away(mirror)
    runner.now += 1.0
    drain(mirror)
    assert not is_away(mirror)
    assert len(answered(mirror.for_loop().read_points(runner.records[0], "loss"))) == 3


@pytest.mark.fault("F74")
def test_why_a_scripts_runs_cannot_be_read_is_told(runner: FakeRunner) -> None:
    mirror = runner.mirror()
    mirror.open_study(card())
    mirror.open_trial(runner.start(0))
    mirror.points(runner.records[0], points(0))
    drain(mirror)
    (run,) = answered(mirror.for_loop().read_runs(runner.records[0], ("loss",), None)).runs
    assert run.metrics == {"loss": 1 / 3}
    runner.tracker.fail_next(error=TrackingError("No such run."))
    refused = answered(mirror.for_loop().read_runs(runner.records[0], ("loss",), None))
    assert refused.failure == Reason(Code.TRACKER_REFUSED, "No such run.")
    assert not refused.is_retryable
    runner.tracker.fail_next()
    away = answered(mirror.for_loop().read_runs(runner.records[0], ("loss",), None))
    assert away.failure == Reason(
        Code.TRACKER_UNAVAILABLE, "MLflow at http://test does not answer: planned"
    )
    assert away.is_retryable


def test_pauses_double_up_to_the_longest(runner: FakeRunner) -> None:
    mirror = runner.mirror()
    runner.tracker.is_away = True
    mirror.open_study(card())
    pauses = []
    for _ in range(9):
        wait_seconds = mirror.step()
        assert wait_seconds is not None
        runner.now += wait_seconds
        pauses.append(wait_seconds)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_an_outage_is_one_line_in_the_log_and_its_end_another(
    runner: FakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "studyflow.tracking.mirror")
    mirror = runner.mirror()
    mirror.open_study(card())
    runner.tracker.is_away = True
    for number in range(5):
        mirror.open_trial(runner.start(number))
    for _ in range(10):
        runner.now += 60.0
        drain(mirror)
    runner.tracker.is_away = False
    runner.now += 60.0
    drain(mirror)
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "The tracker does not answer",
        "The tracker answers again, after 660 s.",
    ]


@pytest.mark.fault("F33")
def test_an_answer_lost_on_its_way_doubles_nothing(runner: FakeRunner) -> None:
    mirror = runner.mirror()
    mirror.open_study(card())
    runner.tracker.lost_answers = {"open_trial", "log_points", "close_trial"}
    assert mirror.open_trial(runner.start(0)) is None
    mirror.points(runner.records[0], points(0))
    mirror.finish_trial(runner.end(0))
    for _ in range(5):
        drain(mirror)
        runner.now += 60.0
    assert mirror.status.pending == 0
    assert len(runner.memory.runs[0].points) == 3
    assert runner.memory.created == 2


@pytest.mark.fault("F33")
def test_points_beyond_the_buffer_are_read_from_the_file(runner: FakeRunner) -> None:
    mirror = runner.mirror(max_buffered_points=50)
    mirror.open_study(card())
    mirror.open_trial(runner.start(0))
    mirror.open_trial(runner.start(1))
    runner.tracker.is_away = True
    runner.write(0, points(0, 2500))
    for begin in range(0, 2500, 10):
        mirror.points(runner.records[0], points(0, 2500)[begin : begin + 10])
    mirror.points(runner.records[1], points(1, 5))
    runner.tracker.is_away = False
    runner.now += 60.0
    drain(mirror)
    assert len(runner.memory.runs[0].points) == 2500
    assert len(runner.memory.runs[1].points) == 5
    assert mirror.status.pending == 0


def test_the_metrics_file_has_the_last_word_when_a_trial_ends(runner: FakeRunner) -> None:
    mirror = runner.mirror()
    mirror.open_study(card())
    record = runner.start(0)
    mirror.open_trial(dataclasses.replace(record, attempt=2))
    runner.write(0, points(0, 10))
    mirror.points(record, points(0, 10)[8:])
    mirror.finish_trial(runner.end(0))
    drain(mirror)
    assert len(runner.memory.runs[0].points) == 10


def test_what_a_dead_runner_could_not_send_is_found_by_the_next(runner: FakeRunner) -> None:
    first = runner.mirror()
    first.open_study(card())
    for number in range(4):
        runner.start(number)
        runner.end(number)
    first.finish_trial(runner.records[0])
    drain(first)
    runner.tracker.is_away = True
    for number in (1, 2):
        first.finish_trial(runner.records[number])
    runner.write(2, points(2))

    runner.tracker.is_away = False
    second = runner.mirror()
    second.open_study(card())
    second.resume(runner.records.values())
    assert second.status.pending == 1
    drain(second)
    assert runner.memory.finished_trials() == {0, 1, 2, 3}
    assert [runner.memory.runs[n].closed for n in range(4)] == [1, 1, 1, 1]
    assert len(runner.memory.runs[2].points) == 3


def test_a_refused_trial_holds_nobody_up_and_counts_as_missing(
    runner: FakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = runner.mirror()
    mirror.open_study(card())
    runner.tracker.refused_trials[0] = TrackingError("no such key")
    for number in (0, 1):
        runner.start(number)
        mirror.finish_trial(runner.end(number))
    drain(mirror)
    status = mirror.status
    assert (status.pending, status.refused, status.unavailable_since) == (1, (0,), None)
    assert "Trial 0: not tracked: no such key" in caplog.text
    assert runner.memory.finished_trials() == {1}
    assert mirror.flush(0.0) == 1
    del runner.tracker.refused_trials[0]
    mirror.finish_trial(runner.records[0])
    drain(mirror)
    assert mirror.status.pending == 0


@pytest.mark.fault("F35")
def test_a_trial_the_server_stumbles_over_is_given_up_while_others_pass(runner: FakeRunner) -> None:
    mirror = runner.mirror()
    mirror.open_study(card())
    runner.tracker.refused_trials[0] = TrackingUnavailable("500 internal error")
    runner.start(0)
    mirror.finish_trial(runner.end(0))
    for number in range(1, 40):
        runner.start(number)
        mirror.finish_trial(runner.end(number))
        drain(mirror)
        runner.now += 61.0
    assert mirror.status.refused == (0,)
    assert runner.memory.finished_trials() == frozenset(range(1, 40))


def test_refused_points_do_not_keep_the_end_away(runner: FakeRunner) -> None:
    mirror = runner.mirror()
    mirror.open_study(card())
    mirror.open_trial(runner.start(0))
    runner.tracker.fail_next(error=TrackingError("bad metric"))
    mirror.points(runner.records[0], points(0))
    mirror.finish_trial(runner.end(0))
    drain(mirror)
    assert mirror.status.pending == 0
    assert "bad metric" in str(mirror.status.last_failure)
    assert runner.memory.finished_trials() == {0}


def test_files_that_are_away_are_asked_for_later(runner: FakeRunner) -> None:
    mirror = runner.mirror()
    mirror.open_study(card())
    runner.start(0)
    runner.file_errors = [ExecutorUnavailable("the disk is away")]
    mirror.finish_trial(runner.end(0))
    assert mirror.step() == 1.0
    assert mirror.status.unavailable_since is None
    runner.now += 1.0
    drain(mirror)
    assert runner.memory.finished_trials() == {0}


def test_a_broken_callback_does_not_end_the_mirror(runner: FakeRunner) -> None:
    mirror = runner.mirror()
    mirror.open_study(card())
    for number in (0, 1):
        runner.start(number)
        mirror.finish_trial(runner.end(number))
    runner.file_errors = [ZeroDivisionError("bug")]
    drain(mirror)
    assert mirror.status.refused == (0,)
    assert "ZeroDivisionError: bug" in str(mirror.status.last_failure)
    assert runner.memory.finished_trials() == {1}


def test_a_study_that_cannot_be_shown_for_a_bug_is_tried_again_after_a_pause(
    runner: FakeRunner,
) -> None:
    mirror = runner.mirror()
    bugs = [ZeroDivisionError("bug")]

    def fail_once(method: str, number: int | None) -> None:
        for bug in bugs:
            bugs.remove(bug)
            raise bug

    mirror.renew_study(card())
    runner.tracker.before = fail_once
    assert mirror.step() == 1.0
    assert mirror.status.last_failure == Reason(Code.UNSPECIFIED, "ZeroDivisionError: bug")
    runner.now += 1.0
    drain(mirror)
    assert mirror.status.pending == 0


def test_a_refused_summary_counts_as_missing(runner: FakeRunner, tmp_path: Path) -> None:
    mirror = runner.mirror()
    mirror.open_study(card())
    mirror.close_study(StudySummary(True, (), (), files={"a.png": tmp_path / "missing.png"}))
    drain(mirror)
    assert mirror.status.pending == 1
    mirror.close_study(StudySummary(True, (), ()))
    drain(mirror)
    assert mirror.status.pending == 0


# With its threads


@pytest.fixture
def threaded(runner: FakeRunner) -> Iterator[Mirror]:
    mirror = runner.mirror(is_threaded=True)
    yield mirror
    runner.tracker.release.set()
    mirror.close(timeout_seconds=5.0)


def test_threads_deliver_what_the_runner_leaves(runner: FakeRunner, threaded: Mirror) -> None:
    threaded.open_study(card())
    for number in range(20):
        threaded.open_trial(runner.start(number))
        threaded.points(runner.records[number], points(number))
        threaded.finish_trial(runner.end(number))
    threaded.close_study(StudySummary(True, (), tuple(runner.records.values())))
    assert threaded.flush(50.0) == 0
    assert runner.memory.finished_trials() == frozenset(range(20))
    assert all(len(runner.memory.runs[n].points) == 3 for n in range(20))


@pytest.mark.fault("F33")
def test_a_slow_tracker_is_not_waited_for_beyond_the_patience(
    runner: FakeRunner, threaded: Mirror
) -> None:
    threaded.open_study(card())
    runner.tracker.hang("open_trial")
    assert threaded.open_trial(runner.start(0), patience_seconds=0.01) is None
    assert threaded.open_trial(runner.start(1), patience_seconds=3600.0) is None
    assert threaded.for_loop().read_points(runner.records[0], "loss") == ()
    assert "0.01 s" in str(threaded.status.last_failure)
    runner.tracker.release.set()
    assert threaded.flush(50.0) == 0
    assert set(runner.memory.runs) == {-1, 0, 1}


@pytest.mark.fault("F35")
def test_an_upload_that_hangs_keeps_no_launch_waiting(runner: FakeRunner, threaded: Mirror) -> None:
    threaded.open_study(card())
    runner.tracker.hang("close_trial")
    reached = threading.Event()
    runner.tracker.before = lambda method, number: (
        reached.set() if method == "close_trial" else None
    )
    runner.start(0)
    threaded.finish_trial(runner.end(0))
    assert reached.wait(50.0)
    assert threaded.open_trial(runner.start(1)) is not None
    assert threaded.flush(0.01) == 1
    runner.tracker.release.set()
    assert threaded.flush(50.0) == 0


@pytest.mark.fault("F33")
def test_a_run_that_opens_too_late_opens_no_finished_trial_again(
    runner: FakeRunner, threaded: Mirror
) -> None:
    threaded.open_study(card())
    runner.tracker.hang("open_trial")
    assert threaded.open_trial(runner.start(0), patience_seconds=0.01) is None
    threaded.finish_trial(runner.end(0))
    assert threaded.flush(0.05) == 1
    assert runner.tracker.calls["close_trial"] == 0, "its run is being opened at this moment"
    runner.tracker.release.set()
    assert threaded.flush(50.0) == 0
    assert runner.memory.runs[0].status == "FINISHED"
    assert threaded.status.last_failure == Reason(
        Code.TRACKER_UNAVAILABLE, "The tracker did not answer in 0.01 s."
    )


@pytest.mark.fault("F33")
def test_a_study_that_opens_too_late_is_not_running_after_its_end(
    runner: FakeRunner, threaded: Mirror
) -> None:
    runner.tracker.hang("open_study")
    assert threaded.open_study(card(), patience_seconds=0.01) is None
    threaded.close_study(StudySummary(True, (), ()))
    threaded.flush(0.05)
    assert runner.tracker.calls["close_study"] == 0
    runner.tracker.release.set()
    assert threaded.flush(50.0) == 0
    assert runner.memory.study_run.status == "FINISHED"


@pytest.mark.fault("F33")
def test_two_threads_never_write_about_one_trial_at_once(
    runner: FakeRunner, threaded: Mirror
) -> None:
    threaded.open_study(card())
    reached = threading.Event()
    runner.tracker.before = lambda method, number: reached.set() if method == "log_points" else None
    runner.tracker.hang("log_points")
    first = runner.start(0)
    threaded.open_trial(first)
    threaded.points(first, points(0))
    assert reached.wait(50.0)
    second = dataclasses.replace(first, attempt=2)
    assert threaded.open_trial(second, patience_seconds=0.01) is None
    assert runner.tracker.calls["open_trial"] == 1
    runner.tracker.release.set()
    assert threaded.flush(50.0) == 0
    assert runner.memory.runs[0].record == second


def test_what_fails_after_a_late_run_was_opened_does_not_end_the_thread(runner: FakeRunner) -> None:
    mirror = runner.mirror()
    mirror.open_study(card())
    runner.tracker.is_away = True
    assert mirror.open_trial(runner.start(0)) is None
    runner.tracker.is_away = False
    runner.now += 61.0
    runner.file_errors = [ExecutorUnavailable("the disk is away")]
    drain(mirror)
    mirror.finish_trial(runner.end(0))
    runner.now += 61.0
    drain(mirror)
    assert mirror.status.pending == 0
    assert runner.memory.finished_trials() == {0}


def test_a_trial_in_its_next_attempt_is_not_opened_again_and_again(runner: FakeRunner) -> None:
    mirror = runner.mirror()
    mirror.open_study(card())
    runner.tracker.is_away = True
    first = runner.start(0)
    assert mirror.open_trial(first) is None
    mirror.points(dataclasses.replace(first, attempt=2), points(0))
    runner.tracker.is_away = False
    runner.now += 61.0
    drain(mirror)
    assert mirror.status.pending == 0
    assert runner.memory.runs[0].opened == 1
    assert len(runner.memory.runs[0].points) == 3


def test_a_tracker_that_hangs_in_a_call_nobody_waits_for_is_not_closed_under_it(
    runner: FakeRunner, threaded: Mirror
) -> None:
    runner.tracker.hang("open_study")
    assert threaded.open_study(card(), patience_seconds=0.01) is None
    assert threaded.close(timeout_seconds=0.01) == 1
    assert runner.tracker.calls["close"] == 0


def test_flush_tries_at_once_after_a_long_outage(runner: FakeRunner, threaded: Mirror) -> None:
    runner.tracker.fail_next()
    assert threaded.open_study(card()) is None
    assert threaded.flush(50.0) == 0
    assert runner.memory.study_run.status == "RUNNING"


def test_closing_says_what_is_missing_and_does_not_wait_for_a_hanging_call(
    runner: FakeRunner, threaded: Mirror
) -> None:
    threaded.open_study(card())
    runner.tracker.hang("close_trial")
    runner.start(0)
    threaded.finish_trial(runner.end(0))
    assert threaded.close(timeout_seconds=0.01) == 1
    assert threaded.open_trial(runner.start(1)) is None


@pytest.mark.timeout(20)
def test_nobody_waits_for_a_tracker_that_refuses_the_study(runner: FakeRunner) -> None:
    def refuse(method: str, number: int | None) -> None:
        raise TrackingError("MLflow at bogus://x refused: no such scheme")

    runner.tracker.before = refuse
    mirror = runner.mirror(is_threaded=True)
    assert mirror.open_study(card(), 5.0) is None
    mirror.finish_trial(runner.end(0))
    assert mirror.flush(60.0) == 2
    assert mirror.refusal == "MLflow at bogus://x refused: no such scheme"
    mirror.close(0.0)
