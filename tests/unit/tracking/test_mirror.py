"""The mirror: nothing lost, nothing twice, nobody kept waiting."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from studyflow.errors import ExecutorUnavailable, TrackingError, TrackingUnavailable
from studyflow.testing.failing_tracker import FailingTracker
from studyflow.testing.tracker_contract import card, complete, points, running
from studyflow.tracking import MemoryTracker, Mirror, StudySummary, sync_study
from studyflow.tracking import mirror as mirror_module
from studyflow.tracking.mirror import TrialFiles, missing_points, read_metrics_file
from studyflow.trial import MetricPoint
from studyflow.trial.record import TrialRecord


class Place:
    """A runner's storage and files, a tracker that can fail, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 100.0
        self.records: dict[int, TrialRecord] = {}
        self.file_errors: list[Exception] = []
        self.memory = MemoryTracker()
        self.tracker = FailingTracker(self.memory)

    def mirror(self, *, is_threaded: bool = False, max_buffered_points: int = 50) -> Mirror:
        return Mirror(
            self.tracker,
            files=self.files,
            clock=lambda: self.now,
            retry_seconds=(1.0, 60.0),
            max_buffered_points=max_buffered_points,
            is_threaded=is_threaded,
        )

    def metrics_file(self, number: int) -> Path:
        return self.folder / f"{number}.metrics"

    def files(self, record: TrialRecord) -> TrialFiles:
        if self.file_errors:
            raise self.file_errors.pop()
        path = self.metrics_file(record.number)
        return None, (), path if path.exists() else None

    def start(self, number: int) -> TrialRecord:
        self.records[number] = running(number)
        return self.records[number]

    def end(self, number: int) -> TrialRecord:
        self.records[number] = complete(number)
        return self.records[number]

    def write(self, number: int, written: list[MetricPoint]) -> None:
        text = "".join(point.to_json() + "\n" for point in written)
        self.metrics_file(number).write_text(text)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def drain(mirror: Mirror, limit: int = 200) -> int:
    """Work until nothing can be done at this moment; return how many pieces that took."""
    for step in range(limit):
        wait_seconds = mirror.step()
        if wait_seconds is None or wait_seconds > 0:
            return step + 1
    raise AssertionError("the mirror does not come to rest")


def is_away(mirror: Mirror) -> bool:
    return mirror.status.away_since is not None


def test_a_whole_study_reaches_the_tracker(place: Place) -> None:
    mirror = place.mirror()
    assert mirror.open_study(card()) is not None
    assert mirror.open_trial(place.start(0)) is not None
    mirror.points(place.records[0], points(0))
    mirror.finish_trial(place.end(0))
    mirror.close_study(StudySummary(True, (), tuple(place.records.values())))
    drain(mirror)
    run = place.memory.runs[0]
    assert (run.status, run.metrics["loss"], len(run.points)) == ("FINISHED", 0.5, 3)
    assert place.memory.study_run.status == "FINISHED"
    assert mirror.status.pending == 0
    assert mirror.flush(0.0) == 0


@pytest.mark.fault("F32")
def test_an_outage_loses_nothing_and_doubles_nothing(place: Place) -> None:
    mirror = place.mirror()
    mirror.open_study(card())
    mirror.open_trial(place.start(0))
    place.tracker.is_away = True
    mirror.points(place.records[0], points(0)[:2])
    drain(mirror)
    mirror.points(place.records[0], points(0)[2:])
    mirror.finish_trial(place.end(0))
    assert mirror.open_trial(place.start(1)) is None
    mirror.finish_trial(place.end(1))
    mirror.close_study(StudySummary(True, (), ()))
    assert mirror.status.pending == 3
    place.tracker.is_away = False
    place.now += 61.0
    drain(mirror)
    assert mirror.status.pending == 0
    assert mirror.status.away_since is None
    assert len(place.memory.runs[0].points) == 3
    assert [place.memory.runs[n].status for n in (0, 1)] == ["FINISHED", "FINISHED"]
    assert place.memory.created == 3
    assert place.memory.study_run.status == "FINISHED"


@pytest.mark.fault("F33")
def test_nobody_waits_for_a_tracker_known_to_be_away(place: Place) -> None:
    mirror = place.mirror()
    mirror.open_study(card())
    place.tracker.is_away = True
    assert mirror.open_trial(place.start(0)) is None
    asked = place.tracker.calls["open_trial"]
    assert [mirror.open_trial(place.start(n)) for n in range(1, 5)] == [None] * 4
    assert mirror.read_points(place.records[1], "loss") == ()
    assert place.tracker.calls["open_trial"] == asked
    assert place.tracker.calls["read_points"] == 0


def test_a_tracker_found_back_is_asked_again(place: Place) -> None:
    mirror = place.mirror()
    mirror.open_study(card())
    place.tracker.fail_next()
    assert mirror.open_trial(place.start(0)) is None
    assert mirror.open_trial(place.start(1)) is None
    place.now += 1.0
    drain(mirror)
    assert set(place.memory.runs) == {-1, 0, 1}
    assert mirror.open_trial(place.start(2)) is not None


def test_a_failed_read_is_enough_to_look_for_the_tracker_later(place: Place) -> None:
    mirror = place.mirror()
    mirror.open_study(card())
    mirror.open_trial(place.start(0))
    mirror.points(place.records[0], points(0))
    drain(mirror)
    place.tracker.fail_next()
    assert mirror.read_points(place.records[0], "loss") == ()
    assert is_away(mirror)
    place.now += 1.0
    drain(mirror)
    assert not is_away(mirror)
    assert len(mirror.read_points(place.records[0], "loss")) == 3


@pytest.mark.fault("F74")
def test_why_a_scripts_runs_cannot_be_read_is_told(place: Place) -> None:
    mirror = place.mirror()
    mirror.open_study(card())
    mirror.open_trial(place.start(0))
    mirror.points(place.records[0], points(0))
    drain(mirror)
    (run,) = mirror.read_runs(place.records[0], ("loss",), None).runs
    assert run.metrics == {"loss": 1 / 3}
    place.tracker.fail_next(error=TrackingError("No such run."))
    refused = mirror.read_runs(place.records[0], ("loss",), None)
    assert (refused.trouble, refused.is_away) == ("No such run.", False)
    place.tracker.fail_next()
    away = mirror.read_runs(place.records[0], ("loss",), None)
    assert (away.trouble, away.is_away) == ("MLflow at http://test does not answer: planned", True)


def test_pauses_double_up_to_the_longest(place: Place) -> None:
    mirror = place.mirror()
    place.tracker.is_away = True
    mirror.open_study(card())
    pauses = []
    for _ in range(9):
        wait_seconds = mirror.step()
        assert wait_seconds is not None
        place.now += wait_seconds
        pauses.append(wait_seconds)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_an_outage_is_one_line_in_the_log_and_its_end_another(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "studyflow.tracking.mirror")
    mirror = place.mirror()
    mirror.open_study(card())
    place.tracker.is_away = True
    for number in range(5):
        mirror.open_trial(place.start(number))
    for _ in range(10):
        place.now += 60.0
        drain(mirror)
    place.tracker.is_away = False
    place.now += 60.0
    drain(mirror)
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "Tracking is away",
        "Tracking is back after 660 s.",
    ]


@pytest.mark.fault("F33")
def test_an_answer_lost_on_its_way_doubles_nothing(place: Place) -> None:
    mirror = place.mirror()
    mirror.open_study(card())
    place.tracker.lost_answers = {"open_trial", "log_points", "close_trial"}
    assert mirror.open_trial(place.start(0)) is None
    mirror.points(place.records[0], points(0))
    mirror.finish_trial(place.end(0))
    for _ in range(5):
        drain(mirror)
        place.now += 60.0
    assert mirror.status.pending == 0
    assert len(place.memory.runs[0].points) == 3
    assert place.memory.created == 2


@pytest.mark.fault("F33")
def test_points_beyond_the_buffer_are_read_from_the_file(place: Place) -> None:
    mirror = place.mirror(max_buffered_points=50)
    mirror.open_study(card())
    mirror.open_trial(place.start(0))
    mirror.open_trial(place.start(1))
    place.tracker.is_away = True
    place.write(0, points(0, 2500))
    for begin in range(0, 2500, 10):
        mirror.points(place.records[0], points(0, 2500)[begin : begin + 10])
    mirror.points(place.records[1], points(1, 5))
    assert mirror._buffered <= 50
    place.tracker.is_away = False
    place.now += 60.0
    drain(mirror)
    assert len(place.memory.runs[0].points) == 2500
    assert len(place.memory.runs[1].points) == 5
    assert mirror._buffered == 0
    assert mirror.status.pending == 0


def test_the_metrics_file_has_the_last_word_when_a_trial_ends(place: Place) -> None:
    mirror = place.mirror()
    mirror.open_study(card())
    record = place.start(0)
    mirror.open_trial(dataclasses.replace(record, attempt=2))
    place.write(0, points(0, 10))
    mirror.points(record, points(0, 10)[8:])
    mirror.finish_trial(place.end(0))
    drain(mirror)
    assert len(place.memory.runs[0].points) == 10


def test_what_a_dead_runner_could_not_send_is_found_by_the_next(place: Place) -> None:
    first = place.mirror()
    first.open_study(card())
    for number in range(4):
        place.start(number)
        place.end(number)
    first.finish_trial(place.records[0])
    drain(first)
    place.tracker.is_away = True
    for number in (1, 2):
        first.finish_trial(place.records[number])
    place.write(2, points(2))

    place.tracker.is_away = False
    second = place.mirror()
    second.open_study(card())
    second.resume(place.records.values())
    assert second.status.pending == 1
    drain(second)
    assert place.memory.finished_trials() == {0, 1, 2, 3}
    assert [place.memory.runs[n].closed for n in range(4)] == [1, 1, 1, 1]
    assert len(place.memory.runs[2].points) == 3


def test_a_refused_trial_holds_nobody_up_and_counts_as_missing(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = place.mirror()
    mirror.open_study(card())
    place.tracker.refused_trials[0] = TrackingError("no such key")
    for number in (0, 1):
        place.start(number)
        mirror.finish_trial(place.end(number))
    drain(mirror)
    status = mirror.status
    assert (status.pending, status.refused, status.away_since) == (1, (0,), None)
    assert "Trial 0: not tracked: no such key" in caplog.text
    assert place.memory.finished_trials() == {1}
    assert mirror.flush(0.0) == 1
    del place.tracker.refused_trials[0]
    mirror.finish_trial(place.records[0])
    drain(mirror)
    assert mirror.status.pending == 0


@pytest.mark.fault("F35")
def test_a_trial_the_server_stumbles_over_is_given_up_while_others_pass(place: Place) -> None:
    mirror = place.mirror()
    mirror.open_study(card())
    place.tracker.refused_trials[0] = TrackingUnavailable("500 internal error")
    place.start(0)
    mirror.finish_trial(place.end(0))
    for number in range(1, 40):
        place.start(number)
        mirror.finish_trial(place.end(number))
        drain(mirror)
        place.now += 61.0
    assert mirror.status.refused == (0,)
    assert place.memory.finished_trials() == frozenset(range(1, 40))


def test_refused_points_do_not_keep_the_end_away(place: Place) -> None:
    mirror = place.mirror()
    mirror.open_study(card())
    mirror.open_trial(place.start(0))
    place.tracker.fail_next(error=TrackingError("bad metric"))
    mirror.points(place.records[0], points(0))
    mirror.finish_trial(place.end(0))
    drain(mirror)
    assert mirror.status.pending == 0
    assert "bad metric" in str(mirror.status.last_error)
    assert place.memory.finished_trials() == {0}


def test_files_that_are_away_are_asked_for_later(place: Place) -> None:
    mirror = place.mirror()
    mirror.open_study(card())
    place.start(0)
    place.file_errors = [ExecutorUnavailable("the disk is away")]
    mirror.finish_trial(place.end(0))
    assert mirror.step() == 1.0
    assert mirror.status.away_since is None
    place.now += 1.0
    drain(mirror)
    assert place.memory.finished_trials() == {0}


def test_a_broken_callback_does_not_end_the_mirror(place: Place) -> None:
    mirror = place.mirror()
    mirror.open_study(card())
    for number in (0, 1):
        place.start(number)
        mirror.finish_trial(place.end(number))
    place.file_errors = [ZeroDivisionError("bug")]
    drain(mirror)
    assert mirror.status.refused == (0,)
    assert "ZeroDivisionError: bug" in str(mirror.status.last_error)
    assert place.memory.finished_trials() == {1}


def test_a_refused_summary_counts_as_missing(place: Place, tmp_path: Path) -> None:
    mirror = place.mirror()
    mirror.open_study(card())
    mirror.close_study(StudySummary(True, (), (), files={"a.png": tmp_path / "missing.png"}))
    drain(mirror)
    assert mirror.status.pending == 1
    mirror.close_study(StudySummary(True, (), ()))
    drain(mirror)
    assert mirror.status.pending == 0


# With its threads


@pytest.fixture
def threaded(place: Place) -> Iterator[Mirror]:
    mirror = place.mirror(is_threaded=True)
    yield mirror
    place.tracker.release.set()
    mirror.close(timeout_seconds=5.0)


def test_threads_deliver_what_the_runner_leaves(place: Place, threaded: Mirror) -> None:
    threaded.open_study(card())
    for number in range(20):
        threaded.open_trial(place.start(number))
        threaded.points(place.records[number], points(number))
        threaded.finish_trial(place.end(number))
    threaded.close_study(StudySummary(True, (), tuple(place.records.values())))
    assert threaded.flush(50.0) == 0
    assert place.memory.finished_trials() == frozenset(range(20))
    assert all(len(place.memory.runs[n].points) == 3 for n in range(20))


@pytest.mark.fault("F33")
def test_a_slow_tracker_is_not_waited_for_beyond_the_patience(
    place: Place, threaded: Mirror
) -> None:
    threaded.open_study(card())
    place.tracker.hang("open_trial")
    assert threaded.open_trial(place.start(0), patience_seconds=0.01) is None
    assert threaded.open_trial(place.start(1), patience_seconds=3600.0) is None
    assert threaded.read_points(place.records[0], "loss", patience_seconds=3600.0) == ()
    assert threaded.status.last_error is not None
    assert "0.01 s" in threaded.status.last_error
    place.tracker.release.set()
    assert threaded.flush(50.0) == 0
    assert set(place.memory.runs) == {-1, 0, 1}


@pytest.mark.fault("F35")
def test_an_upload_that_hangs_keeps_no_launch_waiting(place: Place, threaded: Mirror) -> None:
    threaded.open_study(card())
    place.tracker.hang("close_trial")
    reached = threading.Event()
    place.tracker.before = lambda method, number: reached.set() if method == "close_trial" else None
    place.start(0)
    threaded.finish_trial(place.end(0))
    assert reached.wait(50.0)
    assert threaded.open_trial(place.start(1)) is not None
    assert threaded.flush(0.01) == 1
    place.tracker.release.set()
    assert threaded.flush(50.0) == 0


@pytest.mark.fault("F33")
def test_a_run_that_opens_too_late_opens_no_finished_trial_again(
    place: Place, threaded: Mirror
) -> None:
    threaded.open_study(card())
    place.tracker.hang("open_trial")
    assert threaded.open_trial(place.start(0), patience_seconds=0.01) is None
    threaded.finish_trial(place.end(0))
    assert threaded.flush(0.05) == 1
    assert place.tracker.calls["close_trial"] == 0, "its run is being opened at this moment"
    place.tracker.release.set()
    assert threaded.flush(50.0) == 0
    assert place.memory.runs[0].status == "FINISHED"
    assert threaded.status.last_error == "The tracker did not answer in 0.01 s."


@pytest.mark.fault("F33")
def test_a_study_that_opens_too_late_is_not_running_after_its_end(
    place: Place, threaded: Mirror
) -> None:
    place.tracker.hang("open_study")
    assert threaded.open_study(card(), patience_seconds=0.01) is None
    threaded.close_study(StudySummary(True, (), ()))
    threaded.flush(0.05)
    assert place.tracker.calls["close_study"] == 0
    place.tracker.release.set()
    assert threaded.flush(50.0) == 0
    assert place.memory.study_run.status == "FINISHED"


@pytest.mark.fault("F33")
def test_two_threads_never_write_about_one_trial_at_once(place: Place, threaded: Mirror) -> None:
    threaded.open_study(card())
    reached = threading.Event()
    place.tracker.before = lambda method, number: reached.set() if method == "log_points" else None
    place.tracker.hang("log_points")
    first = place.start(0)
    threaded.open_trial(first)
    threaded.points(first, points(0))
    assert reached.wait(50.0)
    second = dataclasses.replace(first, attempt=2)
    assert threaded.open_trial(second, patience_seconds=0.01) is None
    assert place.tracker.calls["open_trial"] == 1
    place.tracker.release.set()
    assert threaded.flush(50.0) == 0
    assert place.memory.runs[0].record == second


def test_what_fails_after_a_late_run_was_opened_does_not_end_the_thread(place: Place) -> None:
    mirror = place.mirror()
    mirror.open_study(card())
    place.tracker.is_away = True
    assert mirror.open_trial(place.start(0)) is None
    place.tracker.is_away = False
    place.now += 61.0
    place.file_errors = [ExecutorUnavailable("the disk is away")]
    drain(mirror)
    mirror.finish_trial(place.end(0))
    place.now += 61.0
    drain(mirror)
    assert mirror.status.pending == 0
    assert place.memory.finished_trials() == {0}


def test_a_trial_in_its_next_attempt_is_not_opened_again_and_again(place: Place) -> None:
    mirror = place.mirror()
    mirror.open_study(card())
    place.tracker.is_away = True
    first = place.start(0)
    assert mirror.open_trial(first) is None
    mirror.points(dataclasses.replace(first, attempt=2), points(0))
    place.tracker.is_away = False
    place.now += 61.0
    drain(mirror)
    assert mirror.status.pending == 0
    assert place.memory.runs[0].opened == 1
    assert len(place.memory.runs[0].points) == 3


def test_a_tracker_that_hangs_in_a_call_nobody_waits_for_is_not_closed_under_it(
    place: Place, threaded: Mirror
) -> None:
    place.tracker.hang("open_study")
    assert threaded.open_study(card(), patience_seconds=0.01) is None
    assert threaded.close(timeout_seconds=0.01) == 1
    assert place.tracker.calls["close"] == 0


def test_flush_tries_at_once_after_a_long_outage(place: Place, threaded: Mirror) -> None:
    place.tracker.fail_next()
    assert threaded.open_study(card()) is None
    assert threaded.flush(50.0) == 0
    assert place.memory.study_run.status == "RUNNING"


def test_closing_says_what_is_missing_and_does_not_wait_for_a_hanging_call(
    place: Place, threaded: Mirror
) -> None:
    threaded.open_study(card())
    place.tracker.hang("close_trial")
    place.start(0)
    threaded.finish_trial(place.end(0))
    assert threaded.close(timeout_seconds=0.01) == 1
    assert threaded.open_trial(place.start(1)) is None


# Synchronising


@pytest.mark.fault("F32")
def test_sync_sends_what_is_missing_and_only_that(place: Place) -> None:
    for number in range(3):
        place.start(number)
        place.write(number, points(number))
        place.end(number)
    place.start(3)
    place.memory.close_trial(place.records[1])
    seen: list[tuple[int, int]] = []
    report = sync_study(
        place.tracker,
        card(),
        list(place.records.values()),
        place.files,
        lambda done, total: seen.append((done, total)),
        summary=lambda: StudySummary(True, (), ()),
    )
    assert report.sent == (0, 2, 3)
    assert report.is_complete
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert place.memory.runs[1].closed == 1
    assert place.memory.runs[3].status == "RUNNING"
    assert len(place.memory.runs[0].points) == 3
    again = sync_study(place.tracker, card(), list(place.records.values())[:3], place.files)
    assert again.sent == ()


def test_sync_says_what_an_outage_left(place: Place) -> None:
    records = [place.end(number) for number in range(4)]
    place.tracker.refused_trials = {
        1: TrackingError("artifact gone"),
        2: TrackingUnavailable("away"),
    }
    report = sync_study(place.tracker, card(), records, place.files)
    assert report.sent == (0, 3), "it answers, only not about trial 2"
    assert report.failed == {1: "artifact gone"}
    assert (report.left, report.error, report.is_away) == ((2,), "away", True)
    assert not report.is_complete


@pytest.mark.fault("F78")
def test_sync_ends_when_the_tracker_answers_no_more(place: Place) -> None:
    records = [place.end(number) for number in range(4)]

    def go_away(method: str, number: int | None) -> None:
        place.tracker.is_away = place.tracker.is_away or (method == "close_trial" and number == 1)

    place.tracker.before = go_away
    report = sync_study(
        place.tracker, card(), records, place.files, summary=lambda: StudySummary(True, (), ())
    )
    assert (report.sent, report.left, report.is_away) == ((0,), (1, 2, 3), True)
    assert place.tracker.calls["close_trial"] == 2
    assert place.tracker.calls["close_study"] == 0


@pytest.mark.fault("F78")
def test_a_refused_summary_is_no_outage(place: Place) -> None:
    place.tracker.before = lambda method, _: (
        place.tracker.fail_next(error=TrackingError("no")) if method == "close_study" else None
    )
    report = sync_study(
        place.tracker,
        card(),
        [place.end(0)],
        place.files,
        summary=lambda: StudySummary(True, (), ()),
    )
    assert (report.sent, report.error, report.is_away) == ((0,), "no", False)


def test_a_metrics_file_may_be_torn_garbled_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    assert list(read_metrics_file(path)) == []
    good = points(0)
    path.write_bytes(
        good[0].to_json().encode()
        + b"\n\xff\xfe\nnot json\n"
        + b"x" * 10_000
        + b"\n"
        + good[1].to_json().encode()
        + b'\n["loss",2'
    )
    assert list(read_metrics_file(path)) == [good[:2]]


@pytest.mark.fault("F64")
@pytest.mark.timeout(20)
def test_what_a_script_put_in_place_of_its_metrics_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.jsonl"
    os.mkfifo(path)
    assert list(read_metrics_file(path)) == []
    path.unlink()
    path.mkdir()
    assert list(read_metrics_file(path)) == []
    monkeypatch.setattr(mirror_module, "METRICS_LIMIT_BYTES", 1 << 20)
    (tmp_path / "endless").touch()
    os.truncate(tmp_path / "endless", 1 << 40)
    assert list(read_metrics_file(tmp_path / "endless")) == []


def test_points_that_are_there_are_not_sent_again(place: Place) -> None:
    place.memory.log_points(running(0), points(0, 1500)[:1400])
    place.write(0, points(0, 1500))
    chunks = list(missing_points(place.memory, running(0), place.metrics_file(0)))
    assert [point for chunk in chunks for point in chunk] == points(0, 1500)[1400:]


@pytest.mark.timeout(20)
def test_nobody_waits_for_a_tracker_that_refuses_the_study(place: Place) -> None:
    def refuse(method: str, number: int | None) -> None:
        raise TrackingError("MLflow at bogus://x refused: no such scheme")

    place.tracker.before = refuse
    mirror = place.mirror(is_threaded=True)
    assert mirror.open_study(card(), 5.0) is None
    mirror.finish_trial(place.end(0))
    assert mirror.flush(60.0) == 2
    assert mirror.refusal == "MLflow at bogus://x refused: no such scheme"
    mirror.close(0.0)
