"""What the server with a login needs, and the configuration that it makes of it."""

from __future__ import annotations

import configparser
import stat
from pathlib import Path

import pytest

from studyflow.errors import TrackingError
from studyflow.tracking.mlflow.gate.accounts import GateSettings
from studyflow.tracking.mlflow.gate.app import write_config

GOOD = {
    "STUDYFLOW_MLFLOW_RUNNER_USERNAME": "studyflow",
    "STUDYFLOW_MLFLOW_RUNNER_PASSWORD": "a-good-password",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "another-password",
    "STUDYFLOW_MLFLOW_TOKEN_KEY": "k" * 32,
}
DATABASE = "postgresql+psycopg://mlflow:p%40ss@postgres/mlflow"


def test_secrets_are_not_shown() -> None:
    shown = repr(GateSettings.from_environment(GOOD))
    assert "studyflow" in shown
    assert "a-good-password" not in shown
    assert "kkk" not in shown


def test_all_that_is_missing_or_too_short_is_said_at_once() -> None:
    with pytest.raises(TrackingError) as refused:
        GateSettings.from_environment(
            {**GOOD, "STUDYFLOW_MLFLOW_TOKEN_KEY": "k" * 31} | {"MLFLOW_AUTH_ADMIN_PASSWORD": ""}
        )
    assert "STUDYFLOW_MLFLOW_TOKEN_KEY must have at least 32 characters, but has 31" in str(
        refused.value
    )
    assert "MLFLOW_AUTH_ADMIN_PASSWORD must have at least 12 characters, but has 0" in str(
        refused.value
    )
    assert "kkk" not in str(refused.value)


def read(path: Path) -> dict[str, str]:
    config = configparser.ConfigParser()  # as MLflow reads it
    config.read(path)
    return dict(config["mlflow"])


def test_accounts_are_kept_beside_the_runs_and_people_read() -> None:
    path = write_config({"_MLFLOW_SERVER_FILE_STORE": DATABASE})
    try:
        assert read(path) == {
            "database_uri": DATABASE,
            "default_permission": "READ",
            "admin_username": "admin",
            "auth_cache_ttl_seconds": "60",
            "authorization_function": "studyflow.tracking.mlflow.gate.accounts:authenticate",
        }
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        path.unlink()


def test_an_operators_own_file_counts_but_for_who_asks_for_the_login(tmp_path: Path) -> None:
    own = tmp_path / "own.ini"
    own.write_text(
        "[mlflow]\ndefault_permission = EDIT\ndatabase_uri = sqlite:///a%%20b.db\n"
        "authorization_function = somewhere:else\n"
    )
    path = write_config(
        {"_MLFLOW_SERVER_FILE_STORE": DATABASE, "MLFLOW_AUTH_CONFIG_PATH": str(own)}
    )
    try:
        found = read(path)
        assert (found["default_permission"], found["database_uri"]) == (
            "EDIT",
            "sqlite:///a%20b.db",
        )
        assert found["authorization_function"].startswith("studyflow.")
    finally:
        path.unlink()
