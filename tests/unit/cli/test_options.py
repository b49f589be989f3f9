"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from studyflow.cli.options import settings_options
from studyflow.cli.studies import is_study_file
from studyflow.settings import Settings

seen: list[Settings] = []


@click.command()
@settings_options()
def reads(settings: Settings) -> None:
    seen.append(settings)


@click.command()
@click.argument("what")
@settings_options(with_executor=True)
def runs(what: str, settings: Settings) -> None:
    assert what == "it"
    seen.append(settings)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen.clear()
    for name in ("HOME", "STORAGE", "EXECUTOR", "NAMESPACE"):
        monkeypatch.delenv(f"STUDYFLOW_{name}", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_a_command_gets_its_settings_from_flags_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDYFLOW_STORAGE", "sqlite:///env.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://env:5000")
    flags = ["--home", str(tmp_path), "--storage", "sqlite:///flag.db"]

    assert CliRunner().invoke(reads, flags).exit_code == 0

    (settings,) = seen
    assert (settings.home, settings.storage_url) == (tmp_path, "sqlite:///flag.db")
    assert (settings.tracking_uri, settings.executor) == ("http://env:5000", "local")


def test_only_a_command_that_runs_trials_says_where() -> None:
    assert CliRunner().invoke(reads, ["--executor", "kubernetes"]).exit_code == 2
    flags = ["it", "--executor", "kubernetes", "--namespace", "hpo"]

    assert CliRunner().invoke(runs, flags).exit_code == 0

    (settings,) = seen
    assert (settings.executor, settings.namespace) == ("kubernetes", "hpo")


@pytest.mark.parametrize(
    ("study", "is_file"),
    [("study.yaml", True), ("a/b.yml", True), ("mnist", False), ("mnist.v2", False)],
)
def test_a_study_is_called_by_its_file_or_by_its_name(study: str, is_file: bool) -> None:
    assert is_study_file(study) is is_file
