"""Every tracker against the contract: in memory, on MLflow's database, on a real MLflow server."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.mlflow_server import MlflowServer
from tests.prepared import put_mlflow_database

from studyflow.errors import TrackingError, TrackingUnavailable
from studyflow.reasons import Code
from studyflow.testing.tracker_contract import (
    NASTY,
    STUDY,
    SeenRun,
    SeenStudy,
    TrackerContract,
    card,
    complete,
    points,
    running,
)
from studyflow.tracking import (
    MemoryTracker,
    Mirror,
    MLflowTracker,
    StudySummary,
    Tracker,
    embedded_uri,
    sync_study,
)
from studyflow.tracking.memory import MemoryRun
from studyflow.trial import Cause, TrackingRef
from studyflow.trial.attempt_files import AttemptFiles
from studyflow.trial.record import TrialRecord, TrialState, best_records


class TestMemoryTracker(TrackerContract):
    @pytest.fixture(autouse=True)
    def _store(self) -> None:
        self.stores: dict[str, dict[int, MemoryRun]] = {}

    def make_tracker(self, study: str) -> Tracker:
        return MemoryTracker(self.stores.setdefault(study, {}))

    def look(self, study: str) -> SeenStudy:
        seen = {number: (_seen_in_memory(run),) for number, run in self.stores[study].items()}
        return SeenStudy(seen.pop(-1, ()), seen)

    def delete_behind_its_back(self, study: str, number: int) -> None:
        del self.stores[study][number]


def _seen_in_memory(run: MemoryRun) -> SeenRun:
    params = {} if run.record is None else {k: str(v) for k, v in run.record.params.items()}
    files = [*run.artifacts, *(["trial.log"] if run.log is not None else [])]
    return SeenRun(run.name, run.status, params, run.metrics, frozenset(files))


class TestMLflowTracker(TrackerContract):
    @pytest.fixture(autouse=True)
    def _store(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "embedded"
        put_mlflow_database(self.folder)

    def make_tracker(self, study: str) -> Tracker:
        return MLflowTracker(embedded_uri(self.folder), study)

    def look(self, study: str) -> SeenStudy:
        return look_with_a_client(embedded_uri(self.folder), study)

    def delete_behind_its_back(self, study: str, number: int) -> None:
        from mlflow import MlflowClient

        client = MlflowClient(embedded_uri(self.folder))
        for run in runs_of(client, study):
            if run.info.run_name.partition(" ")[0] == f"trial-{number:04d}":
                client.delete_run(run.info.run_id)

    @property
    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(embedded_uri(self.folder))

    def run_named(self, name: str, study: str = STUDY) -> Any:
        (run,) = (
            r for r in runs_of(self.client, study) if r.info.run_name.partition(" ")[0] == name
        )
        return run

    def delete_experiment(self) -> None:
        self.client.delete_experiment(self.client.get_experiment_by_name(STUDY).experiment_id)

    @pytest.mark.fault("F34")
    def test_an_experiment_deleted_while_running_is_restored(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        tracker = self.opened()
        ref = tracker.open_trial(running(0))
        self.delete_experiment()
        tracker.close_trial(complete(0))
        assert self.run_named("trial-0000").info.run_id == ref.run_id
        self.delete_experiment()
        tracker.open_trial(running(1))
        self.delete_experiment()
        tracker.close_study(StudySummary(True, (), ()))
        assert sorted(self.look(STUDY).children) == [0, 1]
        assert self.look(STUDY).parent.status == "FINISHED"
        assert caplog.text.count("had been deleted and is restored") == 3

    def test_an_experiment_deleted_before_the_start_is_restored(self) -> None:
        first = self.opened().open_study(card())
        self.delete_experiment()
        assert self.opened().open_study(card()) == first

    @pytest.mark.fault("F34")
    def test_a_deleted_study_run_is_replaced_and_keeps_its_trials(self) -> None:
        tracker = self.opened()
        tracker.open_trial(running(0))
        old = self.run_named(STUDY).info.run_id
        self.client.delete_run(old)
        tracker.close_study(StudySummary(True, (), ()))
        new = self.run_named(STUDY)
        assert new.data.tags["studyflow.recreated"] == old
        child = self.run_named("trial-0000")
        assert child.data.tags["mlflow.parentRunId"] == new.info.run_id

    def test_the_twin_that_a_lost_answer_leaves_is_deleted(self) -> None:
        tracker = self.opened()
        tracker.open_trial(running(0))
        run = self.run_named("trial-0000")
        self.client.create_run(
            run.info.experiment_id, tags=dict(run.data.tags), run_name="trial-0000"
        )
        assert len(self.look(STUDY).children[0]) == 2
        tracker.finished_trials()
        assert self.run_named("trial-0000").info.run_id == run.info.run_id

    def test_a_parameter_that_the_script_logged_itself_stands(self) -> None:
        tracker = self.opened()
        ref = tracker.open_trial(running(0, params={"lr": 0.001}))
        self.client.log_param(ref.run_id, "layers", "three")
        again = self.make_tracker(STUDY)
        again.close_trial(complete(0))
        run = self.run_named("trial-0000")
        assert run.data.params == {
            "lr": "0.001",
            "layers": "three",
            "optimizer": "adam",
            "nesterov": "True",
        }
        assert run.info.status == "FINISHED"
        assert again.finished_trials() == {0}

    def test_a_trials_run_tells_what_became_of_it(self) -> None:
        tracker = self.opened()
        record = complete(
            7,
            state=TrialState.FAILED,
            cause=Cause.CUDA_OOM,
            values=None,
            metrics={"memory": math.inf},
            message="out of memory " * 500,
            attempt=2,
            constraints={},
        )
        tracker.close_trial(record)
        run = self.run_named("trial-0007")
        assert (run.info.start_time, run.info.end_time) == (1_700_000_007_000, 1_700_000_014_000)
        tags = run.data.tags
        assert tags["studyflow.study"] == STUDY
        assert tags["studyflow.trial"] == "7"
        assert tags["studyflow.state"] == "failed"
        assert tags["studyflow.cause"] == "cuda-oom"
        assert tags["studyflow.attempt"] == "2"
        assert tags["studyflow.nonfinite"] == '{"memory": "inf"}'
        assert len(tags["studyflow.message"]) == 1000
        assert run.data.metrics == {"duration_seconds": 7.0}

    def test_a_complete_trial_has_the_common_objective_and_constraints(self) -> None:
        self.opened().close_trial(complete(0, 0.25))
        assert self.run_named("trial-0000").data.metrics == {
            "loss": 0.25,
            "objective": 0.25,
            "accuracy": 0.9,
            "constraint/latency_ms le 20": -3.0,
            "duration_seconds": 7.0,
        }

    def test_points_lost_with_an_outage_are_taken_from_the_storage(self) -> None:
        tracker = self.opened()
        tracker.close_trial(complete(0, 0.25, intermediate={0: 1.0, 1: 0.5, 2: 0.25}))
        stored = tracker.read_points(complete(0), "loss")
        assert [(p.step, p.value) for p in stored] == [(0, 1.0), (1, 0.5), (2, 0.25), (2, 0.25)]

    @pytest.mark.fault("F42")
    def test_of_a_long_log_the_end_is_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("studyflow.tracking.mlflow.artifacts.LOG_LIMIT_BYTES", 10)
        (tmp_path / "x.txt").write_text("a" * 90 + "0123456789")
        self.opened().close_trial(complete(0), log=tmp_path / "x.txt")
        run_id = self.run_named("trial-0000").info.run_id
        text = Path(self.client.download_artifacts(run_id, "trial.log", str(tmp_path))).read_text()
        assert text == "[the first 90 of 100 bytes are left out here]\n0123456789"

    @pytest.mark.fault("F65")
    def test_what_is_left_out_of_artifacts_is_a_tag_and_told_once(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "gone").symlink_to("nothing")
        tracker = self.opened()
        for _ in range(2):
            tracker.close_trial(complete(0), artifacts=[tmp_path / "gone"])
        tags = self.run_named("trial-0000").data.tags
        assert tags["studyflow.artifacts_left_out"] == "gone: a link to nothing"
        assert tags["studyflow.synced"] == "final"
        assert [record.getMessage() for record in caplog.records] == [
            "Trial 0: left out of its artifacts: gone (a link to nothing)"
        ]

    @pytest.mark.fault("F35", "F65")
    def test_artifacts_leave_room_on_the_disk_of_an_embedded_mlflow(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("studyflow.tracking.mlflow.artifacts.DISK_RESERVE_BYTES", 1 << 60)
        (tmp_path / "small").write_text("s")
        (tmp_path / "large").touch()
        os.truncate(tmp_path / "large", 1 << 21)
        tracker = self.opened()
        with pytest.raises(TrackingError, match=r"large: 2097152 bytes, where the disk has"):
            tracker.close_trial(complete(0), artifacts=[tmp_path / "large", tmp_path / "small"])
        run = self.run_named("trial-0000")
        assert [file.path for file in self.client.list_artifacts(run.info.run_id)] == ["small"]

    @pytest.mark.fault("F51")
    def test_an_uploaded_log_holds_no_secret(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("studyflow.tracking.mlflow.artifacts.LOG_LIMIT_BYTES", 20)
        (tmp_path / "x.txt").write_text("open s3://me:f00lish@store\nfailed\n")
        self.opened().close_trial(complete(0), log=tmp_path / "x.txt")
        run_id = self.run_named("trial-0000").info.run_id
        text = Path(self.client.download_artifacts(run_id, "trial.log", str(tmp_path))).read_text()
        assert text == "[the first 14 of 34 bytes are left out here]\n**@store\nfailed\n"

    def test_a_pruned_trial_says_so_in_its_run_s_name(self) -> None:
        pruned = dataclasses.replace(
            complete(0), state=TrialState.PRUNED, values=None, cause=Cause.PRUNED
        )
        self.opened().close_trial(pruned)
        assert self.run_named("trial-0000").info.run_name == "trial-0000 pruned"

    def test_the_study_run_holds_versions_best_parameters_and_a_table(self) -> None:
        tracker = self.opened()
        records = (complete(0, 0.5), complete(1, 0.25))
        summary = StudySummary(True, records[1:], records, "**done**")
        tracker.close_study(summary)
        run = self.run_named(STUDY)
        links, note = run.data.tags["mlflow.note.content"].split("\n\n")
        assert links.startswith("[Trials, best first](./#/experiments/")
        assert note == "**done**"
        assert run.data.tags["best.lr"] == "0.001"
        assert run.data.tags["studyflow.best_trials"] == "1"
        assert run.data.tags["team"] == "a"
        versions = {tag for tag in run.data.tags if tag.startswith("studyflow.version.")}
        assert {"studyflow.version.python", "studyflow.version.studyflow"} <= versions
        assert len(versions) <= 3, "the others are in versions.json: the page shows every tag"
        assert run.data.metrics == {
            "best_value": 0.25,
            "n_trials": 2,
            "n_complete": 2,
            "n_pruned": 0,
            "n_failed": 0,
        }
        assert self.look(STUDY).parent.artifacts == {
            "study.yaml",
            "versions.json",
            "trials.csv",
            "trials.json",
            "best_config.yaml",
            "best_config.json",
        }
        # What MLflow's artifact viewer looks for before it shows a table.
        assert run.data.tags["mlflow.loggedArtifacts"] == (
            '[{"path": "trials.json", "type": "table"}]'
        )

    def test_the_experiment_opens_on_the_page_for_training(self) -> None:
        self.opened()
        tags = self.client.get_experiment_by_name(STUDY).tags
        assert tags["mlflow.experimentKind"] == "custom_model_development"
        assert tags["mlflow.experiment.primaryMetric.name"] == "loss"
        assert tags["mlflow.experiment.primaryMetric.greaterIsBetter"] == "False"
        views = [tag for tag in tags if tag.startswith("mlflow.sharedViewState.")]
        assert [view.rpartition("-")[2] for view in sorted(views)] == ["first", "failed"]

    def test_a_shared_experiment_holds_several_studies(self) -> None:
        uri = embedded_uri(self.folder)
        for study in ("a", "b"):
            tracker = MLflowTracker(uri, study, experiment="team")
            tracker.open_study(card(study))
            tracker.close_trial(complete(0))
        assert MLflowTracker(uri, "a", experiment="team").finished_trials() == {0}
        assert len(runs_of(self.client, "team")) == 4

    def test_more_finished_trials_than_one_page(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("studyflow.tracking.mlflow.search.PAGE_SIZE", 2)
        tracker = self.opened()
        for number in range(5):
            tracker.close_trial(complete(number))
        assert self.make_tracker(STUDY).finished_trials() == {0, 1, 2, 3, 4}
        assert MLflowTracker(embedded_uri(self.folder), STUDY).sent_trials() == {0, 1, 2, 3, 4}
        assert MLflowTracker(embedded_uri(self.folder), "no study").sent_trials() == frozenset()

    def test_a_trial_does_not_wait_until_thousands_of_others_are_looked_through(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from mlflow import MlflowClient

        tracker = self.opened()
        tracker.close_trial(complete(0))
        search = MlflowClient.search_runs
        is_opened, is_looking = threading.Event(), threading.Event()

        def slow(client: Any, ids: list[str], text: str = "", **options: Any) -> Any:
            if "studyflow.role` = 'trial'" in text and "studyflow.trial`" not in text:
                is_looking.set()
                assert is_opened.wait(30)
            return search(client, ids, text, **options)

        monkeypatch.setattr(MlflowClient, "search_runs", slow)
        with ThreadPoolExecutor() as pool:
            looking = pool.submit(tracker.finished_trials)
            assert is_looking.wait(30)
            pool.submit(tracker.open_trial, running(1)).result(30)
            is_opened.set()
            assert looking.result(30) == {0}
        assert sorted(self.look(STUDY).children) == [0, 1]

    def test_more_parameters_than_one_request_takes(self) -> None:
        params = {f"p{i}": "値" * 5000 if i < 130 else i for i in range(250)}
        self.opened().open_trial(running(0, params=params))
        assert len(self.look(STUDY).child(0).params) == 250

    def test_hundreds_of_renamed_metrics_are_read_by_their_own_names(self) -> None:
        tracker = self.opened()
        metrics = {f"täglicher Fehler @ {'µ' * 40} {number}": 0.5 for number in range(150)}
        done = dataclasses.replace(complete(0), metrics={"loss": 0.5, **metrics})
        tracker.close_trial(done)
        latest = tracker.read_latest(done)
        assert latest.items() >= metrics.items()

    def test_a_study_of_two_objectives(self) -> None:
        tracker = self.make_tracker(STUDY)
        tracker.open_study(card(objectives=("loss", "size")))
        records = tuple(
            complete(n, values=(float(n), 2.0 - n), metrics={"loss": float(n), "size": 2.0 - n})
            for n in range(2)
        )
        for record in records:
            tracker.close_trial(record)
        tracker.close_study(StudySummary(True, records, records))
        metrics = self.run_named(STUDY).data.metrics
        assert metrics["n_pareto"] == 2
        assert (metrics["best/loss"], metrics["best/size"]) == (0.0, 1.0)
        assert "objective" not in self.run_named("trial-0000").data.metrics

    def test_a_folder_may_have_any_name_but_a_question_mark(self, tmp_path: Path) -> None:
        folder = tmp_path / "日本 #1%20 '\"&"
        shutil.copytree(self.folder, folder)
        tracker = MLflowTracker(embedded_uri(folder), STUDY)
        tracker.open_study(card())
        assert (folder / "mlartifacts").is_dir()
        with pytest.raises(TrackingError, match="question mark"):
            embedded_uri(tmp_path / "why?")

    def test_a_database_of_another_version_is_refused_with_the_way_out(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("studyflow.tracking.mlflow.client.CONNECT_ATTEMPTS", 1)
        with contextlib.closing(sqlite3.connect(self.folder / "mlflow.db")) as database:
            database.execute("update alembic_version set version_num = 'cc1f77228345'")
            database.commit()
        with pytest.raises(TrackingError, match="mlflow db upgrade") as refused:
            self.opened()
        assert refused.value.code is Code.SCHEMA_OUTDATED


def runs_of(client: Any, study: str) -> list[Any]:
    experiment = client.get_experiment_by_name(study)
    return list(client.search_runs([experiment.experiment_id], max_results=5000))


def look_with_a_client(uri: str, study: str) -> SeenStudy:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    parents: list[SeenRun] = []
    children: dict[int, tuple[SeenRun, ...]] = {}
    runs = runs_of(client, study)
    parent_ids = {r.info.run_id for r in runs if "mlflow.parentRunId" not in r.data.tags}
    for run in runs:
        seen = SeenRun(
            run.info.run_name,
            run.info.status,
            dict(run.data.params),
            dict(run.data.metrics),
            frozenset(_artifacts(client, run.info.run_id)),
        )
        if run.info.run_id in parent_ids:
            parents.append(seen)
        else:
            assert run.data.tags["mlflow.parentRunId"] in parent_ids
            number = int(run.info.run_name.partition(" ")[0].removeprefix("trial-"))
            children[number] = (*children.get(number, ()), seen)
    return SeenStudy(tuple(parents), children)


def _artifacts(client: Any, run_id: str, folder: str | None = None) -> list[str]:
    found: list[str] = []
    for item in client.list_artifacts(run_id, folder):
        found += _artifacts(client, run_id, item.path) if item.is_dir else [item.path]
    return found


CREATE = """
import sys
from pathlib import Path
from studyflow.testing.tracker_contract import card, running
from studyflow.tracking import MLflowTracker, embedded_uri
sys.stdin.readline()
tracker = MLflowTracker(embedded_uri(Path(sys.argv[1])), "contract")
tracker.open_study(card())
tracker.open_trial(running(int(sys.argv[2])))
"""


@pytest.mark.slow
def test_two_processes_may_create_one_database(tmp_path: Path) -> None:
    def begin(number: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CREATE, str(tmp_path), str(number)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    with begin(0) as first, begin(1) as second:
        for process in (first, second):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        errors = [process.communicate(timeout=50)[1] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), errors
    assert errors == ["", ""]
    seen = look_with_a_client(embedded_uri(tmp_path), STUDY)
    assert seen.parent.status == "RUNNING"
    assert sorted(seen.children) == [0, 1]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.fault("F32")
def test_a_server_killed_in_mid_study_misses_nothing_and_has_nothing_twice(
    server: MlflowServer, tmp_path: Path
) -> None:
    records: dict[int, TrialRecord] = {}
    (tmp_path / "model #1?.bin").write_bytes(b"weights")
    (tmp_path / "out.log").write_text("epoch 1\n")

    def files(record: TrialRecord) -> AttemptFiles:
        return AttemptFiles(tmp_path / "out.log", (tmp_path / "model #1?.bin",))

    def launch(number: int) -> TrackingRef | None:
        records[number] = running(number)
        ref = mirror.open_trial(records[number])
        mirror.points(records[number], points(number))
        return ref

    def end(number: int) -> None:
        records[number] = complete(number, 1.0 / (1 + number))
        mirror.finish_trial(records[number])

    mirror = Mirror(
        MLflowTracker(server.uri, NASTY),
        files=files,
        retry_seconds=(0.2, 1.0),
    )
    ref = mirror.open_study(card(NASTY), patience_seconds=60.0)
    assert ref is not None
    assert ref.uri == server.uri
    assert launch(0) is not None
    assert launch(1) is not None
    end(0)
    assert mirror.flush(60.0) == 0
    url = mirror.tracker.run_url(records[0])
    assert url is not None
    assert url.startswith(f"{server.uri}/#/experiments/")

    server.kill()
    end(1)
    begin = time.monotonic()
    refs = [launch(number) for number in range(2, 6)]
    for number in range(2, 6):
        end(number)
    assert refs == [None] * 4
    assert time.monotonic() - begin < 10.0
    assert mirror.flush(0.5) == 5
    assert mirror.status.unavailable_since is not None

    server.start()
    everything = tuple(records.values())
    best = best_records(everything, ("minimize",))
    mirror.close_study(StudySummary(True, best, everything, "**done**"))
    assert mirror.close(60.0) == 0

    seen = look_with_a_client(server.uri, NASTY)
    assert seen.parent.status == "FINISHED"
    assert seen.parent.metrics["best_value"] == 1.0 / 6
    assert {"trials.json", "trials.csv", "best_config.yaml"} <= seen.parent.artifacts
    assert sorted(seen.children) == [0, 1, 2, 3, 4, 5]
    tracker = MLflowTracker(server.uri, NASTY)
    assert tracker.finished_trials() == frozenset(range(6))
    for number in range(6):
        child = seen.child(number)
        assert child.status == "FINISHED"
        assert child.metrics["loss"] == 1.0 / (1 + number)
        assert child.params["lr"] == "0.001"
        assert len(child.artifacts) == 2
        stored = tracker.read_points(records[number], "loss")
        assert stored[:-1] == tuple(points(number)) or stored == tuple(points(number))
    assert sync_study(tracker, card(NASTY), everything, files).sent == ()

    server.kill()
    with pytest.raises(TrackingUnavailable, match="does not answer"):
        tracker.finished_trials()
