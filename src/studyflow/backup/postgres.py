"""A PostgreSQL database as `pg_dump` writes it, and the way back in one transaction.

`pg_dump` reads one snapshot, so whoever works on the database goes on. The way back is a script for
`psql`, in one transaction together with the removal of what was there: it succeeds as a whole or
changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from studyflow.errors import BackupError, BackupUnavailable, MissingExtra
from studyflow.storage import redacted

if TYPE_CHECKING:
    import psycopg

INSTALLED: Final = Path("/usr/lib/postgresql")
"""Where Debian has the programs of each version."""

LOCK_SECONDS: Final = 10
"""How long the removal of the old tables waits for whoever still uses them."""

_NEWER_SETTING: Final = re.compile(rb"SET transaction_timeout = 0;\s*")
"""A line of the header that servers before 17 refuse."""
_HEADER_LINES: Final = 60

_TABLES: Final = """
SELECT format('%I.%I', n.nspname, c.relname), c.relkind::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
  AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.objid = c.oid
    AND (d.deptype = 'e' OR (c.relkind = 'S' AND d.deptype IN ('a', 'i')))
  )
UNION ALL
SELECT format('%I.%I', n.nspname, t.typname), 'type'
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname = 'public' AND t.typtype IN ('e', 'd')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e')
UNION ALL
SELECT format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
       CASE p.prokind WHEN 'a' THEN 'aggregate' ELSE 'routine' END
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'public'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
ORDER BY 1
"""

_OTHERS: Final = """
SELECT count(*), string_agg(DISTINCT coalesce(host(client_addr), 'this machine'), ', ')
FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
"""

_PAUSES_SECONDS: Final = (0.1, 0.2, 0.4, 0.8, 0.0)
"""Between looks at sessions that may just be ending."""

_DROPS: Final[Mapping[str, str]] = {
    "r": "TABLE",
    "p": "TABLE",
    "v": "VIEW",
    "m": "MATERIALIZED VIEW",
    "S": "SEQUENCE",
    "aggregate": "AGGREGATE",
    "routine": "ROUTINE",
    "type": "TYPE",
}


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a database."""

    server: int
    """The server's major version."""
    objects: tuple[tuple[str, str], ...]
    """Tables, views, sequences, functions and types of the schema `public`, with their kinds."""

    @property
    def is_empty(self) -> bool:
        """Whether there is no table."""
        return not self.objects


def look(url: str) -> Contents:
    """Return what is in a database.

    Raises:
        BackupUnavailable: The server does not answer or does not let us in.
        MissingExtra: The driver is not installed.
    """
    with _connected(url) as connection:
        server = connection.info.server_version // 10000
        objects = connection.execute(_TABLES).fetchall()
    return Contents(server, tuple((str(n), str(k)) for n, k in objects))


def other_sessions(url: str) -> tuple[int, str]:
    """Return how many sessions the same user has on a database, and where they come from.

    The server lists a session for a moment after its client has closed it, so it is asked again.

    Raises:
        BackupUnavailable: The server does not answer or does not let us in.
        MissingExtra: The driver is not installed.
    """
    with _connected(url) as connection:
        for pause_seconds in _PAUSES_SECONDS:
            n_sessions, clients = connection.execute(_OTHERS).fetchone() or (0, None)
            if not n_sessions:
                break
            time.sleep(pause_seconds)
    return int(n_sessions), str(clients or "")


def dump(url: str, target: Path) -> str:
    """Write a database's dump, and return which `pg_dump` did.

    Args:
        url: Of the database.
        target: The file; written anew.

    Raises:
        BackupError: The database is empty, there is no `pg_dump` for its server here, or it failed.
        BackupUnavailable: The server does not answer.
    """
    contents = look(url)
    if contents.is_empty:
        raise BackupError(f"{redacted(url)} holds no table.", hint="is it the right database?")
    program = _program("pg_dump", contents.server, url)
    _run(
        [
            *(program.path, "--format=custom", "--no-owner", "--no-privileges", "--no-comments"),
            *("--no-publications", "--no-subscriptions", "--file", str(target)),
        ],
        url,
    )
    return f"pg_dump {program.version}"


def load(url: str, dumped: Path, script: Path) -> None:
    """Put a dump's content in place of what a database holds, in one transaction.

    Args:
        url: Of the database; nobody else works on it.
        dumped: What `dump` wrote.
        script: Where the statements are written meanwhile.

    Raises:
        BackupError: There are no programs for this server here, or they failed; the database is as
            it was.
        BackupUnavailable: The server does not answer.
    """
    contents = look(url)
    program = _program("pg_restore", contents.server, url)
    text = script.with_name(f"{script.name}.text")
    # No --dbname: it only turns the dump into statements.
    _run(
        [program.path, "--no-owner", "--no-privileges", "--no-comments", "-f", str(text), dumped],
        None,
    )
    script.write_text("\n".join(removal(contents.objects)) + "\n")
    with text.open("rb") as source, script.open("ab") as target:
        for number, line in enumerate(source):
            is_refused = number < _HEADER_LINES and _NEWER_SETTING.fullmatch(line)
            if not (is_refused and contents.server < 17):
                target.write(line)
    text.unlink()
    psql = _program("psql", contents.server, url)
    _run(
        [
            *(psql.path, "--no-psqlrc", "--quiet", "--output", os.devnull, "--single-transaction"),
            *("--set", "ON_ERROR_STOP=1", "--file", str(script)),
        ],
        url,
    )


def removal(objects: Sequence[tuple[str, str]]) -> list[str]:
    """Return the statements that remove what a database holds.

    Args:
        objects: Their quoted names and kinds, as `Contents` has them.
    """
    order = list(_DROPS)
    return [
        "SET LOCAL client_min_messages = warning;",  # the first line that psql prints is an error
        f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s';",
        *(
            f"DROP {_DROPS[kind]} IF EXISTS {name} CASCADE;"
            for name, kind in sorted(objects, key=lambda found: order.index(found[1]))
        ),
    ]


@dataclass(frozen=True, slots=True)
class Program:
    """One of PostgreSQL's programs on this machine."""

    path: str
    version: str


def newest(found: Mapping[str, str]) -> Program | None:
    """Return the program of the highest version.

    Args:
        found: What each program says of its version, by path; others are passed over.
    """
    known = [
        (tuple(map(int, match[1].split("."))), Program(path, match[1]))
        for path, text in found.items()
        if (match := re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)*)", text))
    ]
    return max(known, key=lambda pair: pair[0])[1] if known else None


def _program(name: str, server: int, url: str) -> Program:
    """Return a program that understands a server.

    Raises:
        BackupError: There is none here.
    """
    places = [str(path) for path in INSTALLED.glob(f"*/bin/{name}")]
    on_path = shutil.which(name)
    places += [on_path] if on_path else []
    program = newest({place: _version_of(place) for place in places})
    hint = (
        f"install the client programs of version {server} or later: Debian's package "
        "postgresql-client; the orchestrator's image has them."
    )
    if program is None:
        raise BackupError(
            f"{redacted(url)} needs {name}, and there is none on this machine.", hint=hint
        )
    if int(program.version.split(".")[0]) < server:
        raise BackupError(
            f"{redacted(url)} is PostgreSQL {server}, and {name} here is {program.version}: an "
            "older client cannot read a newer server.",
            hint=hint,
        )
    return program


def _version_of(path: str) -> str:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout


def _run(command: Sequence[str | Path], url: str | None) -> None:
    """Run one of PostgreSQL's programs.

    Args:
        command: The program and its arguments; no password is among them.
        url: The database that it connects to; `None` for none.

    Raises:
        BackupError: It failed.
    """
    environment = {**os.environ, "LC_MESSAGES": "C"}
    arguments = [str(word) for word in command]
    if url is not None:
        address, password = without_password(url)
        arguments += ["--dbname", address]
        if password is not None:
            environment["PGPASSWORD"] = password
    done = subprocess.run(
        arguments,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return
    name = Path(arguments[0]).name
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    raise BackupError(
        f"{name} failed{'' if url is None else f' on {redacted(url)}'}: {lines[0]}.",
        hint="is the disk full, or a right missing? What was there is as it was.",
    )


def without_password(url: str) -> tuple[str, str | None]:
    """Return a database's URL without its password, for a command line, and the password."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name, colon, password = user.partition(":")
    address = urlunsplit(parts._replace(netloc=f"{name}{at}{host}"))
    return address, unquote(password) if colon else None


@contextlib.contextmanager
def _connected(url: str) -> Iterator[psycopg.Connection[Any]]:
    try:
        import psycopg
    except ImportError as error:
        raise MissingExtra(f"The backup of {redacted(url)}", "postgres") from error
    try:
        with psycopg.connect(url, connect_timeout=10, autocommit=True) as connection:
            yield connection
    except psycopg.Error as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BackupUnavailable(
            f"{redacted(url)} does not answer: {lines[0].rstrip('.')}.",
            hint="is the server up, is there such a database (an empty one will do), and are name, "
            "user and password right?",
        ) from error
