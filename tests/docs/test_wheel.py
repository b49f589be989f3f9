"""studyflow as it is installed: from a wheel, in an empty folder, without the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.prepared import put_mlflow_database

from studyflow.cli import exits


def run(installed: Path, folder: Path, *arguments: str, code: int = 0) -> str:
    """Run a command of the installed package in a folder, and return all that it prints."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-m", "studyflow", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_wheel_has_the_templates_the_flows_and_the_examples_without_their_images(
    installed: Path,
) -> None:
    package = installed / "studyflow"
    names = {str(path.relative_to(package)) for path in package.rglob("*.*")}
    assert {
        "cli/templates/study.yaml",
        "cli/templates/train.py",
        "shipped/flows/run_study.py",
        "shipped/flows/deploy.py",
        "shipped/examples/cnn-lstm/study-short.yaml",
        "shipped/examples/epidemic/cases.csv",
    } <= names
    assert not list(package.rglob("Dockerfile"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_newcomer_goes_from_an_empty_folder_to_the_best_configuration(
    installed: Path, tmp_path: Path
) -> None:
    put_mlflow_database(tmp_path / ".studyflow")
    assert "study.yaml" in run(installed, tmp_path, "init", "--name", "first")
    assert "all is well" in run(installed, tmp_path, "check", "study.yaml")
    assert "All 3 trials are finished" in run(
        installed, tmp_path, "run", "study.yaml", "--n-trials", "3"
    )
    assert "learning_rate" in run(installed, tmp_path, "best", "study.yaml")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_flow_reads_an_example_without_the_repository(installed: Path, tmp_path: Path) -> None:
    run(installed, tmp_path, "example", "blackbox", "mine")
    study = tmp_path / "mine" / "study.yaml"
    study.write_text(study.read_text().replace("maximize", "upwards"))
    told = run(installed, tmp_path, "flow", "run-study", "mine/study.yaml", code=exits.BAD_INPUT)
    assert "upwards" in told


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_flow_runs_an_example_without_the_repository(installed: Path, tmp_path: Path) -> None:
    put_mlflow_database(tmp_path / ".studyflow")
    run(installed, tmp_path, "example", "blackbox", "mine")
    told = run(installed, tmp_path, "flow", "run-study", "mine/study.yaml", "--n-trials", "2")
    assert "All 2 trials are finished" in told
