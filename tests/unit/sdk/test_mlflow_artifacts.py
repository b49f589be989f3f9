"""Artifacts of trials that share no folder with their runner: uploaded, and never in the way."""

from __future__ import annotations

import json
import os
import sys
import threading
import types
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pytest

from studyflow.sdk import mlflow_artifacts
from studyflow.sdk.mlflow_artifacts import ArtifactUploader, upload_address
from studyflow.sdk.session import Session
from studyflow.trial import TrackingRef, Trial

SERVED: Final = "/api/2.0/mlflow-artifacts/artifacts"


class MLflow:
    """An MLflow server as far as artifacts need one."""

    def __init__(self) -> None:
        self.place = "mlflow-artifacts:/3/abc/artifacts"
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        self.answers: list[tuple[int, str]] = []
        """Codes and messages of the next failures."""
        self.refused_names: set[str] = set()
        self.before_body: Callable[[], object] = lambda: None
        """What happens when a file is announced, before its content is read."""
        self.uri = ""

    def get(self, path: str) -> tuple[int, str]:
        self.asked.append(path)
        if self.answers:
            return self.answers.pop(0)
        return 200, json.dumps({"run": {"info": {"artifact_uri": self.place}}})

    def put(self, path: str, content: bytes) -> tuple[int, str]:
        if self.answers:
            return self.answers.pop(0)
        name = urllib.parse.unquote(path.removeprefix(f"{SERVED}/3/abc/artifacts/"))
        if name in self.refused_names:
            return 400, json.dumps({"message": "Invalid path"})
        self.files[name] = content
        return 200, "{}"


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[MLflow]:
    monkeypatch.setattr(mlflow_artifacts, "PAUSES_SECONDS", (0.01, 0.01))
    state = MLflow()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(*state.get(self.path))

        def do_PUT(self) -> None:
            state.before_body()
            content = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(*state.put(self.path, content))

        def answer(self, code: int, text: str) -> None:
            state.tokens.add(self.headers["Authorization"])
            self.send_response(code)
            self.end_headers()
            self.wfile.write(text.encode())

        log_message: Callable[..., None] = lambda self, *arguments: None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.uri = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def pod(mlflow: MLflow, environment: dict[str, str] | None = None) -> Session:
    trial = Trial("demo", 0, {}, metrics=("loss",), tracking=TrackingRef(mlflow.uri, "abc"))
    return Session(trial, environment or {})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    path.write_text("epoch 1")
    return path


def test_a_file_is_there_when_the_call_returns(mlflow: MLflow, model: Path) -> None:
    current = pod(mlflow, {"MLFLOW_TRACKING_TOKEN": "t"})
    assert current.artifact(model, None) == model
    assert mlflow.files == {"model.pt": b"epoch 1"}
    model.write_text("epoch 2")
    current.artifact(model, "best/große Größe.pt")
    assert mlflow.files == {"model.pt": b"epoch 1", "best/große Größe.pt": b"epoch 2"}
    assert mlflow.asked == ["/api/2.0/mlflow/runs/get?run_id=abc"]
    assert mlflow.tokens == {"Bearer t"}


def test_a_folder_is_uploaded_with_all_below(mlflow: MLflow, tmp_path: Path) -> None:
    plots = tmp_path / "plots"
    (plots / "late" / "empty").mkdir(parents=True)
    (plots / "a.png").write_text("a")
    (plots / "late" / "b.png").touch()
    (plots / "linked.png").symlink_to(plots / "a.png")
    (plots / "late" / "round").symlink_to(plots)
    pod(mlflow).artifact(plots, "figures/all")
    assert mlflow.files == {
        "figures/all/a.png": b"a",
        "figures/all/late/b.png": b"",
        "figures/all/linked.png": b"a",
    }


@pytest.mark.parametrize("name", ["../model.pt", "/etc/passwd", "a/../../b", "", "."])
def test_an_artifact_stays_among_those_of_its_run(mlflow: MLflow, model: Path, name: str) -> None:
    with pytest.raises(ValueError, match="must stay within"):
        pod(mlflow).artifact(model, name)
    with pytest.raises(FileNotFoundError):
        pod(mlflow).artifact(model.with_name("missing"), None)
    assert mlflow.files == {}


def test_other_ranks_upload_nothing(mlflow: MLflow, model: Path) -> None:
    assert pod(mlflow, {"RANK": "1", "WORLD_SIZE": "2"}).artifact(model, None) == model
    assert mlflow.asked == []


def test_a_large_file_goes_in_pieces(
    mlflow: MLflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_artifacts, "CHUNK_BYTES", 1000)
    content = bytes(range(256)) * 41
    (tmp_path / "model.pt").write_bytes(content)
    pod(mlflow).artifact(tmp_path / "model.pt", None)
    assert mlflow.files == {"model.pt": content}


# Failures


def test_a_server_that_is_busy_is_asked_again(
    mlflow: MLflow, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    current = pod(mlflow)
    mlflow.answers = [(503, "busy"), (502, "")]
    current.artifact(model, None)
    mlflow.answers = [(429, "slowly"), (500, "")]
    current.artifact(model, "again.pt")
    assert mlflow.files == {"model.pt": b"epoch 1", "again.pt": b"epoch 1"}
    assert capsys.readouterr().err == ""


@pytest.mark.fault("F35")
def test_what_fails_is_told_once_and_counted_at_the_end(
    mlflow: MLflow, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    current = pod(mlflow)
    mlflow.answers = [(403, json.dumps({"message": "Permission\ndenied"}))]
    assert current.artifact(model, "best.pt") == model
    assert capsys.readouterr().err == (
        "studyflow: artifact 'best.pt' did not reach MLflow: HTTP 403 Forbidden: Permission "
        "denied; the training goes on.\n"
    )
    mlflow.refused_names = {"last.pt"}
    current.artifact(model, "last.pt")
    current.artifact(model, "good.pt")
    assert capsys.readouterr().err == ""
    current.close()
    assert capsys.readouterr().err == "studyflow: 2 artifacts in all did not reach MLflow.\n"
    assert list(mlflow.files) == ["good.pt"]


def test_a_server_that_is_down_is_asked_once_until_it_is_back(
    mlflow: MLflow, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    current = pod(mlflow)
    current.artifact(model, "0.pt")
    mlflow.answers = [(503, "down")] * 3
    current.artifact(model, "1.pt")
    mlflow.answers = [(503, "down")] * 2
    current.artifact(model, "2.pt")
    assert mlflow.answers == [(503, "down")]
    current.artifact(model, "3.pt")
    current.artifact(model, "4.pt")
    assert list(mlflow.files) == ["0.pt", "4.pt"]
    mlflow.answers = [(503, "busy")]
    current.artifact(model, "5.pt")
    assert list(mlflow.files) == ["0.pt", "4.pt", "5.pt"]
    assert capsys.readouterr().err.count("studyflow:") == 1


def test_one_bad_file_does_not_keep_the_others_of_its_folder(
    mlflow: MLflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / "plots" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "plots" / name).touch()
    (tmp_path / "plots" / "gone").symlink_to(tmp_path / "nowhere")
    mlflow.refused_names = {"plots/b"}
    pod(mlflow).artifact(tmp_path / "plots", None)
    assert list(mlflow.files) == ["plots/a", "plots/c"]
    said = capsys.readouterr().err
    assert "artifact 'plots': left out gone (a link to nothing); the training goes on" in said
    assert (
        "artifact 'plots' did not reach MLflow: 1 of 3 files, the first b: HTTP 400 Bad Request: "
        "Invalid path; the training" in said
    )


@pytest.mark.fault("F65")
def test_a_pod_sends_no_pipe_device_or_link_that_leads_elsewhere(
    mlflow: MLflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plots = tmp_path / "plots"
    plots.mkdir()
    (plots / "a").write_text("a")
    os.mkfifo(plots / "pipe")
    (plots / "zero").symlink_to("/dev/zero")
    (plots / "passwd").symlink_to("/etc/passwd")
    current = pod(mlflow)
    current.artifact(plots, None)
    current.artifact(plots, "again")
    current.artifact(plots / "pipe", "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    current.artifact(tmp_path / "zero", None)
    assert mlflow.files == {"plots/a": b"a", "again/a": b"a"}
    assert capsys.readouterr().err.splitlines() == [
        (
            "studyflow: artifact 'plots': left out passwd (a link that leads out of the folder), "
            "pipe (a pipe), zero (a link that leads out of the folder); the training goes on."
        ),
        "studyflow: artifact 'pipe': left out all of it (a pipe); the training goes on.",
        "studyflow: artifact 'zero': left out all of it (a device); the training goes on.",
    ]


def test_a_folder_is_given_up_when_the_server_is_gone(
    mlflow: MLflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).touch()
    current = pod(mlflow)
    current.artifact(tmp_path / "a", "first")
    mlflow.answers = [(503, "down")] * 4
    current.artifact(tmp_path, "all")
    assert mlflow.answers == [(503, "down")]
    assert "artifact 'all' did not reach MLflow: at a: HTTP 503" in capsys.readouterr().err


@pytest.mark.fault("F35")
def test_nobody_listening_fails_nothing(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mlflow_artifacts, "PAUSES_SECONDS", (0.01, 0.01))
    ArtifactUploader("http://127.0.0.1:9", "abc", {}).upload(model, PurePosixPath("m"))
    assert "artifact 'm' did not reach MLflow: " in capsys.readouterr().err


@pytest.mark.parametrize("answer", ["<html>", "[]", "{}", '{"run": {"info": {}}}'])
def test_what_is_not_mlflow_is_told(
    mlflow: MLflow, model: Path, capsys: pytest.CaptureFixture[str], answer: str
) -> None:
    mlflow.answers = [(200, answer)]
    pod(mlflow).artifact(model, None)
    assert f"what answers at {mlflow.uri} is not MLflow" in capsys.readouterr().err


def test_an_upload_that_takes_too_long_is_given_up(
    mlflow: MLflow,
    model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mlflow_artifacts, "UPLOAD_SECONDS", 0.0)
    pod(mlflow).artifact(model, None)
    assert "it took longer than 0 s" in capsys.readouterr().err


def test_a_file_that_becomes_shorter_is_told(
    mlflow: MLflow,
    model: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    os.truncate(model, 64 * 1024 * 1024)  # more than the connection holds while nobody reads it
    mlflow.before_body = lambda: os.truncate(model, 0)
    pod(mlflow).artifact(model, None)
    assert "it became shorter while it was sent" in capsys.readouterr().err


def test_a_connection_that_is_cut_names_the_usual_reason(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*arguments: Any, **named: Any) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("urllib.request.urlopen", cut)
    monkeypatch.setattr(mlflow_artifacts, "PAUSES_SECONDS", ())
    ArtifactUploader("http://mlflow", "abc", {}).upload(model, PurePosixPath("m"))
    assert "Broken pipe (is there a limit to the size of a request" in capsys.readouterr().err


def test_how_long_a_training_may_wait() -> None:
    assert mlflow_artifacts.UPLOAD_SECONDS == 600.0
    assert mlflow_artifacts.ASK_SECONDS == 10.0
    assert mlflow_artifacts.STALL_SECONDS == 60.0
    assert mlflow_artifacts.PAUSES_SECONDS == (1.0, 2.0)


# Where artifacts are


@pytest.mark.parametrize(
    ("tracking", "place", "address"),
    [
        ("http://mlflow:5000", "mlflow-artifacts:/3/abc", f"http://mlflow:5000{SERVED}/3/abc"),
        ("https://a/mlflow/", "mlflow-artifacts:/3/abc", f"https://a/mlflow{SERVED}/3/abc"),
        ("http://a", "mlflow-artifacts://b:81/3", f"http://b:81{SERVED}/3"),
        ("http://a", f"mlflow-artifacts:{SERVED}/3", f"http://a{SERVED}/3"),
        ("http://a", "mlflow-artifacts:/my models/3", f"http://a{SERVED}/my%20models/3"),
        ("http://a", "mlflow-artifacts:/", f"http://a{SERVED}"),
        ("http://a", f"https://b{SERVED}/3/", f"https://b{SERVED}/3"),
        ("http://a", "s3://bucket/3", None),
        ("http://a", "/mlruns/3", None),
        ("http://a", "file:///mlruns/3", None),
    ],
)
def test_where_a_run_s_artifacts_are_uploaded(
    tracking: str, place: str, address: str | None
) -> None:
    assert upload_address(tracking, place) == address


@pytest.mark.parametrize("place", ["/mlruns/3", "file:///mlruns/3", "./mlruns"])
def test_a_folder_of_the_server_is_out_of_reach(
    mlflow: MLflow, model: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    mlflow.place = place
    pod(mlflow).artifact(model, None)
    assert (
        "artifact 'model.pt' did not reach MLflow: the run keeps them in a folder of its server: "
        "start the server with `mlflow server --serve-artifacts`" in capsys.readouterr().err
    )


class Client:
    """Stands in for MLflow's own."""

    logged: list[tuple[Any, ...]]

    def __init__(self, tracking_uri: str) -> None:
        self.uri = tracking_uri

    def log_artifact(self, run_id: str, path: str, folder: str | None) -> None:
        if folder == "hang":
            threading.Event().wait(0.5)
        if folder == "import":
            raise ModuleNotFoundError("No module named 'boto3'")
        if folder == "fail":
            raise RuntimeError("no credentials")
        self.logged.append((run_id, Path(path).name, folder, Path(path).read_text()))

    def log_artifacts(self, run_id: str, path: str, folder: str) -> None:
        self.logged.append((run_id, folder, sorted(p.name for p in Path(path).iterdir())))


@pytest.fixture
def bucket(mlflow: MLflow, monkeypatch: pytest.MonkeyPatch) -> MLflow:
    Client.logged = []
    module = types.ModuleType("mlflow")
    module.__dict__["MlflowClient"] = Client
    monkeypatch.setitem(sys.modules, "mlflow", module)
    mlflow.place = "s3://bucket/3/abc/artifacts"
    return mlflow


def test_a_bucket_is_written_by_mlflow_s_client(bucket: MLflow, model: Path) -> None:
    current = pod(bucket)
    current.artifact(model, None)
    current.artifact(model, "best/one.pt")
    current.artifact(model.parent, "all/of it")
    assert Client.logged == [
        ("abc", "model.pt", None, "epoch 1"),
        ("abc", "one.pt", "best", "epoch 1"),
        ("abc", "all/of it", ["model.pt"]),
    ]


def test_a_client_that_fails_or_hangs_fails_nothing(
    bucket: MLflow,
    model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pod(bucket).artifact(model, "fail/m")
    assert "artifact 'fail/m' did not reach MLflow: no credentials;" in capsys.readouterr().err
    monkeypatch.setattr(mlflow_artifacts, "UPLOAD_SECONDS", 0.1)
    pod(bucket).artifact(model, "hang/m")
    assert "it took longer than 0.1 s" in capsys.readouterr().err


def test_a_bucket_that_needs_more_than_mlflow_says_what(
    bucket: MLflow, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pod(bucket).artifact(model, "import/m")
    assert (
        "s3: needs more than mlflow in the trial's image (No module named 'boto3'): install that, "
        "or start the server with" in capsys.readouterr().err
    )


def test_a_bucket_without_mlflow_s_client_has_two_ways_out(
    bucket: MLflow,
    model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    pod(bucket).artifact(model, None)
    assert (
        "the run keeps them in s3: and its server does not pass them on: start the server with "
        "`mlflow server --serve-artifacts`, or install mlflow in the trial's image;"
        in capsys.readouterr().err
    )
