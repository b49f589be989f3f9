"""Which Prefect server flows use: a configured one, that of `studyflow ui`, or one of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from studyflow.servers.announced import announce
from studyflow.servers.prefect import prefect_api, prefect_environment, prefect_headers
from studyflow.settings import Settings


def at(folder: Path) -> Settings:
    return Settings.resolve(home=folder, environment={})


def test_prefect_runs_embedded_in_the_home(tmp_path: Path) -> None:
    variables = prefect_environment(at(tmp_path), {"HOME": str(tmp_path)})

    assert variables["PREFECT_HOME"] == str(tmp_path / "prefect")
    assert variables["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert "PREFECT_API_URL" not in variables


@pytest.mark.parametrize("name", ["PREFECT_API_URL", "PREFECT_PROFILE"])
def test_a_configured_prefect_server_is_left_alone(name: str, tmp_path: Path) -> None:
    assert prefect_environment(at(tmp_path), {name: "x", "HOME": str(tmp_path)}) == {}


def test_a_prefect_profile_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".prefect").mkdir()
    (tmp_path / ".prefect" / "profiles.toml").write_text("")

    assert prefect_environment(at(tmp_path), {"HOME": str(tmp_path)}) == {}


def test_variables_that_are_set_are_kept(tmp_path: Path) -> None:
    variables = prefect_environment(at(tmp_path), {"HOME": str(tmp_path), "PREFECT_HOME": "/mine"})

    assert "PREFECT_HOME" not in variables


def test_the_server_of_studyflow_ui_is_used_while_it_runs(tmp_path: Path) -> None:
    api = "http://127.0.0.1:4200/api"
    announce(at(tmp_path), os.getpid(), prefect_api=api, mlflow="http://127.0.0.1:5000")

    variables = prefect_environment(at(tmp_path), {"HOME": str(tmp_path)})
    assert variables["PREFECT_API_URL"] == api
    assert prefect_api(at(tmp_path), {"HOME": str(tmp_path)}) == api


def test_each_flow_starts_a_server_where_none_is_known(tmp_path: Path) -> None:
    assert prefect_api(at(tmp_path), {"HOME": str(tmp_path)}) is None


PROFILES = """
active = "work"

[profiles.work]
PREFECT_API_URL = "http://work/api"

[profiles.home]
PREFECT_API_URL = "http://home/api"

[profiles.bare]
"""


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, "http://work/api"),
        ({"PREFECT_PROFILE": "home"}, "http://home/api"),
        ({"PREFECT_PROFILE": "bare"}, None),
        ({"PREFECT_PROFILE": "unknown"}, None),
        ({"PREFECT_API_URL": "http://variable/api"}, "http://variable/api"),
    ],
)
def test_a_variable_comes_before_the_active_profile(
    variables: dict[str, str], found: str | None, tmp_path: Path
) -> None:
    (tmp_path / ".prefect").mkdir()
    (tmp_path / ".prefect" / "profiles.toml").write_text(PROFILES)

    assert prefect_api(at(tmp_path / "home"), {"HOME": str(tmp_path), **variables}) == found


def test_profiles_are_read_from_prefects_own_home(tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text(PROFILES)
    environment = {"HOME": "/nowhere", "PREFECT_HOME": str(tmp_path)}

    assert prefect_api(at(tmp_path / "home"), environment) == "http://work/api"


@pytest.mark.parametrize("text", ["active = ", "", "active = 1", "profiles = 3\nactive = 'a'"])
def test_damaged_profiles_name_no_server(text: str, tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text(text)
    environment = {"PREFECT_HOME": str(tmp_path)}

    assert prefect_api(at(tmp_path / "home"), environment) is None


@pytest.mark.parametrize(
    ("variables", "headers"),
    [
        ({}, {}),
        ({"PREFECT_API_KEY": "pnu_1"}, {"Authorization": "Bearer pnu_1"}),
        ({"PREFECT_API_AUTH_STRING": "me:word"}, {"Authorization": "Basic bWU6d29yZA=="}),
        (
            {"PREFECT_API_KEY": "pnu_1", "PREFECT_API_AUTH_STRING": "me:word"},
            {"Authorization": "Bearer pnu_1"},
        ),
    ],
)
def test_credentials_become_the_header_that_prefect_expects(
    variables: dict[str, str], headers: dict[str, str]
) -> None:
    assert prefect_headers(variables) == headers
