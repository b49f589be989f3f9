"""An MLflow server that tests start, kill and start again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tests.ports import free_port
from tests.prepared import put_mlflow_database, put_mlflow_login_database

from studyflow.tracking.mlflow import embedded_uri


class MlflowServer:
    """One server, on loopback unless a subclass says otherwise.

    Args:
        folder: Folder for its files; its database is the embedded one of this folder.
    """

    host = "127.0.0.1"
    """Address that it listens at."""
    options: Sequence[str] = ()
    """Further options of its command."""
    variables: Mapping[str, str] = {}
    """Further variables of its process."""
    put_database = staticmethod(put_mlflow_database)
    """Puts an empty database where it has none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        self.launch()
        for _ in range(600):
            if self._process is None or self._process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError((self._folder / "server.log").read_text()[-3000:])

    def launch(self) -> None:
        """Start it, and return at once."""
        self.put_database(self._folder)
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1", *self.options),
            *("--host", self.host, "--port", str(self.port)),
            *("--backend-store-uri", embedded_uri(self._folder)),
            *("--artifacts-destination", str(self._folder / "served")),
        ]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                env={**os.environ, **quiet, **self.variables},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill it with its workers, if it runs."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class GatedServer(MlflowServer):
    """The same with a login, and with the gate for trials."""

    key = "a-key-that-runners-and-the-server-share"
    runner = ("studyflow", "password-of-runners")
    admin = ("admin", "password-of-the-admin")
    options = ("--app-name", "studyflow")
    put_database = staticmethod(put_mlflow_login_database)
    variables = MappingProxyType(
        {
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "a-key-of-the-server-alone",
            "MLFLOW_AUTH_ADMIN_PASSWORD": admin[1],
            "STUDYFLOW_MLFLOW_RUNNER_USERNAME": runner[0],
            "STUDYFLOW_MLFLOW_RUNNER_PASSWORD": runner[1],
            "STUDYFLOW_MLFLOW_TOKEN_KEY": key,
        }
    )
