"""A study on disk that real runners work on, and what became of it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml
from optuna.storages import RDBStorage
from tests.prepared import Command, put_mlflow_database

from studyflow.storage import default_storage_url, open_storage
from studyflow.study import find_study, is_counted, load_records
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState

ROOT = Path(__file__).parents[2]

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
               "attempt": trial["attempt"], "key": trial.get("key"), "cause": "ok",
               "metrics": {"loss": trial["params"]["x"]}, "message": ""}, file)
"""


class Place:
    """One study on disk, and the processes that have to do with it.

    Args:
        folder: Folder for everything.
        seconds: How long each trial takes.
        storage_url: The study's storage; the embedded one by default.
        changes: Sections of the study file that differ.
    """

    def __init__(
        self,
        folder: Path,
        seconds: float = 0.3,
        storage_url: str | None = None,
        **changes: Any,
    ) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.storage_url = storage_url or default_storage_url(self.home)
        put_mlflow_database(self.home)
        self._runners: list[Command] = []
        (folder / "train.py").write_text(TRAIN.replace("0.3", str(seconds)))
        (folder / "study.yaml").write_text(yaml.safe_dump({**DOCUMENT, **changes}))

    def start(self, program: Sequence[str] = ("studyflow",), **variables: str) -> Command:
        """Start a runner.

        Args:
            program: Module that runs it, and its own arguments before those of the command.
            variables: Of its environment.
        """
        module, *arguments = program
        runner = Command(
            module,
            [*arguments, "run", "study.yaml", "--home", str(self.home)],
            cwd=self.folder,
            env=self._environment | variables,
            log=self.folder / "runner.log",
        )
        self._runners.append(runner)
        return runner

    @property
    def _environment(self) -> dict[str, str]:
        """Of the commands: this process's, but for what other tests may have said of servers."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("STUDYFLOW_", "MLFLOW_"))
        }
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join((*sys.path, str(ROOT))),
            "STUDYFLOW_STORAGE": self.storage_url,
        }

    def close(self) -> None:
        """End what a test that failed left behind: runners first, then all that they started."""
        for runner in self._runners:
            if runner.poll() is None:
                runner.kill()
                runner.wait()
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def run_to_end(self) -> None:
        process = self.start()
        assert process.wait(120) == 0, self.log

    @property
    def log(self) -> str:
        """What all runners have said."""
        return (self.folder / "runner.log").read_text()

    @property
    def trials_folder(self) -> Path:
        return self.home / "studies" / "kill" / "trials"

    def n_folders(self) -> int:
        return len(list(self.trials_folder.glob("*/attempt-*")))

    def n_ended(self) -> int:
        return len(list(self.trials_folder.glob("*/attempt-*/exit.json")))

    def records(self) -> tuple[TrialRecord, ...]:
        storage = open_storage(self.storage_url)
        records = load_records(find_study("kill", storage))[1]
        if isinstance(storage, RDBStorage):
            storage.remove_session()
            storage.engine.dispose()
        return records

    def check_whole(self, *, is_restored: bool = False) -> None:
        """Check that each trial ran once, has a value of its own, and left nothing behind.

        Args:
            is_restored: Whether the folder of a trial that ended during the backup may be missing:
                folders are copied before the studies.
        """
        records = self.records()
        assert [r.number for r in records if is_counted(r)] == [0, 1, 2, 3, 4, 5]
        assert len(records) == 6
        assert {(r.state, r.cause, r.attempt) for r in records} == {
            (TrialState.COMPLETE, Cause.OK, 1)
        }
        assert all(r.values == (r.params["x"],) for r in records)
        assert len({r.values for r in records}) == 6
        assert self.n_folders() <= 6
        assert is_restored or self.n_folders() == 6
        assert self.processes() == []
        assert self.mlflow_trials() == {
            r.number: ("FINISHED", r.values[0]) for r in records if r.values
        }
        self.verify()

    def verify(self, **variables: str) -> None:
        """Check all invariants, as a person would whose environment has these variables."""
        self.command("verify", **variables)

    def command(self, name: str, **variables: str) -> None:
        """Run a command about the study, which succeeds.

        Args:
            name: Of the command, such as `pause`.
            variables: Of its environment.
        """
        log = self.folder / f"{name}.log"
        command = Command(
            "studyflow",
            [name, "kill", "--home", str(self.home)],
            cwd=self.folder,
            env=self._environment | variables,
            log=log,
        )
        assert command.wait(60) == 0, log.read_text()

    def processes(self) -> list[psutil.Process]:
        """Return every process that works in this folder or was told of it."""
        found = []
        runners = {runner.pid for runner in self._runners if runner.poll() is None}
        for process in psutil.process_iter():
            try:
                named = any(str(self.folder) in part for part in process.cmdline())
                if named or process.pid in runners:
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
            int(run.data.tags["studyflow.trial"]): (
                run.info.status,
                run.data.metrics.get("loss"),
            )
            for run in children
        }
        assert len(numbered) == len(children), "one run for each trial"
        return numbered


def wait_until(condition: Callable[[], bool], process: Command) -> None:
    # A busy machine takes long to import what a runner needs.
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "the runner ended before the moment came"
        assert time.monotonic() < deadline, "the moment did not come"
        time.sleep(0.01)
