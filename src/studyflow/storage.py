"""Opens the storage that holds the truth about studies: one file, or a database by URL.

Nothing else in studyflow knows which one it is. Three kinds of URL:

- `journal:///path`: Optuna's journal in one file, the embedded default; see
  `docs/decisions/0001-embedded-storage.md`.
- `sqlite:///path`: one SQLite file.
- `postgresql://…`, `mysql://…`, …: any database that Optuna's `RDBStorage` knows.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import optuna
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from studyflow.errors import MissingExtra, StorageUnavailable, StudyError

if TYPE_CHECKING:
    from io import BufferedRandom

_log = logging.getLogger(__name__)

DEFAULT_FOLDER: Final = ".studyflow"
"""Folder that holds everything embedded: studies, trials' files, MLflow's and Prefect's
databases."""

_JOURNAL: Final = "journal:///"

_DRIVERS: Final = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
}
"""Plain schemes and the driver we install for them: SQLAlchemy 2.0 would look for psycopg2."""


_PASSWORD_ARGUMENT: Final = re.compile(r"([?&][a-z]*(?:password|passwd|pwd)=)[^&#]*", re.IGNORECASE)


def default_storage_url(folder: Path) -> str:
    """Return the URL of the embedded storage in a `.studyflow` folder."""
    return f"{_JOURNAL}{(folder / 'studies.journal').resolve()}"


def redacted(url: str) -> str:
    """Return the URL without its password, for messages and logs."""
    url = _PASSWORD_ARGUMENT.sub(r"\1***", url)
    scheme, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    if not at:
        return url
    user = credentials.partition(":")[0]
    return f"{scheme}{separator}{user}:***@{place}" if ":" in credentials else url


def open_storage(url: str, *, create: bool = True) -> optuna.storages.BaseStorage:
    """Return the storage behind a URL.

    Args:
        url: Where it is.
        create: Make it if it is not there yet. Without it, for who only reads, a file that is not
            there is an empty storage, and nothing is written beside one that is.

    Raises:
        StorageUnavailable: The database does not answer, or the file cannot be opened.
        MissingExtra: The database's driver is not installed.
        StudyError: The URL is none, or the tables are of another version of Optuna.
    """
    if not create and (path := _file_of(url)) is not None and not path.exists():
        return optuna.storages.InMemoryStorage()
    if url.startswith(_JOURNAL):
        return _open_journal(Path(url.removeprefix(_JOURNAL)), is_reader=not create)
    return _open_database(url)


def _file_of(url: str) -> Path | None:
    """Return the file of an embedded storage; `None` for a server."""
    if url.startswith(_JOURNAL):
        return Path(url.removeprefix(_JOURNAL))
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn a database's failure while a study is using it into `StorageUnavailable`."""
    try:
        yield
    except optuna.exceptions.StorageInternalError as error:
        cause = error.__cause__
        reason = _reason(cause if isinstance(cause, Exception) else error)
        raise StorageUnavailable(
            f"The study storage {redacted(url)} failed: {reason}.",
            hint="nothing that was recorded is lost; run the study again when it is back.",
        ) from error


class ProcessLock(JournalFileOpenLock):
    """A lock between processes that the kernel releases when its holder dies.

    Optuna's own journal locks are files: one left by a killed process holds up the next for 30 s.
    Not for network file systems, where `flock` may not reach other machines.

    Args:
        path: Lock file; created beside the journal and never removed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._file: BufferedRandom | None = None

    def acquire(self) -> bool:
        """Wait for the lock, then hold it; always True."""
        file = self._path.open("ab+")
        fcntl.flock(file, fcntl.LOCK_EX)
        self._file = file
        return True

    def release(self) -> None:
        """Let go of the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _open_journal(path: Path, *, is_reader: bool) -> optuna.storages.JournalStorage:
    try:
        lock = ProcessLock(path.with_name(f"{path.name}.lock"))
        if not is_reader:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            try:
                _repair_tail(path)
            finally:
                lock.release()
        return optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except OSError as error:
        raise StorageUnavailable(
            f"Cannot open the study file {path}: {error.strerror}.",
            hint="is the folder writable, and the disk not full?",
        ) from error
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise StorageUnavailable(
            f"The study file {path} is damaged: line {_damaged_line(path)} is not one of Optuna's "
            "operations.",
            hint="mend or remove that line; each line is one operation.",
        ) from error


def _repair_tail(path: Path) -> None:
    """Cut off a last line that a crash left unfinished, keeping a copy of the file as it was.

    Without this the next operation would be written behind the torn one, on the same line, and the
    journal could never be read again.
    """
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        intact = file.read().rfind(b"\n") + 1
        backup = path.with_name(f"{path.name}.torn-{time.time_ns()}")
        shutil.copyfile(path, backup)
        file.truncate(intact)
        _log.warning("The last line of %s was torn; cut it off, copy in %s", path, backup.name)


def _damaged_line(path: Path) -> int:
    """Return the number of the first line that is no operation, from 1; 0 when each one is."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                operation = json.loads(line)
            except ValueError:
                return number
            if not isinstance(operation, dict) or "op_code" not in operation:
                return number
    return 0


def _open_database(url: str) -> optuna.storages.RDBStorage:
    import sqlalchemy

    scheme, separator, rest = url.partition("://")
    full_url = f"{_DRIVERS.get(scheme, scheme)}{separator}{rest}"
    try:
        if scheme == "sqlite" and rest.startswith("/"):
            Path(rest.removeprefix("/")).parent.mkdir(parents=True, exist_ok=True)
        return _create_schema(full_url)
    except ImportError as error:
        if scheme in _DRIVERS:
            raise MissingExtra(f"The storage {redacted(url)}", "postgres") from error
        raise StudyError(f"No driver for the storage {redacted(url)} is installed.") from error
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise StudyError(
            f"The storage {redacted(url)} is not the URL of a database.",
            hint="such as postgresql://user:password@host:5432/studies or sqlite:////path/studies.db.",
        ) from error
    except (
        RuntimeError
    ) as error:  # tables of another version of Optuna; its message says what to do
        raise StudyError(f"The storage {redacted(url)} cannot be used: {error}") from error
    except (sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        raise StorageUnavailable(
            f"The study storage {redacted(url)} does not answer: {_reason(error)}.",
            hint="is the folder writable, and the disk not full?"
            if scheme == "sqlite"
            else "is the server up, and are name, user and password right?",
        ) from error


def _reason(error: Exception) -> str:
    """Return the first line of what the driver said: SQLAlchemy's own adds statements and links."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _create_schema(url: str, attempts: int = 5) -> optuna.storages.RDBStorage:
    """Open the database; several processes that create its tables at once fail, and try again."""
    import sqlalchemy

    options = {} if url.startswith("sqlite") else {"pool_pre_ping": True}
    for attempt in range(attempts):
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs=options)
        except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
            if attempt == attempts - 1:
                raise
            time.sleep(0.2 * (attempt + 1))
    raise AssertionError("unreachable")
