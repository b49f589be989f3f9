"""Real runners, killed at several moments: the next one goes on exactly (F21), none remains."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from studyflow.record import TrialRecord, TrialState
from studyflow.storage import default_storage_url, open_storage
from studyflow.study import find_study, is_counted, load_records
from studyflow.trial import Cause

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

DOCUMENT: dict[str, Any] = {
    "name": "kill",
    "objectives": [{"metric": "loss", "direction": "minimize"}],
    "search_space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
    "sampler": {"type": "random", "seed": 0},
    "budget": {"n_trials": 6, "max_parallel_trials": 2},
    "trial": {"command": ["python", "-S", "train.py"]},
}

TRAIN = """
import json, os, time
trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
time.sleep(0.3)
with open(trial["outcome_path"], "w") as file:
    json.dump({"version": 1, "study": trial["study"], "number": trial["number"],
               "attempt": trial["attempt"], "cause": "ok",
               "metrics": {"loss": trial["params"]["x"]}, "message": ""}, file)
"""


class Place:
    """One study on disk, and the processes that have to do with it."""

    def __init__(self, folder: Path, seconds: float = 0.3) -> None:
        self.folder = folder
        self.home = folder / "home"
        (folder / "train.py").write_text(TRAIN.replace("0.3", str(seconds)))
        (folder / "study.yaml").write_text(yaml.safe_dump(DOCUMENT))

    def start(self) -> subprocess.Popen[bytes]:
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("STUDYFLOW_", "MLFLOW_"))
        }
        with (self.folder / "runner.log").open("ab") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "studyflow", "run", "study.yaml"),
                    *("--home", str(self.home)),
                ],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def run_to_end(self) -> None:
        process = self.start()
        assert process.wait(60) == 0, (self.folder / "runner.log").read_text()

    @property
    def trials_folder(self) -> Path:
        return self.home / "studies" / "kill" / "trials"

    def n_folders(self) -> int:
        return len(list(self.trials_folder.glob("*/attempt-*")))

    def n_ended(self) -> int:
        return len(list(self.trials_folder.glob("*/attempt-*/exit.json")))

    def records(self) -> tuple[TrialRecord, ...]:
        storage = open_storage(default_storage_url(self.home))
        return load_records(find_study("kill", storage))[1]

    def processes(self) -> list[psutil.Process]:
        """Return every process that works in this folder or was told of it."""
        found = []
        for process in psutil.process_iter():
            try:
                if any(str(self.folder) in part for part in process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def mlflow_trials(self) -> dict[int, tuple[str, float | None]]:
        from mlflow.tracking import MlflowClient

        from studyflow.tracking.mlflow import embedded_uri

        client = MlflowClient(embedded_uri(self.home))
        runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
        children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
        numbered = {
            int(run.info.run_name.rpartition("-")[2]): (
                run.info.status,
                run.data.metrics.get("loss"),
            )
            for run in children
        }
        assert len(numbered) == len(children), "one run for each trial"
        return numbered


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert process.poll() is None, "the runner ended before the moment came"
        assert time.monotonic() < deadline
        time.sleep(0.005)


MOMENTS: dict[str, Callable[[Place], bool]] = {
    "the study's journal appears": lambda p: (p.home / "studies.journal").exists(),
    "the first trial appears": lambda p: p.n_folders() >= 1,
    "the third trial appears": lambda p: p.n_folders() >= 3,
    "the fourth trial has ended": lambda p: p.n_ended() >= 4,
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_runner_is_replaced_by_the_next_one(moment: str, tmp_path: Path) -> None:
    place = Place(tmp_path)
    runner = place.start()
    wait_until(lambda: MOMENTS[moment](place), runner)
    runner.send_signal(signal.SIGKILL)
    runner.wait()

    place.run_to_end()

    records = place.records()
    assert [r.number for r in records if is_counted(r)] == [0, 1, 2, 3, 4, 5]
    assert len(records) == 6
    assert {(r.state, r.cause, r.attempt) for r in records} == {(TrialState.COMPLETE, Cause.OK, 1)}
    assert all(r.values == (r.params["x"],) for r in records)
    assert len({r.values for r in records}) == 6
    assert place.n_folders() == 6
    assert place.processes() == []
    assert place.mlflow_trials() == {
        r.number: ("FINISHED", r.values[0]) for r in records if r.values
    }


def test_a_terminated_runner_stops_its_trials_and_leaves_the_rest_for_later(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path, seconds=20)
    runner = place.start()
    wait_until(lambda: place.n_folders() >= 2, runner)
    wait_until(lambda: len(place.processes()) >= 5, runner)
    terminated_at = time.monotonic()
    runner.terminate()

    assert runner.wait(40) == 130, (tmp_path / "runner.log").read_text()

    assert time.monotonic() - terminated_at < 30
    assert "Interrupted; finished trials are kept." in (tmp_path / "runner.log").read_text()
    records = place.records()
    assert {(r.state, r.cause) for r in records} == {(TrialState.FAILED, Cause.CANCELLED)}
    assert len(records) == 2
    assert place.processes() == []
    assert {status for status, _ in place.mlflow_trials().values()} == {"KILLED"}
