"""Opens a storage by its URL, and tells a database's passing failures from lasting ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import optuna

from studyflow.errors import MissingExtra, StorageUnavailable, StudyError
from studyflow.storage import postgres_writes
from studyflow.storage.journal import open_journal
from studyflow.storage.network_files import refuse_network_file
from studyflow.storage.urls import JOURNAL, file_of, redacted

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine, ExceptionContext

_DRIVERS: Final = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
}
"""Plain schemes and the driver we install for them: SQLAlchemy 2.0 would look for psycopg2."""

MAX_CONNECTIONS: Final = 4
"""Connections of one runner to its database: one for each thread that reads or writes the study
(the loop, and the two that bring MLflow up to date), and one to spare."""

_NOTICED_IN_TIME: Final = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""Arguments of libpq by which a database's machine that vanished is noticed within a minute;
by default the kernel waits for two hours."""


@dataclass(frozen=True, slots=True)
class TransactionLimits:
    """How long a transaction may hold up others: its client may be stopped, or asleep."""

    lock_seconds: float = 10.0
    """How long a statement waits for a lock before it fails, to be repeated. Far longer than any
    transaction of ours; a runner that waits says why, and can be told to end."""
    idle_seconds: float = 60.0
    """How long a transaction may wait for its client's next statement before the database undoes
    it. Optuna makes its trials inside one: on a slow machine 100,000 of them take 45 seconds."""


_PASSING_SQLSTATES: Final = (
    "08",  # connection
    "25P03",  # the transaction was idle for too long, and is undone
    "40001",  # serialization failure
    "40P01",  # deadlock
    "55P03",  # lock not available
    "57014",  # statement timeout
    "57P01",  # the server shuts down
    "57P02",  # the server crashed
    "57P03",  # the server starts up
    "53",  # no memory, disk or connection left
    "58030",  # input/output error
    "25006",  # read-only: this server was the primary a moment ago
)
_PASSING_MYSQL_CODES: Final = frozenset({1040, 1053, 1205, 1213, 1290, 2002, 2003, 2006, 2013})
_PASSING_SQLITE_CODES: Final = frozenset({5, 6, 10, 13})
"""Busy, locked, input/output error, full."""


def quiet_optuna() -> None:
    """Keep Optuna from logging every trial: our own log tells it already, and says more."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(
    url: str, *, create: bool = True, limits: TransactionLimits = TransactionLimits()
) -> optuna.storages.BaseStorage:
    """Return the storage behind a URL.

    Args:
        url: Where it is.
        create: Make it if it is not there yet. Without it, for commands that only read, a file
            that is not there is an empty storage, and nothing is written beside one that is.
        limits: Of each transaction, where it is PostgreSQL, MySQL or MariaDB.

    Raises:
        StorageUnavailable: The database does not answer, or the file cannot be opened.
        MissingExtra: The database's driver is not installed.
        StudyError: The URL is none, the tables are of another version of Optuna, or the file is on
            a network share.
    """
    path = file_of(url)
    if path is not None and create:
        refuse_network_file(path)
    if path is not None and not create and not path.exists():
        return optuna.storages.InMemoryStorage()
    if path is not None and url.startswith(JOURNAL):
        return open_journal(path, is_reader=not create)
    return _open_database(url, limits)


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn a database's failure while a study is using it into `StorageUnavailable`.

    Args:
        url: Where the storage is; shown without its password.

    Raises:
        StorageUnavailable: The database failed.
    """
    try:
        yield
    except optuna.exceptions.StorageInternalError as error:
        cause = error.__cause__
        reason = _reason(cause if isinstance(cause, Exception) else error)
        raise _unavailable(url, reason) from error


def _unavailable(url: str, reason: str) -> StorageUnavailable:
    return StorageUnavailable(
        f"The study storage {redacted(url)} failed: {reason}.",
        hint="nothing that was recorded is lost; run the study again when it is back.",
    )


def _open_database(url: str, limits: TransactionLimits) -> optuna.storages.RDBStorage:
    import sqlalchemy

    scheme, separator, rest = url.partition("://")
    full_url = f"{_DRIVERS.get(scheme, scheme)}{separator}{rest}"
    try:
        if scheme == "sqlite" and rest.startswith("/"):
            Path(rest.removeprefix("/")).parent.mkdir(parents=True, exist_ok=True)
        storage = _create_schema(full_url)
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
    _name_passing_errors(storage, url)
    _limit_transactions(storage.engine, url, limits)
    return storage


def _limit_transactions(engine: Engine, url: str, limits: TransactionLimits) -> None:
    """Have no transaction wait, or hold up others, without bound.

    PostgreSQL is told in each transaction: a pooler in front of it may refuse parameters of a
    connection, or give each transaction another one. Optuna's transactions cost one round trip more
    for it, our own none. What the URL itself says is left as it is.
    """
    import sqlalchemy

    statement = _limits_of_transaction(url, limits)
    if engine.dialect.name == "postgresql" and statement is not None:
        engine.update_execution_options(**{postgres_writes.LIMITS: statement})

        @sqlalchemy.event.listens_for(engine, "begin")
        def tell(connection: Connection) -> None:
            if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
                connection.exec_driver_sql(statement)

    if engine.dialect.name in ("mysql", "mariadb"):

        @sqlalchemy.event.listens_for(engine, "connect")
        def tell_mysql(connection: Any, _record: Any) -> None:
            cursor = connection.cursor()
            for name, seconds in _mysql_limits(limits):
                cursor.execute(f"SET SESSION {name} = {seconds}")
            cursor.close()


def _limits_of_transaction(url: str, limits: TransactionLimits) -> str | None:
    """Return the statement that limits one transaction of PostgreSQL; `None` without any."""
    given = " ".join(parse_qs(urlsplit(url).query).get("options", ()))
    wanted = {
        "lock_timeout": limits.lock_seconds,
        "idle_in_transaction_session_timeout": limits.idle_seconds,
    }
    calls = [
        f"set_config('{name}', '{max(round(1000 * seconds), 1)}', true)"
        for name, seconds in wanted.items()
        if name not in given
    ]
    return f"SELECT {', '.join(calls)}" if calls else None


def _mysql_limits(limits: TransactionLimits) -> tuple[tuple[str, int], ...]:
    """Return MySQL's variables, in whole seconds; an idle connection is closed, and opened anew."""
    return (
        ("innodb_lock_wait_timeout", max(round(limits.lock_seconds), 1)),
        ("wait_timeout", max(round(limits.idle_seconds), 1)),
    )


def _name_passing_errors(storage: optuna.storages.RDBStorage, url: str) -> None:
    """Have errors that may pass raised as `StorageUnavailable`.

    Raised inside the transaction, so that Optuna does not repeat what may be committed already: it
    would make a trial twice.
    """
    import sqlalchemy

    @sqlalchemy.event.listens_for(storage.engine, "handle_error")
    def translate(context: ExceptionContext) -> StorageUnavailable | None:
        if context.is_pre_ping or not _is_passing(context):
            return None
        assert isinstance(context.original_exception, Exception)
        return _unavailable(url, _reason(context.original_exception))


def _is_passing(context: ExceptionContext) -> bool:
    """Return whether the same statement may succeed later."""
    if context.sqlalchemy_exception is None:
        return False  # not the driver's: a bug, or Ctrl-C
    if context.is_disconnect or context.connection is None:
        return True
    error = context.original_exception
    state = getattr(error, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_PASSING_SQLSTATES)
    sqlite_code = getattr(error, "sqlite_errorcode", None)
    if sqlite_code is not None:
        return sqlite_code & 0xFF in _PASSING_SQLITE_CODES  # the rest tells kinds of one code apart
    return bool(error.args) and error.args[0] in _PASSING_MYSQL_CODES


def _reason(error: Exception) -> str:
    """Return the first line of what the driver said: SQLAlchemy's own adds statements and links."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _create_schema(url: str, attempts: int = 5) -> optuna.storages.RDBStorage:
    """Open the database; several processes that create its tables at once fail, and try again."""
    import sqlalchemy

    options = _engine_options(url)
    for attempt in range(attempts):
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs=options)
        except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
            if attempt == attempts - 1:
                raise
            time.sleep(0.2 * (attempt + 1))
    raise AssertionError("unreachable")


def _engine_options(url: str) -> dict[str, Any]:
    """Return SQLAlchemy's options; what the URL itself says is left as it is."""
    if url.startswith("sqlite"):
        return {}
    options: dict[str, Any] = {
        "pool_pre_ping": True,
        "pool_size": MAX_CONNECTIONS,
        "max_overflow": 0,
    }
    if url.startswith("postgresql+psycopg:"):
        given = parse_qs(urlsplit(url).query)
        options["connect_args"] = {k: v for k, v in _NOTICED_IN_TIME.items() if k not in given}
    return options
