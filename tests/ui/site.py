"""The servers of browser tests, and the folder that studies are run and served from."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
from tests.ports import free_port
from tests.prepared import put_mlflow_database, put_prefect_database
from tests.ui.browser import is_installed, until

_Test = TypeVar("_Test", bound=Callable[..., None])

NEEDS_BROWSER = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        os.environ.get("STUDYFLOW_BROWSER_TESTS") != "1" or not is_installed(),
        reason="needs Chromium with chromedriver, and minutes: make test-ui",
    ),
]
"""Marks of a module of browser tests, or of one case."""


def in_browser(test: _Test) -> _Test:
    """Give one test the marks of those in a browser."""
    for mark in NEEDS_BROWSER:
        test = mark(test)
    return test


ROOT = Path(__file__).parents[2]

START_SECONDS = 180.0

_QUICK = {
    "PYTHONUNBUFFERED": "1",
    "OMP_NUM_THREADS": "1",
    # Prefect's runner asks for runs to start every ten seconds by default.
    "PREFECT_RUNNER_POLL_FREQUENCY": "1",
}


@dataclass(frozen=True)
class Site:
    """The servers of the tests, and the folder that the studies are served from."""

    folder: Path
    prefect: str
    mlflow: str
    login: str = ""
    """Name and password for Prefect's page, with a colon between; empty where it asks for none."""

    def ask(self, path: str, body: Any = None) -> Any:
        """Return what Prefect's API answers."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if self.login:
            pair = base64.b64encode(self.login.encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        request = urllib.request.Request(f"{self.prefect}/api{path}", data, headers)

        def answer() -> tuple[Any] | None:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return (json.load(answer),)
            except (ConnectionError, urllib.error.URLError) as error:
                if isinstance(error, urllib.error.HTTPError) and error.code != 503:
                    raise
                return None  # it is busy, or the way to it is being fixed

        (found,) = until(answer, f"an answer of {self.prefect}", 30) or (None,)
        return found

    def run(self, run_id: str) -> Any:
        """Return a flow run as Prefect has it."""
        return self.ask(f"/flow_runs/{run_id}")

    def log(self, run_id: str) -> str:
        """Return a flow run's log as Prefect has it."""
        query = {"logs": {"flow_run_id": {"any_": [run_id]}}}
        return "\n".join(record["message"] for record in self.ask("/logs/filter", query))

    def page(self, run_id: str, tab: str = "Logs") -> str:
        """Return the address of a flow run's page."""
        return f"{self.prefect}/v2/runs/flow-run/{run_id}?tab={tab}"

    def deployment(self, name: str, flow: str = "run-study") -> str:
        """Return the id of a deployment."""
        return str(self.ask(f"/deployments/name/{flow}/{name}")["id"])

    def trials(self) -> list[psutil.Process]:
        """Return the processes that run a trial, and those that watch one."""
        script = str(self.folder / "train.py")
        return [p for p in psutil.process_iter() if script in _command_line(p)]

    def status(self, study: str) -> Any:
        """Return what `studyflow status` says."""
        return json.loads(self.studyflow("status", study, "--json"))[0]

    def studyflow(self, *arguments: str) -> str:
        """Run a command in the folder of the studies; return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "studyflow", *arguments],
            cwd=self.folder,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _environment() -> dict[str, str]:
    """Return an environment without places of its own, in which only the folder decides."""
    places = ("PREFECT_", "MLFLOW_", "STUDYFLOW_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(places)}
    return {**kept, **_QUICK}


@contextmanager
def started(folder: Path, *arguments: str, until_line: str) -> Iterator[None]:
    """Run a command in the background, from the line that says it is ready to Ctrl-C."""
    with _in_background(folder, ["-m", "studyflow", *arguments], {}, until_line):
        yield


@contextmanager
def serving(site: Site, flow: str, parameters: dict[str, Any]) -> Iterator[None]:
    """Serve a flow by Prefect's own `serve`, as a deployment of the flow's name."""
    name = flow.replace("_", "-")
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'flows')!r}); from {flow} import {flow}; "
        f"{flow}.serve(name={name!r}, parameters={parameters!r})"
    )
    server = {"PREFECT_API_URL": f"{site.prefect}/api", "MLFLOW_TRACKING_URI": site.mlflow}
    with _in_background(site.folder, ["-c", script], server, "being served"):
        yield


@contextmanager
def _in_background(
    folder: Path, arguments: list[str], variables: dict[str, str], until_line: str
) -> Iterator[None]:
    log = folder / f"{free_port()}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env={**_environment(), **variables},
            stdout=output,
            stderr=output,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    try:
        until(
            lambda: until_line in log.read_text() or process.poll() is not None,
            f"{until_line!r} of python {' '.join(arguments)}",
            START_SECONDS,
        )
        assert process.poll() is None, log.read_text()
        yield
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=60)
        finally:
            for left in psutil.wait_procs(children, timeout=30)[1]:
                left.kill()


@contextmanager
def opened_site(folder: Path) -> Iterator[Site]:
    """Show the studies of a folder by `studyflow ui`, as a person does."""
    put_mlflow_database(folder / ".studyflow")
    put_prefect_database(folder / ".studyflow" / "prefect" / "prefect.db")
    ports = free_port(), free_port()
    addresses = [f"http://127.0.0.1:{port}" for port in ports]
    flags = ["--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1]), "--port", "0"]
    with started(folder, "ui", *flags, until_line="Ctrl-C ends all"):
        yield Site(folder, *addresses)
