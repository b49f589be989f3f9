"""What many tests need again and again, made once: imports, and empty databases."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import multiprocessing
import os
import runpy
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from multiprocessing import forkserver
from pathlib import Path

ROOT = Path(__file__).parents[1]

_PRELOADED = ("tests.preloaded",)
"""What every runner imports."""


def put_mlflow_database(home: Path) -> None:
    """Put an empty MLflow database into a home that has none; MLflow takes seconds to make one."""
    _put("mlflow", _make_mlflow_database, home / "mlflow.db")


def put_mlflow_login_database(home: Path) -> None:
    """Put an empty MLflow database with the tables of its login into a home that has none."""
    _put("mlflow", _make_mlflow_login_database, home / "mlflow.db", "-login")


def put_prefect_database(path: Path) -> None:
    """Put an empty Prefect database where there is none; Prefect takes long to make one."""
    _put("prefect", _make_prefect_database, path)


def _make_mlflow_database(path: Path) -> None:
    from mlflow.tracking import MlflowClient

    MlflowClient(f"sqlite:///{path}").search_experiments()


def _make_mlflow_login_database(path: Path) -> None:
    _make_mlflow_database(path)
    subprocess.run(
        [
            *(sys.executable, "-m", "mlflow.server.auth", "db", "upgrade"),
            *("--url", f"sqlite:///{path}"),
        ],
        check=True,
        capture_output=True,
        timeout=170,
    )


def _make_prefect_database(path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with tempfile.TemporaryDirectory() as home:
        subprocess.run(
            [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"],
            env={**kept, "HOME": home, "PREFECT_HOME": home},
            check=True,
            capture_output=True,
            timeout=170,
        )
        with contextlib.closing(sqlite3.connect(Path(home) / "prefect.db")) as connection:
            connection.execute("pragma wal_checkpoint(truncate)")
        shutil.copyfile(Path(home) / "prefect.db", path)


def _put(package: str, make: Callable[[Path], None], target: Path, kind: str = "") -> None:
    """Copy a package's empty database, which is made once for its version."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    folder = Path(tempfile.gettempdir()) / f"studyflow-tests-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    database = folder / f"{package}{kind}-{version(package)}.db"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not database.exists():
            draft = folder / "draft.db"
            draft.unlink(missing_ok=True)
            make(draft)
            draft.rename(database)
    shutil.copyfile(database, target)


class Command:
    """`python -m MODULE ARGUMENTS` as a process of its own, whose imports were made before.

    A process that has imported what runners import is forked; it has the methods of `Popen` that
    tests need.

    Args:
        module: The module.
        arguments: Its arguments.
        cwd: Its working folder.
        env: Its environment.
        log: File that standard output and standard error are added to.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path
    ) -> None:
        log.touch()  # before the first words come
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(_PRELOADED))
        with _search_path():
            forkserver.ensure_running()
        self._process = context.Process(
            target=_run, args=(module, list(arguments), cwd, dict(env), log)
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; `None` while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("studyflow", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@contextlib.contextmanager
def _search_path() -> Iterator[None]:
    """Let the process that is forked find what this one finds."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join((*sys.path, str(ROOT)))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _run(module: str, arguments: list[str], cwd: Path, env: dict[str, str], log: Path) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:  # as an interpreter that ends; a forked process leaves without
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
