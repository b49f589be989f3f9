"""What a storage's URL says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

DEFAULT_FOLDER: Final = ".studyflow"
"""Folder that holds everything embedded: studies, trials' files, MLflow's and Prefect's
databases."""

JOURNAL: Final = "journal:///"
SQLITE: Final = "sqlite:///"

_PASSWORD_ARGUMENT: Final = re.compile(r"([?&][a-z]*(?:password|passwd|pwd)=)[^&#]*", re.IGNORECASE)


def default_storage_url(folder: Path) -> str:
    """Return the URL of the embedded storage in a `.studyflow` folder."""
    return f"{JOURNAL}{(folder / 'studies.journal').resolve()}"


def file_of(url: str) -> Path | None:
    """Return the file of an embedded storage; `None` for a server."""
    for scheme in (JOURNAL, SQLITE):
        if url.startswith(scheme):
            return Path(url.removeprefix(scheme))
    return None


def unverified_host(url: str, environment: Mapping[str, str]) -> str | None:
    """Return the host of a PostgreSQL server elsewhere that need not prove who it is; else `None`.

    Elsewhere is not this machine, and no service of the own cluster, whose name has no dot or ends
    in `.svc`.

    Args:
        url: Of any database.
        environment: May name libpq's `PGSSLMODE`.
    """
    parts = urlsplit(url)
    if not parts.scheme.startswith("postgres"):
        return None
    arguments = parse_qs(parts.query)
    given = arguments.get("sslmode") or arguments.get("ssl") or [environment.get("PGSSLMODE", "")]
    if given[-1] == "verify-full":
        return None
    hosts = [name for names in arguments.get("host", ()) for name in names.split(",")]
    if not hosts:
        # Several hosts stand in a row, each with its port.
        hosts = [_without_port(host) for host in parts.netloc.rpartition("@")[2].split(",")]
    return next((host for host in hosts if not _is_near(host)), None)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_near(host: str) -> bool:
    """Return whether a host is this machine, or a service of the own cluster."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        in_cluster = host.endswith((".svc", ".svc.cluster.local"))
        return "." not in host or host.startswith(("/", "@")) or in_cluster


def redacted(url: str) -> str:
    """Return the URL without its password, for messages and logs."""
    url = _PASSWORD_ARGUMENT.sub(r"\1***", url)
    scheme, separator, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    if not at:
        return url
    user = credentials.partition(":")[0]
    return f"{scheme}{separator}{user}:***@{host}" if ":" in credentials else url
