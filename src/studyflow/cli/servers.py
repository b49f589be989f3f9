"""`studyflow ui`: the studies' live pages, and Prefect's and MLflow's, on this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from studyflow.errors import ExecutorUnavailable, MissingExtra
from studyflow.interrupt import Terminated
from studyflow.servers import announced
from studyflow.servers.prefect import prefect_environment
from studyflow.settings import Settings
from studyflow.trial.private_files import make_private_folder, private_opener, tighten_home

START_SECONDS: Final = 180.0
"""Longest wait for a server: the first start creates its database."""


@dataclass(frozen=True)
class Server:
    """One server to start."""

    name: str
    command: tuple[str, ...]
    url: str
    health: str
    environment: Mapping[str, str]


@click.command()
@click.option("--port", default=4300, show_default=True, help="Port of the studies' live pages.")
@click.option("--live-only", is_flag=True, help="Serve these alone, without Prefect and MLflow.")
@click.option("--prefect-port", default=4200, show_default=True, help="Port of Prefect's page.")
@click.option("--mlflow-port", default=5000, show_default=True, help="Port of MLflow's page.")
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the studies to show; STUDYFLOW_HOME, else .studyflow.",
)
def ui(port: int, live_only: bool, prefect_port: int, mlflow_port: int, home: Path | None) -> None:
    """Serve live pages of the studies on this machine (loopback) until Ctrl-C.

    They show each study as it runs, its report and its trials' logs, and pause, resume and stop it.
    Prefect's and MLflow's pages are served beside them.
    """
    settings = Settings.resolve(home=home)
    with _live_pages(settings, port) as address:
        click.echo(f"Studies  {address}")
        if live_only:
            click.echo("Ctrl-C ends it.", err=True)
            with suppress(KeyboardInterrupt, Terminated):
                while True:
                    time.sleep(0.5)
        else:
            _serve_others(settings, prefect_port, mlflow_port)


@contextmanager
def _live_pages(settings: Settings, port: int) -> Iterator[str]:
    """Serve the live pages; yield the address to open, which holds their key."""
    from studyflow.live import LiveServer, Studies

    try:
        server = LiveServer(Studies(settings), port)
    except OSError as error:
        raise ExecutorUnavailable(
            f"The live pages cannot be served at port {port}: {error.strerror}.",
            hint="choose another: --port N, or 0 for any.",
        ) from error
    with server:
        yield server.way_in


def _serve_others(settings: Settings, prefect_port: int, mlflow_port: int) -> None:
    """Serve Prefect's and MLflow's pages until Ctrl-C."""
    servers = [prefect_server(settings, prefect_port), mlflow_server(settings, mlflow_port)]
    for server in servers:
        _require_free_port(server)
    log = settings.home / "ui.log"
    for folder in (settings.home, settings.home / "prefect"):
        make_private_folder(folder)
    tighten_home(settings.home)
    with open(log, "wb", opener=private_opener) as output:
        processes = [_start(server, output.fileno()) for server in servers]
        try:
            for server, process in zip(servers, processes, strict=True):
                click.echo(f"starting {server.name} …", err=True)
                _wait_for(server, process, log)
                click.echo(f"{server.name:8} {server.url}")
            for line in _study_links(servers[1]):
                click.echo(line)
            announced.announce(
                settings,
                processes[0].pid,
                prefect_api=f"{servers[0].url}/api",
                mlflow=servers[1].url,
            )
            click.echo("Ctrl-C ends all.", err=True)
            while all(process.poll() is None for process in processes):
                time.sleep(0.5)
            raise ExecutorUnavailable("A server ended by itself.", hint=f"see the end of {log}.")
        except (KeyboardInterrupt, Terminated):
            click.echo("stopping …", err=True)
        finally:
            announced.withdraw(settings)
            _stop(processes)


def prefect_server(settings: Settings, port: int) -> Server:
    """Return Prefect's server over the same database that embedded flow runs use."""
    return Server(
        name="Prefect",
        command=(
            _program("prefect"),
            "server",
            "start",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ),
        url=f"http://127.0.0.1:{port}",
        health=f"http://127.0.0.1:{port}/api/health",
        environment={
            **prefect_environment(settings),
            # The page asks this address for its data; the default names port 4200.
            "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api",
        },
    )


def mlflow_server(settings: Settings, port: int) -> Server:
    """Return MLflow's server over the embedded database."""
    from studyflow.tracking.mlflow import embedded_uri

    make_private_folder(settings.home)
    return Server(
        name="MLflow",
        command=(
            *(_program("mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)),
            *("--backend-store-uri", embedded_uri(settings.home), "--workers", "1"),
            *("--artifacts-destination", str(settings.home / "mlartifacts")),
        ),
        url=f"http://127.0.0.1:{port}",
        health=f"http://127.0.0.1:{port}/health",
        environment={
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # saves a second server of 235 MB
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
    )


def _study_links(mlflow: Server) -> list[str]:
    """Return a line for every study with the address of its runs.

    MLflow opens an experiment by its GenAI overview; this link goes straight to the trials.
    """
    from studyflow.tracking.pages import study_page

    request = urllib.request.Request(
        f"{mlflow.url}/api/2.0/mlflow/experiments/search",
        data=json.dumps({"max_results": 50, "order_by": ["last_update_time DESC"]}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            found = json.load(response).get("experiments", [])
    except (OSError, ValueError):
        return []
    return [
        f"  {experiment['name']:<24} {mlflow.url}/"
        + study_page(
            experiment["experiment_id"],
            {tag["key"]: tag["value"] for tag in experiment.get("tags", [])},
            experiment["name"],
        )
        for experiment in found
        if experiment["name"] != "Default"
    ]


def _program(name: str) -> str:
    """Return the program installed beside this Python, else the one on the PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise MissingExtra(f"`studyflow ui` (it starts {name})", name)
    return found


def _require_free_port(server: Server) -> None:
    """Raise for a port that someone listens on, before anything has started."""
    port = int(server.url.rpartition(":")[2])
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            flag = f"{server.name.lower()}-port"
            raise ExecutorUnavailable(
                f"Port {port} is taken, so {server.name} cannot start there.",
                hint=f"choose another: --{flag} N (make ui {flag.upper().replace('-', '_')}=N).",
            )


def _start(server: Server, output: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        server.command,
        stdout=output,
        stderr=output,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **server.environment},
        start_new_session=True,
    )


def _wait_for(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(server.health, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise ExecutorUnavailable(
        f"{server.name} did not come up at {server.url}.", hint=f"see the end of {log}."
    )


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
    for process in processes:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
