"""What every tracker must do. Subclass `TrackerContract` to test your own.

    class TestMyTracker(TrackerContract):
        def make_tracker(self, study): ...
        def look(self, study): ...
        def delete_behind_its_back(self, study, number): ...

The last two are side doors: they reach the place where runs are kept without the code under test.
"""

from __future__ import annotations

import dataclasses
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from studyflow.errors import TrackingError
from studyflow.tracking.protocol import StudyCard, StudySummary, Tracker
from studyflow.trial import Cause, MetricPoint
from studyflow.trial.record import TrialRecord, TrialState, best_records

STUDY = "contract"
NASTY = """it's "a" `study`; 研究 😀 %s $(x) a//b ../c # ? <=&"""

STARTED_AT = 1_700_000_000.0
STARTED_MS = 1_700_000_000_000


@dataclass(frozen=True)
class SeenRun:
    """One run as it is kept, seen through the side door."""

    name: str
    status: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    """Last value of each metric."""
    artifacts: frozenset[str] = field(default_factory=frozenset)
    """Paths of all artifacts."""


@dataclass(frozen=True)
class SeenStudy:
    """Everything kept of one study."""

    parents: tuple[SeenRun, ...]
    children: Mapping[int, tuple[SeenRun, ...]]
    """Runs of each trial: there must never be two."""

    @property
    def parent(self) -> SeenRun:
        (run,) = self.parents
        return run

    def child(self, number: int) -> SeenRun:
        (run,) = self.children[number]
        return run


def card(study: str = STUDY, objectives: tuple[str, ...] = ("loss",)) -> StudyCard:
    """Return what a small study shows."""
    directions = ("minimize",) * len(objectives)
    return StudyCard(
        study, directions, objectives, "name: contract\n", "What for.", {"team": "a"}, 5
    )


def running(number: int, **changes: object) -> TrialRecord:
    """Return a trial in its first attempt."""
    record = TrialRecord(
        number,
        TrialState.RUNNING,
        {"lr": 0.001, "layers": 3, "optimizer": "adam", "nesterov": True},
        attempt=1,
        started_at=STARTED_AT + number,
    )
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


def complete(number: int, value: float = 0.5, **changes: object) -> TrialRecord:
    """Return a trial that ended well after 7 seconds."""
    record = running(
        number,
        state=TrialState.COMPLETE,
        cause=Cause.OK,
        values=(value,),
        metrics={"loss": value, "accuracy": 0.9},
        constraints={"latency_ms <= 20": -3.0},
        finished_at=STARTED_AT + number + 7.0,
    )
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


def points(number: int, n: int = 3, metric: str = "loss") -> list[MetricPoint]:
    """Return a falling curve."""
    begin_ms = STARTED_MS + 1000 * number
    return [MetricPoint(metric, step, 1.0 / (1 + step), begin_ms + step) for step in range(n)]


class TrackerContract(ABC):
    """Tests that every `Tracker` passes."""

    @abstractmethod
    def make_tracker(self, study: str) -> Tracker:
        """Return a new tracker; all made within one test share the place where runs are kept."""

    @abstractmethod
    def look(self, study: str) -> SeenStudy:
        """Return what is kept of a study, without a tracker."""

    @abstractmethod
    def delete_behind_its_back(self, study: str, number: int) -> None:
        """Delete a trial's run as a person would."""

    def opened(self, study: str = STUDY) -> Tracker:
        tracker = self.make_tracker(study)
        tracker.open_study(card(study))
        return tracker

    def test_a_study_is_one_running_parent_that_holds_the_study_file(self) -> None:
        ref = self.opened().open_study(card())
        parent = self.look(STUDY).parent
        assert ref.run_id
        assert (parent.name, parent.status) == (STUDY, "RUNNING")
        assert "study.yaml" in parent.artifacts

    def test_another_process_finds_the_same_parent(self) -> None:
        first = self.make_tracker(STUDY).open_study(card())
        assert self.make_tracker(STUDY).open_study(card()) == first

    def test_a_trial_is_one_running_child_with_its_parameters(self) -> None:
        self.opened().open_trial(running(7))
        child = self.look(STUDY).child(7)
        assert (child.name, child.status) == ("trial-0007", "RUNNING")
        assert child.params == {
            "lr": "0.001",
            "layers": "3",
            "optimizer": "adam",
            "nesterov": "True",
        }

    def test_a_later_attempt_from_another_process_reopens_the_same_child(self) -> None:
        first = self.opened().open_trial(running(0))
        again = self.opened().open_trial(running(0, attempt=2))
        assert again == first
        assert self.look(STUDY).child(0).status == "RUNNING"

    def test_a_lost_attempt_leaves_the_child_to_the_next_one(self) -> None:
        tracker = self.opened()
        first = tracker.open_trial(running(0))
        tracker.lose_attempt(running(0))
        tracker.lose_attempt(running(0))
        assert self.look(STUDY).child(0).status == "RUNNING"
        assert tracker.open_trial(running(0, attempt=2)) == first
        tracker.lose_attempt(running(0))
        tracker.log_points(running(0, attempt=2), points(0))
        assert self.look(STUDY).child(0).metrics["loss"] == 1 / 3

    def test_points_are_stored_once_however_often_they_are_sent(self) -> None:
        tracker = self.opened()
        tracker.open_trial(running(0))
        tracker.log_points(running(0), points(0)[:2])
        tracker.log_points(running(0), points(0))
        tracker.log_points(running(0), points(0))
        assert tracker.read_points(running(0), "loss") == tuple(points(0))

    def test_more_points_than_one_request_takes(self) -> None:
        tracker = self.opened()
        tracker.log_points(running(0), points(0, 1203))
        assert len(tracker.read_points(running(0), "loss")) == 1203
        assert tracker.read_latest(running(0)) == {"loss": 1 / 1203}

    def test_a_trials_own_run_is_the_first_that_is_read(self) -> None:
        tracker = self.opened()
        record = dataclasses.replace(running(0), run_id=tracker.open_trial(running(0)).run_id)
        tracker.log_points(record, points(0))
        own = tracker.read_runs(record, ("loss",), None).runs[0]
        assert (own.run_id, own.metrics) == (record.run_id, {"loss": 1 / 3})
        assert tracker.read_runs(running(5), ("loss",), None).runs == ()

    def test_what_an_earlier_attempt_logged_counts_no_more(self) -> None:
        tracker = self.opened()
        record = dataclasses.replace(running(0), attempt=2)
        tracker.open_trial(record)
        at_s = STARTED_MS // 1000
        newer = MetricPoint("loss", 0, 0.75, 1000 * at_s + 5000)
        tracker.log_points(record, [*points(0), newer, MetricPoint("old", 9, 0.5, STARTED_MS)])
        own = tracker.read_runs(record, ("loss", "old"), at_s + 5.0).runs[0]
        assert (own.metrics, own.outdated) == ({"loss": 0.75}, frozenset({"old"}))

    def test_values_that_are_no_numbers_are_not_stored_as_metrics(self) -> None:
        tracker = self.opened()
        odd = [
            MetricPoint("loss", step, value, STARTED_MS)
            for step, value in enumerate((math.nan, math.inf, -math.inf))
        ]
        tracker.log_points(running(0), odd)
        assert tracker.read_latest(running(0)) == {}
        tracker.close_trial(complete(0, metrics={"loss": 0.5, "accuracy": math.nan}))
        seen = self.look(STUDY).child(0).metrics
        assert all(math.isfinite(value) and abs(value) < 1e300 for value in seen.values())

    def test_a_closed_trial_has_status_values_and_files(self, tmp_path: Path) -> None:
        tracker = self.opened()
        tracker.open_trial(running(0))
        tracker.log_points(running(0), points(0))
        (tmp_path / "out.txt").write_text("epoch 1\n")
        (tmp_path / "model.bin").write_bytes(b"weights")
        (tmp_path / "plots").mkdir()
        (tmp_path / "plots" / "a.svg").write_text("<svg/>")
        tracker.close_trial(
            complete(0, 0.25),
            log=tmp_path / "out.txt",
            artifacts=[tmp_path / "model.bin", tmp_path / "plots"],
        )
        child = self.look(STUDY).child(0)
        assert child.status == "FINISHED"
        assert child.metrics["loss"] == 0.25
        assert child.metrics["accuracy"] == 0.9
        assert {"trial.log", "model.bin", "plots/a.svg"} <= child.artifacts
        assert tracker.finished_trials() == {0}

    def test_of_artifacts_only_files_of_their_folder_are_kept(self, tmp_path: Path) -> None:
        tracker = self.opened()
        folder = tmp_path / "artifacts"
        (folder / "plots").mkdir(parents=True)
        (folder / "plots" / "a.svg").write_text("<svg/>")
        (folder / "plots" / "up").symlink_to("..")
        (folder / "best.svg").symlink_to("plots/a.svg")
        (folder / "gone").symlink_to("nothing")
        (folder / "passwd").symlink_to("/etc/passwd")
        (folder / "etc").symlink_to("/etc")
        os.mkfifo(folder / "pipe")
        tracker.close_trial(complete(0), artifacts=sorted(folder.iterdir()))
        kept = {name for name in self.look(STUDY).child(0).artifacts if "." in name}
        assert kept == {"best.svg", "plots/a.svg"}
        assert tracker.finished_trials() == {0}

    @pytest.mark.parametrize(
        ("state", "cause", "status"),
        [
            (TrialState.PRUNED, Cause.PRUNED, "FINISHED"),
            (TrialState.FAILED, Cause.CUDA_OOM, "FAILED"),
            (TrialState.FAILED, Cause.USER_ERROR, "FAILED"),
            (TrialState.FAILED, Cause.CANCELLED, "KILLED"),
        ],
    )
    def test_a_run_ends_as_its_trial_did(
        self, state: TrialState, cause: Cause, status: str
    ) -> None:
        tracker = self.opened()
        record = complete(0, state=state, cause=cause, values=None, metrics={}, message="why")
        tracker.close_trial(record)
        assert self.look(STUDY).child(0).status == status
        assert tracker.finished_trials() == {0}

    def test_a_final_value_is_the_latest_even_beside_points_of_a_clock_ahead(self) -> None:
        tracker = self.opened()
        ahead = MetricPoint("loss", 9, 0.75, STARTED_MS + 3_600_000)
        tracker.log_points(running(0), [*points(0), ahead])
        tracker.close_trial(complete(0, 0.25))
        tracker.close_trial(complete(0, 0.25))
        assert self.look(STUDY).child(0).metrics["loss"] == 0.25
        assert tracker.read_latest(complete(0))["loss"] == 0.25

    def test_closing_again_changes_nothing(self) -> None:
        tracker = self.opened()
        tracker.close_trial(complete(0))
        before = self.look(STUDY)
        tracker.close_trial(complete(0))
        self.make_tracker(STUDY).close_trial(complete(0))
        assert self.look(STUDY) == before

    def test_a_trial_never_opened_can_be_closed(self) -> None:
        self.opened().close_trial(complete(4))
        child = self.look(STUDY).child(4)
        assert (child.status, child.params["lr"]) == ("FINISHED", "0.001")

    def test_a_trial_that_is_not_finished_cannot_be_closed(self) -> None:
        with pytest.raises(TrackingError, match="Trial 1 is running"):
            self.opened().close_trial(running(1))

    def test_only_complete_trials_are_finished(self, tmp_path: Path) -> None:
        tracker = self.opened()
        tracker.open_trial(running(0))
        tracker.close_trial(complete(1))
        with pytest.raises(TrackingError, match="artifact"):
            tracker.close_trial(complete(2), artifacts=[tmp_path / "missing.bin"])
        assert self.make_tracker(STUDY).finished_trials() == {1}
        assert self.look(STUDY).child(2).metrics["loss"] == 0.5

    def test_a_new_study_has_no_finished_trials(self) -> None:
        assert self.make_tracker("other").finished_trials() == frozenset()

    def test_reading_a_trial_without_a_run_gives_nothing_and_creates_nothing(self) -> None:
        tracker = self.opened()
        assert tracker.read_latest(running(5)) == {}
        assert tracker.read_points(running(5), "loss") == ()
        assert 5 not in self.look(STUDY).children

    def test_a_deleted_run_is_replaced(self) -> None:
        tracker = self.opened()
        tracker.open_trial(running(0))
        self.delete_behind_its_back(STUDY, 0)
        tracker.log_points(running(0), points(0))
        tracker.close_trial(complete(0))
        child = self.look(STUDY).child(0)
        assert child.status == "FINISHED"
        assert child.params["lr"] == "0.001"
        assert tracker.finished_trials() == {0}

    def test_a_closed_study_has_its_best_trial_counts_and_files(self, tmp_path: Path) -> None:
        tracker = self.opened()
        records = (complete(0, 0.5), complete(1, 0.25))
        for record in records:
            tracker.close_trial(record)
        (tmp_path / "page.html").write_text("<p>")
        summary = StudySummary(
            True,
            best_records(records, ("minimize",)),
            records,
            "**done**",
            {"report/report.html": tmp_path / "page.html"},
        )
        tracker.close_study(summary)
        parent = self.look(STUDY).parent
        assert parent.status == "FINISHED"
        assert "report/report.html" in parent.artifacts
        tracker.close_study(summary)
        assert self.look(STUDY).parent == parent

    def test_an_interrupted_study_is_killed_and_runs_again_when_opened(self) -> None:
        tracker = self.opened()
        tracker.close_study(StudySummary(False, (), ()))
        assert self.look(STUDY).parent.status == "KILLED"
        self.opened()
        assert self.look(STUDY).parent.status == "RUNNING"

    def test_a_study_that_another_runner_goes_on_with_stays_running(self) -> None:
        tracker = self.opened()
        tracker.close_study(StudySummary(False, (), (), is_driven=True))
        assert self.look(STUDY).parent.status == "RUNNING"
        tracker.close_study(StudySummary(True, (), ()))
        assert self.look(STUDY).parent.status == "FINISHED"

    def test_names_may_hold_anything_printable(self) -> None:
        tracker = self.opened(NASTY)
        record = complete(0, params={NASTY: NASTY, "学习率": None}, metrics={NASTY: 1.5})
        tracker.open_trial(dataclasses.replace(record, state=TrialState.RUNNING))
        sent = points(0, metric=NASTY)
        tracker.log_points(record, sent)
        assert tracker.read_points(record, NASTY) == tuple(sent)
        tracker.close_trial(record)
        assert tracker.read_latest(record)[NASTY] == 1.5
        tracker.close_study(StudySummary(True, (record,), (record,)))
        again = self.make_tracker(NASTY)
        again.open_study(card(NASTY))
        assert again.finished_trials() == {0}
        seen = self.look(NASTY)
        assert NASTY in seen.child(0).params.values()
        assert "None" in seen.child(0).params.values()

    def test_two_studies_do_not_mix(self) -> None:
        self.opened("a").close_trial(complete(0))
        self.opened("b").open_trial(running(0))
        assert self.make_tracker("a").finished_trials() == {0}
        assert self.make_tracker("b").finished_trials() == frozenset()

    def test_it_can_be_closed(self) -> None:
        self.opened().close()
