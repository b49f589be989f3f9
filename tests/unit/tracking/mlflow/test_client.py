"""The connection: what an error means, and how a database comes to be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from studyflow.errors import TrackingError, TrackingUnavailable
from studyflow.tracking import MLflowTracker, embedded_uri
from studyflow.tracking.mlflow.client import (
    NOT_FOUND,
    Accepting,
    artifact_folder,
    connect,
    translate,
    without_credentials,
)

URI = "http://me:secret@mlflow:5000"


class Answer(Exception):
    """An error as MLflow raises it, with the status of the server's answer."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.message = message
        self.status = status

    def get_http_status_code(self) -> int:
        return self.status


def test_who_is_interrupted_while_the_database_is_made_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "mlflow.db"
    interruptions = iter([KeyboardInterrupt])

    def client(uri: str) -> str:
        path = Path(uri.removeprefix("sqlite:///"))
        if not path.exists():
            path.write_text("half")
            for interruption in interruptions:
                raise interruption
            path.write_text("whole")
        return path.read_text()

    monkeypatch.setattr("mlflow.MlflowClient", client)
    with pytest.raises(KeyboardInterrupt):
        connect(f"sqlite:///{database}")
    assert not database.exists()
    assert connect(f"sqlite:///{database}") == "whole"
    assert connect(f"sqlite:///{database}") == "whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_an_answer_that_may_change_is_an_outage(status: int) -> None:
    error = translate(Answer("busy", status), URI)
    assert isinstance(error, TrackingUnavailable)
    assert error.retryable


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 501])
def test_an_answer_that_stands_is_a_refusal_with_the_servers_words(status: int) -> None:
    error = translate(Answer("no such thing", status), URI)
    assert type(error) is TrackingError
    assert "no such thing" in str(error)


@pytest.mark.parametrize("error", [ConnectionResetError("x"), TimeoutError("x")])
def test_a_lost_connection_is_an_outage(error: Exception) -> None:
    assert isinstance(translate(error, URI), TrackingUnavailable)


def test_a_local_file_that_cannot_be_read_is_a_refusal() -> None:
    assert type(translate(PermissionError("model.bin"), URI)) is TrackingError


def test_a_host_that_the_server_does_not_allow_is_named_as_the_likely_reason() -> None:
    assert "--allowed-hosts" in str(translate(Answer("Invalid Host header", 403), URI))


@pytest.mark.fault("F51")
def test_credentials_stay_out_of_messages_and_references() -> None:
    error = translate(Answer(f"API request to {URI}/api failed", 500), URI)
    assert "secret" not in str(error)
    assert "http://mlflow:5000" in str(error)
    assert without_credentials(URI) == "http://mlflow:5000"


class Coded(Exception):
    """An error as MLflow raises it, with its code."""

    def __init__(self, error_code: str) -> None:
        super().__init__("whatever it says")
        self.error_code = error_code


def test_a_refusal_that_is_no_problem_is_known_by_its_code() -> None:
    with Accepting(NOT_FOUND):
        raise Coded("RESOURCE_DOES_NOT_EXIST")
    with pytest.raises(Coded), Accepting(NOT_FOUND):
        raise Coded("PERMISSION_DENIED")
    with pytest.raises(ValueError, match="odd"), Accepting(NOT_FOUND):
        raise ValueError("odd")


def test_an_embedded_database_has_an_absolute_address(tmp_path: Path) -> None:
    assert embedded_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    assert embedded_uri(Path("x")) == f"sqlite:///{Path.cwd()}/x/mlflow.db"


def test_an_embedded_mlflow_keeps_artifacts_beside_its_database(tmp_path: Path) -> None:
    assert artifact_folder(embedded_uri(tmp_path)) == tmp_path / "mlartifacts"
    assert artifact_folder(URI) is None
    assert artifact_folder("sqlite:///:memory:") is None
    assert artifact_folder("postgresql://db/mlflow") is None


def test_without_a_server_there_is_no_link(tmp_path: Path) -> None:
    assert MLflowTracker(embedded_uri(tmp_path), "s").run_url() is None


def test_importing_the_package_and_making_a_tracker_does_not_import_mlflow() -> None:
    code = (
        "import sys; from studyflow.tracking import MLflowTracker;"
        "MLflowTracker('http://localhost:1', 's'); sys.exit('mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
