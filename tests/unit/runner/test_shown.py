"""A finished study that is run again: nothing that is shown already is made anew."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.prepared import put_mlflow_database

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

STUDY = """
name: demo
objectives: [{metric: loss, direction: minimize}]
search_space: {x: {type: float, low: -1, high: 1}}
sampler: {type: random, seed: 0}
budget: {n_trials: 2, max_parallel_trials: 2}
trial: {command: [python, train.py]}
"""

SCRIPT = """
from studyflow import sdk
sdk.finish(loss=sdk.current_trial().params["x"] ** 2)
"""

RUN = """
import runpy, sys
sys.argv = ["studyflow", "run", "study.yaml", "--home", "home", *sys.argv[1:]]
try:
    runpy.run_module("studyflow", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
print("modules:", *sorted(sys.modules))
"""


class Place:
    """A study file beside the home where it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "study.yaml").write_text(STUDY)
        (folder / "train.py").write_text(SCRIPT)
        (folder / "home").mkdir()
        put_mlflow_database(folder / "home")

    @property
    def report(self) -> Path:
        return self.folder / "home" / "studies" / "demo" / "report" / "report.html"

    def run(self, *flags: str) -> set[str]:
        """Run the study; return the packages that were loaded for it."""
        done = subprocess.run(
            [sys.executable, "-c", RUN, *flags],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        modules = done.stdout.rpartition("modules:")[2].split()
        return {name.partition(".")[0] for name in modules}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_finished_study_that_is_run_again_is_not_shown_again(place: Place) -> None:
    first = place.run()
    assert "mlflow" in first
    assert "sklearn" not in first, "importances of two trials are none"
    written = place.report.stat().st_mtime_ns
    page = place.report.read_bytes()
    again = place.run()

    assert again.isdisjoint({"mlflow", "scipy", "sklearn", "alembic", "jinja2"})
    assert place.report.stat().st_mtime_ns == written

    place.report.unlink()
    place.run()
    assert place.report.exists(), "what is missing is made again"
    assert len(place.report.read_bytes()) == len(page)


def test_a_study_with_further_trials_is_shown_anew(place: Place) -> None:
    place.run()
    page = place.report.read_bytes()

    assert "mlflow" in place.run("--n-trials", "3")
    assert place.report.read_bytes() != page
    assert "mlflow" not in place.run("--n-trials", "3")


def test_a_study_whose_mlflow_is_gone_is_shown_in_the_next_one(place: Place) -> None:
    place.run()
    database = place.folder / "home" / "mlflow.db"
    for file in database.parent.glob("mlflow.db*"):
        file.unlink()
    put_mlflow_database(database.parent)
    (place.folder / "home" / "studies" / "demo" / "shown.json").write_text("{")

    assert "mlflow" in place.run()
