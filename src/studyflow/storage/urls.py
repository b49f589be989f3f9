"""What a storage's URL says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

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


def redacted(url: str) -> str:
    """Return the URL without its password, for messages and logs."""
    url = _PASSWORD_ARGUMENT.sub(r"\1***", url)
    scheme, separator, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    if not at:
        return url
    user = credentials.partition(":")[0]
    return f"{scheme}{separator}{user}:***@{host}" if ":" in credentials else url
