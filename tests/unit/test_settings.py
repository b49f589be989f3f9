"""Where things are kept: flags, then the environment, then the embedded defaults."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studyflow.embedded import prefect_api_file, prefect_environment, running_prefect_api
from studyflow.errors import StudyflowError
from studyflow.settings import Settings

HOME = Path("/data/home")


def test_the_defaults_are_one_folder_here() -> None:
    assert Settings.resolve(environment={}) == Settings(
        home=Path.cwd() / ".studyflow",
        storage_url=f"journal:///{(Path.cwd() / '.studyflow').resolve()}/studies.journal",
        tracking_uri=None,
    )


def test_the_environment_comes_before_the_defaults_and_flags_before_both() -> None:
    environment = {
        "STUDYFLOW_HOME": "/env/home",
        "STUDYFLOW_STORAGE": "postgresql://env/db",
        "MLFLOW_TRACKING_URI": "http://env:5000",
    }

    assert Settings.resolve(environment=environment) == Settings(
        Path("/env/home"), "postgresql://env/db", "http://env:5000"
    )
    assert Settings.resolve(
        home=HOME, storage="sqlite:///a.db", tracking="http://flag", environment=environment
    ) == Settings(HOME, "sqlite:///a.db", "http://flag")


def test_an_empty_variable_is_none() -> None:
    empty = dict.fromkeys(("STUDYFLOW_HOME", "STUDYFLOW_STORAGE", "MLFLOW_TRACKING_URI"), "")

    assert Settings.resolve(environment=empty) == Settings.resolve(environment={})


def test_where_trials_run_is_chosen_by_flag_then_environment_then_here() -> None:
    environment = {
        "STUDYFLOW_EXECUTOR": "kubernetes",
        "STUDYFLOW_NAMESPACE": "trials",
        "STUDYFLOW_TRIAL_TRACKING_URI": "http://mlflow.hpo:5000",
    }

    found = Settings.resolve(environment=environment)
    assert (found.executor, found.namespace) == ("kubernetes", "trials")
    assert found.trial_tracking_uri == "http://mlflow.hpo:5000"
    flags = Settings.resolve(executor="local", namespace="mine", environment=environment)
    assert (flags.executor, flags.namespace) == ("local", "mine")
    empty = Settings.resolve(environment=dict.fromkeys(environment, ""))
    assert (empty.executor, empty.namespace, empty.trial_tracking_uri) == ("local", None, None)


@pytest.mark.parametrize("name", ["docker", "Kubernetes", "k8s"])
def test_an_executor_that_does_not_exist_is_refused_with_those_that_do(name: str) -> None:
    for arguments in ({"executor": name}, {"environment": {"STUDYFLOW_EXECUTOR": name}}):
        with pytest.raises(StudyflowError, match=f"no executor '{name}'") as caught:
            Settings.resolve(**{"environment": {}, **arguments})  # type: ignore[arg-type]
        assert "choose one of local, kubernetes" in str(caught.value)


@pytest.mark.parametrize("name", ["cnn-lstm", "a", "A_b.c-1", "x" * 60])
def test_a_plain_name_is_its_own_folder(name: str) -> None:
    assert Settings(HOME, "", None).study_folder(name) == HOME / "studies" / name


@pytest.mark.parametrize(
    "name", ["..", ".", "a/b", "../../etc", "a b", "", "é", "-", "x" * 200, "\n"]
)
def test_any_other_name_gets_a_folder_below_the_home(name: str) -> None:
    folder = Settings(HOME, "", None).study_folder(name)

    assert folder.parent == HOME / "studies"
    assert folder.name not in ("", ".", "..", name)
    assert len(folder.name) <= 70
    assert Settings(HOME, "", None).report_folder(name) == folder / "report"


@settings(derandomize=True, deadline=None)
@given(names=st.lists(st.text(alphabet="ab./- é", max_size=6), unique=True, max_size=20))
def test_two_names_never_share_a_folder(names: list[str]) -> None:
    folders = {Settings(HOME, "", None).study_folder(name) for name in names}

    assert len(folders) == len(names)


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


def announce(folder: Path, text: str) -> None:
    path = prefect_api_file(at(folder))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_server_of_studyflow_ui_is_used_while_it_runs(tmp_path: Path) -> None:
    announce(tmp_path, json.dumps({"pid": os.getpid(), "api": "http://127.0.0.1:4200/api"}))

    assert running_prefect_api(at(tmp_path)) == "http://127.0.0.1:4200/api"
    variables = prefect_environment(at(tmp_path), {"HOME": str(tmp_path)})
    assert variables["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"pid": 0.5}',
        '{"pid": null, "api": "x"}',
        '{"pid": 999999999, "api": "x"}',
        '{"pid": 99999999999999999999, "api": "x"}',
    ],
)
def test_what_a_dead_server_left_is_ignored(text: str, tmp_path: Path) -> None:
    announce(tmp_path, text)

    assert running_prefect_api(at(tmp_path)) is None


def test_a_runner_waits_ten_minutes_for_its_storage_unless_told() -> None:
    name = "STUDYFLOW_STORAGE_PATIENCE_SECONDS"

    assert Settings.resolve(environment={}).storage_patience_seconds == 600.0
    assert Settings.resolve(environment={name: "30"}).storage_patience_seconds == 30.0
    for wrong in ("ten", "-1", "inf", "nan"):
        with pytest.raises(StudyflowError, match=f"{name} must be a number of seconds"):
            Settings.resolve(environment={name: wrong})
