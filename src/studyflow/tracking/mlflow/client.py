"""The connection to one MLflow: its addresses, its client, and its errors as this package's.

Only MLflow's low-level client is used: no active run, no global tracking URI. So a tracker
disturbs nothing else in its process and works from any thread. MLflow is imported on first use,
because that takes one to two seconds.

Defaults of MLflow are changed for this process and can be set back by MLflow's own environment
variables: a request is tried twice with 10 seconds each, whatever `Retry-After` says (MLflow's own
defaults keep a caller waiting for minutes), run links and progress are not printed, and telemetry
is off. All but the last are changed inside MLflow, not in the environment, so trial processes do
not inherit them.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
import urllib.parse
import warnings
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Final

from studyflow.errors import MissingExtra, StudyflowError, TrackingError, TrackingUnavailable
from studyflow.reasons import Code
from studyflow.trial.private_files import make_private_folder, private_opener, tighten

_log = logging.getLogger(__name__)

REQUEST_TIMEOUT_SECONDS: Final = 10
REQUEST_RETRIES: Final = 1
CONNECT_ATTEMPTS: Final = 5
"""When two processes create the tables of one database at once, one fails and finds them later."""
ERROR_LIMIT_CHARS: Final = 1000
"""Longest text that is passed on of an error of MLflow's."""

ALREADY_EXISTS: Final = frozenset({"RESOURCE_ALREADY_EXISTS"})
"""MLflow's error code for what somebody has created already."""
NOT_FOUND: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})
"""MLflow's error codes for what does not exist."""

_SQLITE: Final = "sqlite:///"
_OUTAGES_OF_SQLALCHEMY: Final = frozenset({"OperationalError", "TimeoutError", "InterfaceError"})
_OBJECT_STORES: Final = frozenset({"botocore", "boto3", "google", "azure"})
"""Packages that reach artifact stores; each has its own classes for lost connections."""


# Addresses


def embedded_uri(folder: Path) -> str:
    """Return the tracking URI of an MLflow database in `folder`: absolute, so it holds anywhere.

    Artifacts go to `folder/mlartifacts`.

    Raises:
        TrackingError: The path holds a question mark, where a database's address would end.
    """
    path = str(folder.absolute() / "mlflow.db")
    if "?" in path:
        raise TrackingError(
            f"A folder for MLflow's database must not hold a question mark: {path}",
            hint="rename the folder or name another one.",
        )
    return _SQLITE + path


def artifact_folder(uri: str) -> Path | None:
    """Return the folder on this machine where an embedded MLflow keeps artifacts.

    It need not exist yet. `None` where a server, or another database's settings, decide.
    """
    database = _sqlite_path(uri)
    return None if database is None else database.parent / "mlartifacts"


def is_http(uri: str) -> bool:
    """Return whether a tracking URI is a server's."""
    return uri.startswith(("http://", "https://"))


def without_credentials(uri: str) -> str:
    """Return an address without user name and password."""
    parts = urllib.parse.urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _sqlite_path(uri: str) -> Path | None:
    path = uri.removeprefix(_SQLITE).partition("?")[0]
    return Path(path) if uri.startswith(_SQLITE) and path not in ("", ":memory:") else None


# The client


class Connection:
    """MLflow's client on one tracking URI. Nothing is contacted before the first use.

    Several threads may use it at once.

    Args:
        uri: Tracking URI: `http(s)://...`, or a database such as `embedded_uri` names.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._lock = threading.Lock()
        self._connected: Any = None

    @property
    def uri(self) -> str:
        """Tracking URI as this process reaches it."""
        return self._uri

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        """Give MLflow's client to a `with` block, and translate what is raised there.

        Raises:
            MissingExtra: MLflow is not installed.
            TrackingUnavailable: MLflow or its artifact store does not answer in time.
            TrackingError: MLflow refuses.
        """
        try:
            with self._lock:
                if self._connected is None:
                    self._connected = connect(self._uri)
                client = self._connected
            yield client
        except StudyflowError:
            raise
        except Exception as error:
            raise translate(error, self._uri) from error

    def artifacts(self, store: str) -> Any:
        """Return MLflow's access to the artifacts at an address; for use within `client`."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(store, tracking_uri=self._uri)

    def close(self) -> None:
        """Forget the client; the next use connects again."""
        with self._lock:
            self._connected = None


def check_server(uri: str) -> None:
    """Return if MLflow answers at `uri` and lets this user read.

    Raises:
        MissingExtra: MLflow is not installed.
        TrackingUnavailable: It does not answer in time.
        TrackingError: It refuses.
    """
    with Connection(uri).client() as client:
        client.search_experiments(max_results=1)


def connect(uri: str) -> Any:
    """Return MLflow's client on `uri`; a database is created when there is none.

    Raises:
        MissingExtra: MLflow is not installed.
        TrackingError: The database was written by another version of MLflow.
    """
    # MLflow starts its telemetry on import; only this variable prevents that.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mlflow import MlflowClient
    except ImportError as error:
        raise MissingExtra("The MLflow tracker", "mlflow") from error
    _change_defaults()
    if is_http(uri):
        return MlflowClient(uri)
    try:
        return _open_database(uri, MlflowClient)
    except _database_errors() as error:
        if not _has_another_schema(uri):
            raise
        where = without_credentials(uri)
        raise TrackingError(
            f"MLflow's database at {where} was written by another version of MLflow.",
            hint=f"back it up, then run: mlflow db upgrade {where}",
            code=Code.SCHEMA_OUTDATED,
        ) from error


def _change_defaults() -> None:
    import mlflow.environment_variables as settings

    for variable, value in (
        (settings.MLFLOW_HTTP_REQUEST_TIMEOUT, REQUEST_TIMEOUT_SECONDS),
        (settings.MLFLOW_HTTP_REQUEST_MAX_RETRIES, REQUEST_RETRIES),
        (settings.MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR, 1),
        # A server may ask a client to wait for an hour; how long to wait is decided here.
        (settings.MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER, False),
        (settings.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT, True),
        (settings.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR, False),
    ):
        variable.default = value
    for name, level in (
        ("alembic", logging.WARNING),  # one line for each of sixty migrations
        ("mlflow.store.db.utils", logging.CRITICAL),  # tracebacks of errors that it raises too
        ("urllib3.connectionpool", logging.ERROR),  # a line for each retry
    ):
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(level)


def _open_database(uri: str, client: Callable[[str], Any]) -> Any:
    database = _sqlite_path(uri)
    if database is None:
        return client(uri)
    make_private_folder(database.parent)
    with _creation_lock(database):
        _create_database(database, client)
        for attempt in range(CONNECT_ATTEMPTS - 1):
            try:
                return client(uri)
            except _database_errors() as error:
                _log.debug("MLflow's database is not ready yet: %s", error)
                time.sleep(0.2 * 2**attempt)
        return client(uri)


def _database_errors() -> tuple[type[Exception], ...]:
    """Return what MLflow raises when it opens a database."""
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, CommandError, OSError


def _has_another_schema(uri: str) -> bool:
    """Return whether a database's tables are of another version than the installed MLflow's.

    MLflow's own error for this has no code of its own, so both versions are read here.
    """
    import mlflow
    import sqlalchemy
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    scripts = Path(mlflow.__file__).parent / "store" / "db_migrations"
    try:
        engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
        with engine.connect() as opened:
            current = MigrationContext.configure(opened).get_current_revision()
        newest = ScriptDirectory(str(scripts)).get_current_head()
        return current is not None and current != newest
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, OSError):
        return False  # something else is wrong, and the error at hand says what


def _create_database(database: Path, client: Callable[[str], Any]) -> None:
    """Make MLflow's database under another name first, if there is none.

    MLflow creates its tables in many steps and cannot go on from the middle: a process that is
    interrupted there would leave a database that nobody can ever use.
    """
    if database.exists() and database.stat().st_size:
        return
    part = database.absolute().with_name(f".{database.name}.{os.getpid()}.part")
    try:
        client(f"{_SQLITE}{part}")
        tighten(part, levels=0)
        with contextlib.suppress(FileExistsError):  # a server has made it meanwhile
            if database.exists() and not database.stat().st_size:
                database.unlink()
            os.link(part, database)
    except OSError:  # no links here: MLflow makes it in place
        pass
    finally:
        for left in (
            part,
            *(part.with_name(part.name + end) for end in ("-journal", "-wal", "-shm")),
        ):
            left.unlink(missing_ok=True)


@contextlib.contextmanager
def _creation_lock(database: Path) -> Iterator[None]:
    """Keep other trackers from creating the same tables; other programs are met by retrying."""
    lock = database.with_name(database.name + ".lock")
    with open(lock, "a", opener=private_opener) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# Errors


class Accepting:
    """A `with` block in which MLflow may refuse with some codes: the block ends there.

    Args:
        codes: MLflow's error codes, such as `RESOURCE_DOES_NOT_EXIST`.
    """

    def __init__(self, codes: Collection[str]) -> None:
        self._codes = codes

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        """Return whether the error, if any, is one that may be raised."""
        return error is not None and _error_code(error) in self._codes


def _error_code(error: BaseException) -> str:
    """Return MLflow's code of an error; empty without one."""
    return str(getattr(error, "error_code", ""))


def translate(error: Exception, uri: str) -> TrackingError:
    """Return this package's error for one of MLflow or of a library below it.

    Args:
        error: What was raised.
        uri: Tracking URI; its credentials are taken out of the message.
    """
    where = without_credentials(uri)
    text = " ".join(str(getattr(error, "message", None) or error).split())
    text = text.replace(uri, where)[:ERROR_LIMIT_CHARS]
    kind = type(error).__name__
    status = _http_status(error)
    if status is not None and (status == 429 or (status >= 500 and status != 501)):
        return TrackingUnavailable(f"MLflow at {where} does not answer: {text}")
    if status is None and _is_outage(error):
        return TrackingUnavailable(f"MLflow at {where} does not answer: {kind}: {text}")
    hint = None
    if status == 403:
        hint = "does the server's --allowed-hosts name this host, and may this user write?"
    elif status == 401:
        hint = (
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
        )
    return TrackingError(f"MLflow at {where} refused: {kind}: {text}", hint=hint)


def _http_status(error: Exception) -> int | None:
    if type(error).__name__ == "InvalidUrlException":
        return 400
    if hasattr(error, "get_http_status_code"):
        return int(error.get_http_status_code())
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


def _is_outage(error: Exception) -> bool:
    """Return whether an error without an HTTP status means that nothing answered."""
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    # By name: none of these packages need be installed.
    package, name = type(error).__module__.partition(".")[0], type(error).__name__
    if package in ("requests", "urllib3"):
        return True
    if package == "sqlalchemy":
        return name in _OUTAGES_OF_SQLALCHEMY
    return package in _OBJECT_STORES and ("Connect" in name or "Timeout" in name)
