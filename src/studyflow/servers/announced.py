"""The servers that `studyflow ui` runs: it leaves their addresses in a file of the home folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from studyflow.settings import Settings
from studyflow.trial.private_files import make_private_folder, private_opener


def announce(settings: Settings, pid: int, *, prefect_api: str, mlflow: str) -> None:
    """Leave the servers' addresses where runs of this home folder read them.

    Args:
        settings: Name the home folder.
        pid: Process whose end makes the addresses void.
        prefect_api: Address of Prefect's API.
        mlflow: Address of MLflow's pages.
    """
    path = _file(settings.home)
    make_private_folder(path.parent)
    with open(path, "w", opener=private_opener) as file:
        json.dump({"pid": pid, "api": prefect_api, "mlflow": mlflow}, file)


def withdraw(settings: Settings) -> None:
    """Take the addresses back, if there are any."""
    _file(settings.home).unlink(missing_ok=True)


def running_prefect_api(settings: Settings) -> str | None:
    """Return the address of the Prefect server that `studyflow ui` runs, or `None`."""
    return _announced(settings, "api")


def running_mlflow_pages(settings: Settings) -> str | None:
    """Return the address of the MLflow server that `studyflow ui` runs, or `None`."""
    return _announced(settings, "mlflow")


def running_pid(home: Path) -> int | None:
    """Return the process of the `studyflow ui` that serves a home folder, or `None`."""
    return None if (document := _document(home)) is None else int(document["pid"])


def _announced(settings: Settings, what: str) -> str | None:
    """Return one of the addresses that `studyflow ui` left, while it runs."""
    document = _document(settings.home)
    return None if document is None or what not in document else str(document[what])


def _document(home: Path) -> dict[str, Any] | None:
    """Return what `studyflow ui` left in a home folder, while it runs."""
    try:
        document: dict[str, Any] = json.loads(_file(home).read_text())
        os.kill(int(document["pid"]), 0)
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return document


def _file(home: Path) -> Path:
    return home / "prefect" / "server.json"
