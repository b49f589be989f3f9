"""A flow over Prefect's temporary server, interrupted: it ends soon, says so and leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.prepared import Command, put_mlflow_database, put_prefect_database

from studyflow.storage import default_storage_url, open_storage
from studyflow.study import find_study, load_records
from studyflow.trial import Cause
from studyflow.trial.record import TrialState

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

TRAIN = """
import time
time.sleep(60)
"""

STUDY = """
name: interrupted
objectives: [{metric: loss, direction: minimize}]
search_space: {x: {type: float, low: 0, high: 1}}
sampler: {type: random, seed: 0}
budget: {n_trials: 4, max_parallel_trials: 2}
trial: {command: [python, -S, train.py]}
"""


class Flow:
    """A flow as `make study` runs it: the leader of a process group, as in a terminal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        put_mlflow_database(self.home)
        put_prefect_database(self.home / "prefect" / "prefect.db")
        (folder / "train.py").write_text(TRAIN)
        (folder / "study.yaml").write_text(STUDY)
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("STUDYFLOW_", "MLFLOW_", "PREFECT_"))
        }
        with (folder / "flow.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "flows" / "run_study.py"), "study.yaml"],
                cwd=folder,
                env={**self.environment, "HOME": str(folder), "STUDYFLOW_HOME": str(self.home)},
                stdout=log,
                stderr=log,
                start_new_session=True,
                # Tests that run in the background of a script inherit that Ctrl-C is ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def log(self) -> str:
        return (self.folder / "flow.log").read_text()

    def wait_for_trials(self) -> None:
        deadline = time.monotonic() + 120
        trials = self.home / "studies" / "interrupted" / "trials"
        while len(list(trials.glob("*/attempt-*"))) < 2:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)

    def servers(self) -> list[psutil.Process]:
        """Return the Prefect servers over this folder's database."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("PREFECT_HOME") == str(self.home / "prefect"):
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    flow = Flow(tmp_path)
    yield flow
    if flow.process.poll() is None:
        os.killpg(flow.process.pid, signal.SIGKILL)
        flow.process.wait()
    for server in flow.servers():
        server.kill()


@pytest.mark.parametrize(("who", "number"), [("group", signal.SIGINT), ("process", signal.SIGTERM)])
@pytest.mark.fault("F22")
def test_an_interrupted_flow_ends_soon_in_one_line_and_leaves_no_server(
    flow: Flow, who: str, number: signal.Signals
) -> None:
    flow.wait_for_trials()
    interrupted_at = time.monotonic()
    send = os.killpg if who == "group" else os.kill
    send(flow.process.pid, number)

    assert flow.process.wait(60) == 130, flow.log

    assert time.monotonic() - interrupted_at < 30
    assert "Interrupted; finished trials are kept. Run it again to continue." in flow.log
    assert "Traceback" not in flow.log
    records = load_records(find_study("interrupted", open_storage(default_storage_url(flow.home))))[
        1
    ]
    assert {(r.state, r.cause) for r in records} == {(TrialState.FAILED, Cause.CANCELLED)}
    assert flow.servers() == []
    # What MLflow was too slow to take within the five seconds of an interrupted runner.
    for command in ("sync", "verify"):
        log = flow.folder / f"{command}.log"
        arguments = [command, "interrupted", "--home", str(flow.home)]
        done = Command("studyflow", arguments, cwd=flow.folder, env=flow.environment, log=log)
        assert done.wait(60) == 0, log.read_text()
