"""`studyflow ui` as a person starts and ends it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.ports import free_port
from tests.prepared import put_prefect_database

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def start(home: Path, prefect_port: int, mlflow_port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "studyflow", "ui", "--home", str(home)]
    command += ["--prefect-port", str(prefect_port), "--mlflow-port", str(mlflow_port)]
    command += ["--port", "0"]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
    )


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, int, int]]:
    """The command with both servers up, what it printed, and its ports."""
    put_prefect_database(tmp_path / "home" / "prefect" / "prefect.db")
    ports = free_port(), free_port()
    process = start(tmp_path / "home", *ports)
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if "Ctrl-C ends all" in line:
            break
    yield process, printed, *ports
    if process.poll() is None:
        process.kill()
    process.wait()
    process.stdout.close()


def test_all_pages_answer_at_the_printed_addresses_and_nothing_is_left_after_the_end(
    started: tuple[subprocess.Popen[str], str, int, int], tmp_path: Path
) -> None:
    process, printed, prefect_port, mlflow_port = started
    assert f"Prefect  http://127.0.0.1:{prefect_port}" in printed
    assert f"MLflow   http://127.0.0.1:{mlflow_port}" in printed
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    for url in re.findall(r"http://127\.0\.0\.1:\S+", printed):
        with browser.open(url, timeout=30) as page:
            assert page.status == 200
    with urllib.request.urlopen(f"http://127.0.0.1:{prefect_port}/ui-settings", timeout=30) as page:
        # The page's script asks this address, whatever port a person chose.
        assert json.load(page)["api_url"] == f"http://127.0.0.1:{prefect_port}/api"
    announced = tmp_path / "home" / "prefect" / "server.json"
    assert json.loads(announced.read_text())["api"] == f"http://127.0.0.1:{prefect_port}/api"

    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    assert psutil.wait_procs(children, timeout=30)[1] == []
    assert not announced.exists()


def test_a_taken_port_is_named_with_the_flag_that_changes_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        process = start(tmp_path / "home", port, free_port())
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert f"Port {port} is taken" in printed
    assert "--prefect-port" in printed


def test_the_server_of_a_killed_flow_is_ended_and_others_are_not(tmp_path: Path) -> None:
    from studyflow.orchestration.orphaned_servers import (
        SERVER_APP,
        STARTED_BY,
        end_orphaned_servers,
    )
    from studyflow.settings import Settings

    settings = Settings.resolve(home=tmp_path / "home", environment={})
    # A shell starts the stand-in for a server and dies, which makes it an orphan.
    sleeper = "import time; time.sleep(120)"
    server = f"exec -a python '{sys.executable}' -c '{sleeper}' {SERVER_APP}"
    env = {**os.environ, "PREFECT_HOME": str(settings.home / "prefect")}
    ours = _orphan(server, env)
    others = _orphan(server, {**env, "PREFECT_HOME": "/elsewhere"})
    # A Python adopted the first of these two, as in a container that runs nothing else.
    adopted, served = (
        subprocess.Popen([sys.executable, "-c", sleeper, SERVER_APP], env={**env, STARTED_BY: flow})
        for flow in ("1", str(os.getpid()))
    )
    try:
        assert end_orphaned_servers(settings) == 2
        assert not ours.is_running() or ours.status() == psutil.STATUS_ZOMBIE
        assert adopted.poll() is not None
        assert others.is_running()
        assert served.poll() is None
    finally:
        for process in (others, adopted, served):
            process.kill()
        adopted.wait()
        served.wait()


def _orphan(server: str, env: dict[str, str]) -> psutil.Process:
    done = subprocess.run(
        ["bash", "-c", f"({server}) >/dev/null 2>&1 & echo $!"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    process = psutil.Process(int(done.stdout))
    deadline = time.monotonic() + 10
    while "create_app" not in " ".join(process.cmdline()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return process
