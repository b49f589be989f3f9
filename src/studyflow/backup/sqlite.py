"""A consistent copy of a SQLite database in use, and MLflow's addresses in one that has moved."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from studyflow.errors import BackupError, BackupUnavailable
from studyflow.reasons import Code

BUSY_SECONDS: Final = 30.0
"""How long a writer may keep its lock before the backup gives up."""

_SQLITE_BUSY: Final = frozenset({5, 6})

_ADDRESSES: Final[Mapping[str, tuple[str, ...]]] = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
"""Where MLflow's tables name the folder of artifacts."""


def copy_database(path: Path, target: Path) -> None:
    """Copy a database by SQLite's backup interface, in one read transaction; check the copy.

    Args:
        path: The database.
        target: The copy; there is none yet.

    Raises:
        BackupError: It is no database, or damaged.
        BackupUnavailable: A writer kept it locked.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with (
        _errors(path),
        contextlib.closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as source,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()  # begins the transaction
        source.backup(copy)
        source.rollback()
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, whatever the original has
        state = copy.execute("PRAGMA quick_check").fetchone()[0]
    if state != "ok":
        raise BackupError(
            f"The database {path} is damaged: {state}.",
            hint="repair it (sqlite3's .recover), or restore an earlier backup.",
            code=Code.BACKUP_DAMAGED,
        )


def move_addresses(path: Path, old: str, new: str) -> int:
    """Have MLflow's database name another folder of artifacts; return how many places changed.

    Args:
        path: The database; nobody uses it.
        old: The folder that it names.
        new: The folder that it names afterwards.
    """
    n_changed = 0
    with _errors(path), contextlib.closing(sqlite3.connect(path)) as database, database:
        known = {
            (table, column)
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for _, column, *_ in database.execute("SELECT * FROM pragma_table_info(?)", (table,))
        }
        for table, columns in _ADDRESSES.items():
            for column in columns:
                if (table, column) not in known:
                    continue
                for prefix in ("", "file://"):
                    n_changed += database.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608
                        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (
                            f"{prefix}{new}",
                            len(prefix + old) + 1,
                            f"{prefix}{old}",
                            len(prefix + old) + 1,
                            f"{prefix}{old}/",
                        ),
                    ).rowcount
    return n_changed


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _SQLITE_BUSY:
            raise BackupUnavailable(
                f"The database {path} is locked by a writer.", hint="make the backup again."
            ) from error
        raise BackupError(
            f"The database {path} cannot be used: {error}.",
            hint="is it a SQLite database, and whole?",
        ) from error
