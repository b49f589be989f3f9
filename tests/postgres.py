"""A PostgreSQL that tests start, stop and start again, where its programs are found."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.ports import free_port

USER = "studyflow"


class Postgres:
    """One server. Made by `running_postgres`.

    Args:
        programs: Folder that holds initdb and pg_ctl.
        folder: Folder for its files.
        user: Who runs it; `None` for whoever runs the tests.
    """

    def __init__(self, programs: Path, folder: Path, user: str | None) -> None:
        self._programs = programs
        self._folder = folder
        self._user = user
        self._port = free_port()
        self.url = f"postgresql://{USER}:secret@127.0.0.1:{self._port}"
        self._call("initdb", "-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8")

    def start(self) -> None:
        """Start it, and return when it answers."""
        options = f"-c listen_addresses=127.0.0.1 -p {self._port} -k {self._folder} -F"
        self._call("pg_ctl", "-w", "-l", self._folder / "log", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `fast` ends sessions in order, `immediate` is a crash."""
        self._call("pg_ctl", "-w", "-m", mode, "stop")

    def _call(self, program: str, *arguments: object) -> None:
        words = [str(self._programs / program), "-D", str(self._folder / "data")]
        done = subprocess.run(
            [*words, *map(str, arguments)],
            user=self._user,
            capture_output=True,
            text=True,
            cwd="/",
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{program} {arguments}: {done.stderr}{done.stdout}"


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Give a running server; initdb refuses root, so root is another user."""
    pytest.importorskip("psycopg", reason="needs the extra 'postgres'")
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL here: initdb and pg_ctl are not installed")
    user = None
    if os.geteuid() == 0:
        users = {entry.pw_name for entry in pwd.getpwall()}
        user = next((user for user in ("postgres", "nobody") if user in users), None)
        if user is None:
            pytest.skip("PostgreSQL refuses root, and there is no user postgres or nobody")
    # Not tmp_path: only its owner may enter that, and a socket's path has 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="studyflow-pg-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        if user is not None:
            shutil.chown(folder, user)
        postgres = Postgres(programs, folder, user)
        postgres.start()
        try:
            yield postgres
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                postgres.stop("immediate")


def create_database(server: str, name: str) -> str:
    """Return the URL of a new database on a server.

    Args:
        server: URL of the server.
        name: What the database is for; any text.
    """
    psycopg = pytest.importorskip("psycopg")
    database = f"db_{zlib.crc32(name.encode())}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}")
    return f"{server}/{database}"


def _programs() -> Path | None:
    """Return the folder that holds initdb and pg_ctl."""
    on_path = shutil.which("initdb")
    places = [Path(on_path).parent] if on_path else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((p for p in places if (p / "pg_ctl").exists() and (p / "initdb").exists()), None)
