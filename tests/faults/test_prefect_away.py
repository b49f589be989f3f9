"""A flow whose Prefect server goes away and comes back: the study goes on, the page follows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faults.place import DOCUMENT, TRAIN
from tests.ports import free_port
from tests.prepared import Command, put_mlflow_database, put_prefect_database

from studyflow.storage import default_storage_url, open_storage
from studyflow.study import find_study, load_records
from studyflow.trial.record import TrialState

ROOT = Path(__file__).parents[2]

HASTY = Path(__file__).with_name("hasty_flow.py")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500), pytest.mark.fault("F36")]


@pytest.fixture(params=["short", pytest.param("real", marks=pytest.mark.long)])
def is_hasty(request: pytest.FixtureRequest) -> bool:
    """Whether flows wait only for seconds."""
    request.node.user_properties.append(("did", f"an outage of Prefect, {request.param} limits"))
    return bool(request.param == "short")


class Server:
    """Prefect's server as a process, always over one database and at one address."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        put_prefect_database(folder / "prefect" / "prefect.db")

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables of a machine that knows nothing but this server."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("STUDYFLOW_", "MLFLOW_", "PREFECT_"))
        }
        return {
            **kept,
            "HOME": str(self._folder),
            "PREFECT_HOME": str(self._folder / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }

    def start(self) -> None:
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "prefect", "server", "start"),
                    *("--host", "127.0.0.1", "--port", str(self.port)),
                ],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 180
        while not self.answers():
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2):
                return True
        except OSError:
            return False

    def ask(self, what: str) -> list[dict[str, Any]]:
        request = urllib.request.Request(
            f"{self.url}/{what}/filter", b"{}", {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: list[dict[str, Any]] = json.load(answer)
        return found


def lay_out(folder: Path) -> None:
    """Write the study, whose trials take two seconds and have a seed."""
    (folder / "train.py").write_text(TRAIN.replace("0.3", "2.0"))
    (folder / "study.yaml").write_text(json.dumps({**DOCUMENT, "fixed": {"seed": 0}}))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.kill()


class Flow:
    """A flow as a person starts it, in a folder of its own.

    Args:
        folder: The folder.
        server: Prefect's.
        program: The flow's file, and its arguments but the study file.
        is_hasty: Whether it waits for its server only a few seconds at a time.
    """

    def __init__(self, folder: Path, server: Server, *program: str, is_hasty: bool = True) -> None:
        self.folder = folder
        self.home = folder / "home"
        lay_out(folder)
        put_mlflow_database(self.home)
        name, *arguments = program or ("run_study",)
        with (folder / "flow.log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, *([str(HASTY)] if is_hasty else [])),
                    *(str(ROOT / "flows" / f"{name}.py"), "study.yaml", *arguments),
                ],
                cwd=folder,
                env={
                    **server.environment,
                    "PREFECT_API_URL": server.url,
                    "STUDYFLOW_HOME": str(self.home),
                    **({"PREFECT_CLIENT_MAX_RETRIES": "1"} if is_hasty else {}),
                },
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return (self.folder / "flow.log").read_text()

    def n_ended(self) -> int:
        return len(list((self.home / "studies/kill/trials").glob("*/attempt-*/exit.json")))

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 240
        while text not in self.log:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.1)


def test_a_study_that_ends_while_prefect_is_away_is_shown_when_it_is_back(
    tmp_path: Path, server: Server, is_hasty: bool
) -> None:
    server.start()
    flow = Flow(tmp_path, server, is_hasty=is_hasty)
    try:
        flow.wait_for("trial 1")
        server.kill()
        flow.wait_for("Prefect's server does not answer; waiting for it")
        assert "All 6 trials are finished." in flow.log

        server.start()
        assert flow.process.wait(200) == 0, flow.log
    finally:
        flow.process.kill()
        flow.process.wait()

    records = load_records(find_study("kill", open_storage(default_storage_url(flow.home))))[1]
    assert [(r.state, r.attempt) for r in records] == [(TrialState.COMPLETE, 1)] * 6
    assert "Traceback" not in flow.log
    assert "Error logging to API" not in flow.log
    assert [run["state"]["type"] for run in server.ask("flow_runs")] == ["COMPLETED"]
    deadline = time.monotonic() + 60  # the server takes in events one after another
    while True:
        shown = {run["name"]: run["state"]["type"] for run in server.ask("task_runs")}
        if shown == {f"trial-{number:04d}": "COMPLETED" for number in range(6)}:
            break
        assert time.monotonic() < deadline, shown
        time.sleep(0.5)


@pytest.mark.parametrize(
    ("program", "shown"),
    [
        (
            ("compare_samplers", "--samplers", "random", "qmc", "--seeds", "1", "--n-trials", "4"),
            {"kill-samplers-table", "kill-samplers-summary"},
        ),
        (("retrain_best", "--top", "2", "--repeats", "3"), {"kill-retrain"}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_follows_a_study_outlives_an_outage_too(
    tmp_path: Path, server: Server, program: tuple[str, ...], shown: set[str], is_hasty: bool
) -> None:
    server.start()
    if program[0] == "retrain_best":
        lay_out(tmp_path)
        put_mlflow_database(tmp_path / "home")
        command = ["run", "study.yaml", "--home", "home"]
        log = tmp_path / "run.log"
        run = Command("studyflow", command, cwd=tmp_path, env=server.environment, log=log)
        assert run.wait(200) == 0, log.read_text()
    flow = Flow(tmp_path, server, *program, is_hasty=is_hasty)
    try:
        flow.wait_for("trial 1")
        server.kill()
        flow.wait_for("Prefect's server does not answer; waiting for it")

        server.start()
        code = flow.process.wait(200)
    finally:
        flow.process.kill()
        flow.process.wait()

    assert code == 0, flow.log
    assert "Traceback" not in flow.log
    assert [run["state"]["type"] for run in server.ask("flow_runs")] == ["COMPLETED"], flow.log
    assert shown <= {artifact["key"] for artifact in server.ask("artifacts")}, flow.log


def test_a_server_that_is_not_there_at_the_start_is_named_with_the_way_out(
    tmp_path: Path, server: Server
) -> None:
    flow = Flow(tmp_path, server, is_hasty=False)

    assert flow.process.wait(120) == 3, flow.log

    assert flow.log == (
        f"Prefect's server {server.url} does not answer. Hint: start it, or unset PREFECT_API_URL "
        "to use one for this run alone, or run without Prefect: studyflow run.\n"
    )
    assert not (flow.home / "studies.journal").exists(), "nothing was started"
