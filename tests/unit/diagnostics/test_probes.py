"""Everybody is asked, whoever does not answer is a finding, and the command says it all."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from tests.unit.cli.test_cli import invoke, write_study
from tests.unit.executors.kubernetes.test_executor import a_spec, a_trial
from tests.unit.study.studies import complete, open_study

from studyflow.diagnostics import Level, Named, Snapshot, find_blockers, take_snapshot
from studyflow.diagnostics.probes import find_runner
from studyflow.diagnostics.probes.prefect import choose_flow_run, newest_flow_run
from studyflow.errors import StorageUnavailable, StudyNotFound
from studyflow.executors import AttemptId
from studyflow.executors.kubernetes import KubernetesExecutor
from studyflow.executors.kubernetes.names import job_name
from studyflow.reports import StudyData
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.storage import open_storage
from studyflow.study import find_study, this_machine
from studyflow.testing.fake_cluster import FakeCluster, FakeClusterApi

NOBODY = "http://127.0.0.1:9"
"""The discard port: nothing listens there."""


@pytest.fixture(autouse=True)
def _no_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("STUDYFLOW_", "PREFECT_", "MLFLOW_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def settings(folder: Path, **options: Any) -> Settings:
    return Settings.resolve(home=folder / "home", environment={}, **options)


def stored(spec: StudySpec) -> StudyData:
    """Return a study with one finished and one running trial."""
    study = open_study(spec)
    for _ in range(2):
        assert study.ask() is not None
    study.tell(0, complete(0.5), {})
    return StudyData(spec, study.records(), study.optuna_study)


def seen(folder: Path, load: Any, patience_seconds: float = 60.0, **options: Any) -> Snapshot:
    spec = a_spec()
    named = Named("demo", spec)
    open_cluster = options.pop("open_cluster", None)
    more = {} if open_cluster is None else {"open_cluster": open_cluster}
    return take_snapshot(
        named, settings(folder, **options), load, patience_seconds=patience_seconds, **more
    )


def test_a_study_in_a_cluster_is_joined_from_storage_and_pods(tmp_path: Path) -> None:
    cluster, spec = FakeCluster(), a_spec(resources={"gpu": 1})
    executor = KubernetesExecutor(
        spec, api=FakeClusterApi(cluster), root=tmp_path, is_threaded=False
    )
    executor.submit(a_trial(1))
    cluster.unschedulable(job_name("demo", AttemptId(1, 1)))
    api = FakeClusterApi(cluster)

    snapshot = seen(
        tmp_path, lambda: stored(spec), executor="kubernetes", open_cluster=lambda namespace: api
    )

    found = {finding.subject: finding.message for finding in find_blockers(snapshot)}
    assert found["node"] == "1 pod asks for nvidia.com/gpu: 1 and no node has that free."
    assert found["runner"].startswith("No runner drives it: 2 trials")
    assert api.is_closed


def test_servers_that_are_away_are_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"{NOBODY}/api")
    api = FakeClusterApi(FakeCluster())
    api.go_away()

    snapshot = seen(
        tmp_path,
        lambda: stored(a_spec()),
        executor="kubernetes",
        open_cluster=lambda namespace: api,
        tracking=NOBODY,
    )

    texts = {finding.subject: finding.message for finding in find_blockers(snapshot)}
    assert texts["cluster"] == "The fake cluster was told to be away (list jobs)."
    assert texts["MLflow"].startswith(f"MLflow at {NOBODY} does not answer: ")
    assert texts["Prefect"].startswith(f"Prefect's server {NOBODY}/api does not answer: ")


def test_a_storage_that_is_away_is_the_finding(tmp_path: Path) -> None:
    def fail() -> StudyData:
        raise StorageUnavailable("The study storage does not answer.", hint="is it up?")

    (finding,) = find_blockers(seen(tmp_path, fail))

    assert (finding.level, finding.subject, finding.hint) == (Level.PROBLEM, "storage", "is it up?")


def test_a_storage_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    never = Event()

    def hang() -> StudyData:
        never.wait(30)
        raise StudyNotFound("none")

    (finding,) = find_blockers(seen(tmp_path, hang, patience_seconds=0.0))
    never.set()

    assert "gives no answer within 0 s" in finding.message


def test_a_study_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    def fail() -> StudyData:
        raise StudyNotFound("There is no study named 'demo'.")

    with pytest.raises(StudyNotFound):
        seen(tmp_path, fail)


def test_the_runner_is_who_holds_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "runner.lock"
    assert not find_runner(lock).is_there
    lock.write_text(json.dumps({"pid": os.getpid(), "since": 0}))
    assert not find_runner(lock).is_there

    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = find_runner(lock)

    assert (found.is_there, found.pid, found.is_suspended) == (True, os.getpid(), False)


@pytest.mark.fault("F77")
def test_a_runner_of_another_folder_or_machine_of_the_same_name_drives_the_study(
    tmp_path: Path,
) -> None:
    data = stored(a_spec())
    folder = settings(tmp_path).study_folder("demo")
    folder.mkdir(parents=True)
    (folder / "place").write_text("1a")
    assert data.optuna_study is not None
    key = f"studyflow:beat:{socket.gethostname()}"
    data.optuna_study.set_user_attr(f"{key}/1a", {"at": time.time(), "machine": this_machine()})
    assert not seen(tmp_path, lambda: data).is_driven, "the lock says that it has ended"

    data.optuna_study.set_user_attr(f"{key}/2b", {"at": time.time(), "machine": "another"})

    snapshot = seen(tmp_path, lambda: data)
    assert snapshot.is_driven
    assert "No runner drives it" not in str(find_blockers(snapshot))


# ---- Prefect ------------------------------------------------------------------------------------


def run(name: str, kind: str, state: str = "", **parameters: str) -> dict[str, Any]:
    moment = "1970-01-01T00:01:00Z"
    told = {"type": kind, "name": state or kind.capitalize(), "timestamp": moment}
    return {"name": name, "parameters": parameters, "state": told}


def test_a_flow_run_is_found_by_name_by_file_and_by_text() -> None:
    text = a_spec().to_yaml()
    for found in (
        run("demo", "RUNNING"),
        run("odd-cat", "SCHEDULED", study="studies/study.yaml"),
        run("odd-cat", "SCHEDULED", study=text),
    ):
        runs = [run("other", "RUNNING", study="x.yaml"), found]
        chosen = choose_flow_run(runs, "demo", "study.yaml", 90)
        assert chosen is not None
        assert (chosen.kind, chosen.since_seconds) == (found["state"]["type"], 30.0)
    assert choose_flow_run([run("other", "RUNNING")], "demo", "study.yaml", 90) is None


@pytest.mark.fault("F77")
def test_a_flow_run_of_another_study_in_a_file_of_the_same_name_is_another_ones() -> None:
    begun = run("other", "RUNNING", study="studies/study.yaml")
    waiting = run("odd-cat", "SCHEDULED", study="b/study.yaml")

    assert choose_flow_run([begun], "demo", "study.yaml", 90) is None
    assert choose_flow_run([waiting], "demo", "a/study.yaml", 90) is None
    assert choose_flow_run([waiting], "demo", "/home/me/b/study.yaml", 90) is not None


def test_a_flow_run_at_work_goes_before_newer_ones_that_are_not() -> None:
    chosen = choose_flow_run([run("demo", "FAILED"), run("demo", "RUNNING")], "demo", "demo", 90)

    assert chosen is not None
    assert chosen.kind == "RUNNING"


Asked = list[tuple[str, str | None, dict[str, Any]]]


class _Prefect(BaseHTTPRequestHandler):
    asked: Asked

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, self.headers["Authorization"], body))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps([run("demo", "SCHEDULED", "Late")]).encode())

    def log_message(self, *args: object) -> None:
        """Be silent."""


@pytest.fixture
def prefect() -> Iterator[tuple[str, Asked]]:
    asked: Asked = []
    server = HTTPServer(("127.0.0.1", 0), type("Handler", (_Prefect,), {"asked": asked}))
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/api", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_prefect_is_asked_by_http_for_runs_that_were_to_begin_by_now(
    prefect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, asked = prefect
    monkeypatch.setenv("PREFECT_API_KEY", "x")
    found = newest_flow_run(api, "demo", "demo", 90.0)

    assert found is not None
    assert (found.state, found.kind, found.since_seconds) == ("Late", "SCHEDULED", 30.0)
    path, authorization, body = asked[0]
    assert (path, authorization) == ("/api/flow_runs/filter", "Bearer x")
    assert body["flow_runs"]["expected_start_time"]["before_"] == "1970-01-01T00:01:30+00:00"


# ---- the command --------------------------------------------------------------------------------


@pytest.fixture
def _without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "mlflow" else find(name, *a)
    )


@pytest.mark.usefixtures("_without_mlflow")
def test_a_finished_study_says_so_with_its_pace(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    assert invoke("run", path).exit_code == 0

    told = invoke("explain", path)
    document = json.loads(invoke("explain", "tiny", "--json").stdout)

    assert told.exit_code == 0
    assert told.stdout.splitlines()[:3] == [
        "tiny is finished: Its budget is spent: all 3 trials are finished.",
        f"Hint: studyflow run {path} --n-trials 6 goes on.",
        "Trials: 3 finished, 0 running, 0 left.",
    ]
    assert "Pace: " in told.stdout
    assert (document["state"], document["n_finished"]) == ("finished", 3)
    assert document["obstacles"][0]["what"] == "budget"
    assert sum(document["pace"]["shares"].values()) == pytest.approx(1.0)


@pytest.mark.usefixtures("_without_mlflow")
def test_a_study_that_nobody_drives_is_stuck_and_one_that_is_driven_is_not(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    assert invoke("run", path).exit_code == 0
    changed = write_study(tmp_path, budget={"n_trials": 9})
    url = Settings.resolve(environment={}).storage_url
    study = find_study("tiny", open_storage(url))
    study.set_user_attr("studyflow:spec", StudySpec.from_yaml(changed).to_yaml())

    stuck = invoke("explain", changed)
    assert stuck.exit_code == 1
    assert stuck.stdout.startswith("tiny is stuck: No runner drives it: 6 trials")

    with (tmp_path / ".studyflow/studies/tiny/runner.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        driven = invoke("explain", changed)
        invoke("pause", changed)
        paused = invoke("explain", changed)
        document = json.loads(invoke("explain", changed, "--json").stdout)
    assert paused.stdout.startswith("tiny is paused: running trials finish, none starts.\n")
    assert document["state"] == "paused"
    assert driven.exit_code == 0
    assert driven.stdout.startswith("Nothing stands in the way of tiny.\n")


def test_a_storage_that_is_away_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    away = "postgresql://studyflow:secret@127.0.0.1:9/studies"
    told = invoke("explain", path, "--storage", away)

    assert told.exit_code == 3
    assert told.stdout.startswith("tiny is stuck: The study storage postgresql://")
    assert "secret" not in told.output
    assert "Traceback" not in told.output


def test_one_trial_and_the_whole_model_are_two_questions(tmp_path: Path) -> None:
    told = invoke("explain", write_study(tmp_path), "--trial", "0", "--model")

    assert told.exit_code == 2
    assert "give one of them" in told.stderr
