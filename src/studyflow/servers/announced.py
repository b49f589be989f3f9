"""The servers that `studyflow ui` runs: it leaves their addresses in a file of the home folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

from studyflow.settings import Settings


def announce(settings: Settings, pid: int, *, prefect_api: str, mlflow: str) -> None:
    """Leave the servers' addresses where runs of this home folder read them.

    Args:
        settings: Name the home folder.
        pid: Process whose end makes the addresses void.
        prefect_api: Address of Prefect's API.
        mlflow: Address of MLflow's pages.
    """
    path = _file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"pid": pid, "api": prefect_api, "mlflow": mlflow}))


def withdraw(settings: Settings) -> None:
    """Take the addresses back, if there are any."""
    _file(settings).unlink(missing_ok=True)


def running_prefect_api(settings: Settings) -> str | None:
    """Return the address of the Prefect server that `studyflow ui` runs, or `None`."""
    return _announced(settings, "api")


def running_mlflow_pages(settings: Settings) -> str | None:
    """Return the address of the MLflow server that `studyflow ui` runs, or `None`."""
    return _announced(settings, "mlflow")


def _announced(settings: Settings, what: str) -> str | None:
    """Return one of the addresses that `studyflow ui` left, while it runs."""
    try:
        document = json.loads(_file(settings).read_text())
        os.kill(int(document["pid"]), 0)
        return str(document[what])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def _file(settings: Settings) -> Path:
    return settings.home / "prefect" / "server.json"
