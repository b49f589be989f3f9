"""Which of PostgreSQL's programs is taken, and what is sent to it; a server is in tests/faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from studyflow.backup import postgres
from studyflow.backup.postgres import Contents, Program, newest, removal, without_password
from studyflow.errors import BackupError

CONTENTS = Contents(16, (("public.studies", "r"),))
URL = "postgresql://optuna:secret@db:5432/optuna?sslmode=verify-full"


def test_the_newest_program_is_taken() -> None:
    found = {
        "/usr/lib/postgresql/9/bin/pg_dump": "pg_dump (PostgreSQL) 9.6.24",
        "/usr/lib/postgresql/15/bin/pg_dump": "pg_dump (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)",
        "/usr/bin/broken": "",
        "/usr/lib/postgresql/17/bin/pg_dump": "pg_dump (PostgreSQL) 17.6",
    }

    assert newest(found) == Program("/usr/lib/postgresql/17/bin/pg_dump", "17.6")
    assert newest({"/usr/bin/broken": ""}) is None


def test_a_password_never_stands_on_a_command_line() -> None:
    address, password = without_password("postgresql://optuna:p%40ss@db:5432/optuna?sslmode=a")

    assert (address, password) == ("postgresql://optuna@db:5432/optuna?sslmode=a", "p@ss")
    assert without_password("postgresql://db/optuna") == ("postgresql://db/optuna", None)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A server of version 16, and a folder for programs."""
    monkeypatch.setattr(postgres, "look", lambda url: CONTENTS)
    monkeypatch.setattr(postgres, "INSTALLED", tmp_path / "installed")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def test_without_pg_dump_it_says_what_to_install(server: Path, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="needs pg_dump, and there is none") as caught:
        postgres.dump(URL, tmp_path / "dump")
    assert "client programs of version 16 or later" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_older_pg_dump_is_refused(server: Path, tmp_path: Path) -> None:
    _program(server / "pg_dump", "15.14", "exit 1")

    with pytest.raises(BackupError, match=r"is PostgreSQL 16, and pg_dump here is 15\.14"):
        postgres.dump(URL, tmp_path / "dump")


def test_pg_dump_gets_the_address_and_the_password_apart(server: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    _program(server / "pg_dump", "16.2", f'echo "$@ PGPASSWORD=$PGPASSWORD" > {told}')

    assert postgres.dump(URL, tmp_path / "dump") == "pg_dump 16.2"
    arguments, _, password = told.read_text().strip().rpartition(" PGPASSWORD=")
    assert "secret" not in arguments
    assert arguments.endswith("--dbname postgresql://optuna@db:5432/optuna?sslmode=verify-full")
    assert password == "secret"


def test_what_pg_dump_says_is_passed_on(server: Path, tmp_path: Path) -> None:
    _program(server / "pg_dump", "16.2", 'echo "pg_dump: error: permission denied" >&2; exit 1')

    with pytest.raises(BackupError, match=r"pg_dump failed on .*: pg_dump: error: permission"):
        postgres.dump(URL, tmp_path / "dump")


def test_a_newer_setting_of_the_header_is_left_out_for_an_older_server(
    server: Path, tmp_path: Path
) -> None:
    # pg_restore 17 writes it, and servers before 17 refuse it. In the data it is data.
    text = "SET transaction_timeout = 0;\n" + "-- header\n" * 60 + "SET transaction_timeout = 0;\n"
    (tmp_path / "statements").write_text(text)
    _program(server / "pg_restore", "17.1", f'cp {tmp_path / "statements"} "$5"')
    _program(server / "psql", "17.1", 'while [ "$1" != --file ]; do shift; done; test -s "$2"')

    postgres.load(URL, tmp_path / "dump", tmp_path / "script")

    lines = (tmp_path / "script").read_text().splitlines()
    assert lines[:4] == [
        "SET LOCAL client_min_messages = warning;",
        "SET LOCAL lock_timeout = '10s';",
        "DROP TABLE IF EXISTS public.studies CASCADE;",
        "-- header",
    ]
    assert lines[-1] == "SET transaction_timeout = 0;"


def test_everything_is_removed_tables_before_what_they_use() -> None:
    objects = [("public.direction", "type"), ('public."Trials"', "r"), ("public.numbers", "S")]

    assert removal(objects) == [
        "SET LOCAL client_min_messages = warning;",
        "SET LOCAL lock_timeout = '10s';",
        'DROP TABLE IF EXISTS public."Trials" CASCADE;',
        "DROP SEQUENCE IF EXISTS public.numbers CASCADE;",
        "DROP TYPE IF EXISTS public.direction CASCADE;",
    ]


def _program(path: Path, version: str, script: str) -> None:
    path.write_text(
        "#!/bin/sh\nPATH=/usr/bin:/bin\n"
        f'[ "$1" = --version ] && echo "{path.name} (PostgreSQL) {version}" && exit\n{script}\n'
    )
    path.chmod(0o755)


def test_an_empty_database_makes_no_backup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(postgres, "look", lambda url: Contents(16, ()))

    with pytest.raises(BackupError, match="holds no table"):
        postgres.dump(URL, tmp_path / "dump")
