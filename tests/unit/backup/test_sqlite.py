"""Databases in files are copied while they are in use; what is damaged makes no backup."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from studyflow.backup import sqlite
from studyflow.backup.journal import copy_journal
from studyflow.backup.sqlite import copy_database, move_addresses
from studyflow.errors import BackupError, BackupUnavailable, StorageBroken
from studyflow.storage import open_storage


def rows(path: Path, statement: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute(statement).fetchall()


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_database_is_copied_while_a_writer_has_begun(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute(f"PRAGMA journal_mode = {mode}")
        writer.execute("CREATE TABLE t (x)")
        writer.execute("INSERT INTO t VALUES (1)")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO t VALUES (2)")

        copy_database(path, tmp_path / "copy.db")

        writer.execute("COMMIT")
    assert rows(tmp_path / "copy.db", "SELECT x FROM t") == [(1,)]
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("copy")) == ["copy.db"]


def test_a_database_that_a_writer_keeps_locked_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    path = tmp_path / "a.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("CREATE TABLE t (x)")
        writer.execute("BEGIN EXCLUSIVE")

        with pytest.raises(BackupUnavailable, match="locked by a writer"):
            copy_database(path, tmp_path / "copy.db")


def test_what_is_no_database_makes_no_backup(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("no database " * 1000)

    with pytest.raises(BackupError, match="cannot be used"):
        copy_database(tmp_path / "a.db", tmp_path / "copy.db")


def test_addresses_of_artifacts_follow_their_folder_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE experiments (artifact_location)")
        database.execute("CREATE TABLE runs (artifact_uri)")
        database.executemany(
            "INSERT INTO experiments VALUES (?)",
            [("/old/art",), ("file:///old/art/1",), ("/old/artifacts",), ("mlflow-artifacts:/1",)],
        )
        database.execute("INSERT INTO runs VALUES ('/old/art/1/run/artifacts')")

    assert move_addresses(path, "/old/art", "/new/place") == 3

    assert rows(path, "SELECT * FROM experiments") == [
        ("/new/place",),
        ("file:///new/place/1",),
        ("/old/artifacts",),
        ("mlflow-artifacts:/1",),
    ]
    assert rows(path, "SELECT * FROM runs") == [("/new/place/1/run/artifacts",)]


def test_a_journal_is_copied_up_to_its_last_whole_line(tmp_path: Path) -> None:
    path, copy = tmp_path / "studies.journal", tmp_path / "copy.journal"
    storage = open_storage(f"journal:///{path}")
    storage.create_new_study([], "demo")
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code":1,"torn')

    copy_journal(path, copy)

    assert copy.read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("copy")] == ["copy.journal"]


def test_a_damaged_journal_makes_no_backup(tmp_path: Path) -> None:
    path = tmp_path / "studies.journal"
    path.write_text('{"op_code":0}\nno operation\n')

    with pytest.raises(StorageBroken):
        copy_journal(path, tmp_path / "copy.journal")
