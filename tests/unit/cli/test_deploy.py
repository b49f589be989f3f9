"""`studyflow deploy`: what it hands to the program that knows Prefect."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from studyflow.cli import main, shipped
from studyflow.deployments.deployment import Deployment

ROOT = Path(__file__).parents[3]


@pytest.fixture
def started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> list[tuple[list[str], dict[str, str]]]:
    """The programs that took the place of this one, with their environment."""
    calls: list[tuple[list[str], dict[str, str]]] = []

    def take_place(_program: str, arguments: list[str], environment: dict[str, str]) -> None:
        calls.append((arguments, environment))

    monkeypatch.setattr(os, "execve", take_place)
    monkeypatch.chdir(tmp_path)
    for name in ("PREFECT_API_URL", "PREFECT_HOME", "STUDYFLOW_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # no profile of the machine's user
    return calls


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["deploy", *arguments])


def test_the_flags_reach_the_program_of_the_checkout(
    started: list[tuple[list[str], dict[str, str]]],
) -> None:
    flags = ["--cron", "0 3 * * 1", "--timezone", "Europe/Berlin", "--each-run", "warm"]
    flags += ["--on-collision", "queue", "--concurrency-limit", "2", "--n-trials", "7"]
    assert invoke("study.yaml", *flags, "--tag", "a", "--tag", "b").exit_code == 0
    ((arguments, _),) = started
    assert arguments[1] == str(ROOT / "flows" / "deploy.py")
    assert Deployment.from_json(arguments[2]) == Deployment(
        "study.yaml",
        cron="0 3 * * 1",
        timezone="Europe/Berlin",
        each_run="warm",
        on_collision="queue",
        concurrency_limit=2,
        n_trials=7,
        tags=("a", "b"),
    )


def test_served_runs_find_the_studies_of_the_home_folder(
    started: list[tuple[list[str], dict[str, str]]], tmp_path: Path
) -> None:
    assert invoke("study.yaml", "--serve", "--home", "here").exit_code == 0
    ((_, environment),) = started
    assert environment["STUDYFLOW_HOME"] == str(tmp_path / "here")
    assert environment["PREFECT_HOME"] == str(tmp_path / "here" / "prefect")
    assert (tmp_path / "here" / "prefect").is_dir()


def test_without_the_flows_it_says_where_they_are(
    started: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "a" / "b" / "c" / "shipped.py"))
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "deploy.py").touch()  # somebody else's
    done = invoke("study.yaml")
    assert (done.exit_code, started) == (1, [])
    assert "files of the flows" in done.output
    assert "clone of the repository" in done.output
