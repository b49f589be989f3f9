"""Metrics on their way to MLflow never hold up a training."""

from __future__ import annotations

import email.message
import io
import json
import math
import threading
import urllib.error
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from studyflow.sdk import mlflow_sender
from studyflow.sdk.mlflow_sender import MlflowSender, credentials, encode_batch
from studyflow.sdk.session import Session
from studyflow.trial import MetricPoint, TrackingRef, Trial


def points(count: int, start: int = 0) -> list[MetricPoint]:
    return [MetricPoint("loss", step, 0.5, 1000 + step) for step in range(start, start + count)]


class Server:
    """Remembers what was posted; fails as long as it is told to."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.calls = 0
        self.failures: list[Exception] = []
        self.gate = threading.Event()
        self.gate.set()

    def post(self, address: str, body: bytes, headers: Mapping[str, str], seconds: float) -> None:
        self.calls += 1
        self.gate.wait(10)
        if self.failures:
            raise self.failures.pop(0)
        self.bodies.append(json.loads(body))

    def steps(self) -> list[int]:
        return [metric["step"] for body in self.bodies for metric in body["metrics"]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(mlflow_sender, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(mlflow_sender, "LONGEST_PAUSE_SECONDS", 0.02)
    return Server()


def sender(server: Server) -> MlflowSender:
    return MlflowSender("http://mlflow:5000/", "run", {}, server.post)


def refusal(code: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError("http://mlflow", code, "no", email.message.Message(), None)


def test_points_are_gathered_and_sent_in_order(server: Server) -> None:
    current = sender(server)
    for point in points(5):
        current.put([point])
    assert current.flush(10.0)
    assert server.steps() == [0, 1, 2, 3, 4]
    assert server.calls == 1


def test_a_request_holds_at_most_what_mlflow_takes(server: Server) -> None:
    current = sender(server)
    current.put(points(2500))
    assert current.flush(10.0)
    assert [len(body["metrics"]) for body in server.bodies] == [1000, 1000, 500]


def test_infinite_values_are_written_as_mlflow_reads_them() -> None:
    body = json.loads(
        encode_batch("r", [MetricPoint("a", 1, v, 2) for v in (math.nan, math.inf, -math.inf, 0.5)])
    )
    assert [metric["value"] for metric in body["metrics"]] == ["NaN", "Infinity", "-Infinity", 0.5]
    assert body["run_id"] == "r"
    assert body["metrics"][0] == {"key": "a", "value": "NaN", "timestamp": 2, "step": 1}


def test_a_failed_request_is_repeated_and_told_once(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.failures = [OSError("refused"), TimeoutError(), refusal(503), refusal(429)]
    current = sender(server)
    current.put(points(3))
    assert current.flush(10.0)
    assert server.steps() == [0, 1, 2]
    assert capsys.readouterr().err.count("studyflow:") == 1


def test_what_the_server_refuses_for_good_is_not_repeated(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.failures = [refusal(404)]
    current = sender(server)
    current.put(points(3))
    assert current.flush(10.0)
    assert server.calls == 1
    assert current.is_refused
    assert "404" in capsys.readouterr().err
    current.put(points(1, start=3))
    assert current.flush(10.0)
    assert server.steps() == [3]
    assert not current.is_refused


@pytest.mark.parametrize(
    ("code", "answer", "said"),
    [
        (
            403,
            b'{"message": "Attempt 1 of trial 0\\nhas ended"}',
            "403: no: Attempt 1 of",
        ),
        (401, b'{"message": "This token has expired"}', "401: no: This token has expired"),
        (403, b"<html>", "403: no; the training goes on"),
        (403, b"[]", "403: no; the training goes on"),
    ],
)
def test_what_the_server_has_against_a_token_is_told_and_the_training_goes_on(
    server: Server, capsys: pytest.CaptureFixture[str], code: int, answer: bytes, said: str
) -> None:
    body, headers = io.BytesIO(answer), email.message.Message()
    server.failures = [urllib.error.HTTPError("http://mlflow", code, "no", headers, body)]
    current = sender(server)
    current.put(points(1))
    assert current.flush(10.0)
    assert said in capsys.readouterr().err


@pytest.mark.fault("F33")
def test_a_server_that_hangs_holds_nobody_up(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_sender, "QUEUE_POINTS", 100)
    server.gate.clear()
    current = sender(server)
    current.put(points(1))
    for start in range(0, 1000, 10):
        current.put(points(10, start))
    assert not current.flush(0.05)
    assert "did not reach MLflow in time" in capsys.readouterr().err
    server.gate.set()
    assert current.flush(10.0)
    assert server.steps()[-100:] == list(range(900, 1000))


@pytest.mark.parametrize(
    ("environment", "headers"),
    [
        ({}, {}),
        ({"MLFLOW_TRACKING_TOKEN": "t"}, {"Authorization": "Bearer t"}),
        (
            {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "secret"},
            {"Authorization": "Basic YWRhOnNlY3JldA=="},
        ),
        ({"MLFLOW_TRACKING_USERNAME": "ada"}, {}),
    ],
)
def test_mlflow_s_usual_variables_give_the_credentials(
    environment: dict[str, str], headers: dict[str, str]
) -> None:
    assert credentials(environment) == headers


@pytest.fixture
def http_server() -> Iterator[tuple[str, list[tuple[str, str | None, Any]]]]:
    received: list[tuple[str, str | None, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, self.headers["Authorization"], json.loads(body)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        log_message: Callable[..., None] = lambda self, *arguments: None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_trial_without_a_metrics_file_reports_to_its_run(
    http_server: tuple[str, list[tuple[str, str | None, Any]]],
) -> None:
    uri, received = http_server
    trial = Trial("demo", 0, {}, metrics=("loss",), tracking=TrackingRef(uri, "abc"))
    session = Session(trial, {"MLFLOW_TRACKING_TOKEN": "t"})
    session.report(0, {"loss": 1.0})
    session.report(1, {"loss": 0.5})
    session.finish(0.5, {})
    assert [(path, token) for path, token, _ in received] == [
        ("/api/2.0/mlflow/runs/log-batch", "Bearer t")
    ]
    body = received[0][2]
    assert body["run_id"] == "abc"
    assert [(m["key"], m["step"], m["value"]) for m in body["metrics"]] == [
        ("loss", 0, 1.0),
        ("loss", 1, 0.5),
    ]


def test_a_tracking_folder_is_not_for_the_trial_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a file is the runner's to write")

    monkeypatch.setattr("studyflow.sdk.mlflow_sender.MlflowSender", refuse)
    trial = Trial("demo", 0, {}, tracking=TrackingRef("sqlite:///mlflow.db", "abc"))
    Session(trial, {}).report(0, {"loss": 1.0})
