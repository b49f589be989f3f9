"""Where things are kept: flags, then the environment, then the embedded defaults."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


KEY = "k" * 32


def test_mlflows_public_address_and_the_key_of_tokens_come_from_the_environment() -> None:
    found = Settings.resolve(
        environment={
            "STUDYFLOW_MLFLOW_PUBLIC_URL": "https://mlflow.example.org/",
            "STUDYFLOW_MLFLOW_TOKEN_KEY": KEY,
        }
    )
    assert found.mlflow_public_url == "https://mlflow.example.org"
    assert found.mlflow_token_key == KEY
    assert KEY not in repr(found)


@pytest.mark.parametrize(
    "environment",
    [
        {"STUDYFLOW_MLFLOW_PUBLIC_URL": "mlflow.example.org"},
        {"STUDYFLOW_MLFLOW_PUBLIC_URL": "https://me:secret@mlflow.example.org"},
        {"STUDYFLOW_MLFLOW_TOKEN_KEY": KEY[1:]},
    ],
)
def test_an_address_or_a_key_that_would_not_do_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(StudyflowError, match=next(iter(environment))):
        Settings.resolve(environment=environment)


def test_where_trials_run_is_chosen_by_flag_then_environment_then_here() -> None:
    environment = {
        "STUDYFLOW_EXECUTOR": "kubernetes",
        "STUDYFLOW_NAMESPACE": "trials",
        "STUDYFLOW_TRIAL_TRACKING_URI": "http://mlflow.hpo:5000",
        "STUDYFLOW_TRIAL_SERVICE_ACCOUNT": "powerless",
        "STUDYFLOW_PLATFORM": "/etc/studyflow/platform.yaml",
    }

    found = Settings.resolve(environment=environment)
    assert (found.executor, found.namespace) == ("kubernetes", "trials")
    assert found.trial_tracking_uri == "http://mlflow.hpo:5000"
    assert found.trial_service_account == "powerless"
    assert found.platform == Path("/etc/studyflow/platform.yaml")
    flags = Settings.resolve(executor="local", namespace="mine", environment=environment)
    assert (flags.executor, flags.namespace) == ("local", "mine")
    empty = Settings.resolve(environment=dict.fromkeys(environment, ""))
    assert (empty.executor, empty.namespace, empty.trial_tracking_uri) == ("local", None, None)
    assert empty.trial_service_account is None


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


def test_a_runner_waits_ten_minutes_for_its_storage_unless_told() -> None:
    name = "STUDYFLOW_STORAGE_PATIENCE_SECONDS"

    assert Settings.resolve(environment={}).storage_patience_seconds == 600.0
    assert Settings.resolve(environment={name: "30"}).storage_patience_seconds == 30.0
    for wrong in ("ten", "-1", "inf", "nan"):
        with pytest.raises(StudyflowError, match=f"{name} must be a number of seconds"):
            Settings.resolve(environment={name: wrong})
