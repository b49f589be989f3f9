"""Prefect without a configured server: where its files are, and servers that outlive their run.

Nothing here imports Prefect; these are variables and processes. A configured server is its owner's
business.
"""

from __future__ import annotations

import base64
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psutil

from studyflow.settings import Settings

_SERVER_APP: Final = "prefect.server.api.server:create_app"
"""What the command line of a server that Prefect started for one flow run holds."""


def prefect_environment(
    settings: Settings, environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the variables that let Prefect run embedded, to be set before it is imported.

    Empty where Prefect is configured already. While `studyflow ui` runs, its server is used, so
    that its pages show a study as it runs; else Prefect starts a server for the time of the flow,
    over the same database.
    """
    env = os.environ if environment is None else environment
    if is_prefect_configured(env):
        return {}
    variables = {
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "DO_NOT_TRACK": "true",
    }
    api = running_prefect_api(settings)
    if api is not None:
        variables["PREFECT_API_URL"] = api
    return {name: value for name, value in variables.items() if name not in env}


def is_prefect_configured(environment: Mapping[str, str]) -> bool:
    """Return whether somebody has configured Prefect, by variable or by a profile."""
    profiles = Path(environment.get("HOME", "~")).expanduser() / ".prefect" / "profiles.toml"
    configured = ("PREFECT_API_URL", "PREFECT_PROFILE")
    return any(name in environment for name in configured) or profiles.exists()


def prefect_api_file(settings: Settings) -> Path:
    """Return the file in which `studyflow ui` leaves the addresses of its servers."""
    return settings.home / "prefect" / "server.json"


def prefect_api(settings: Settings, environment: Mapping[str, str] | None = None) -> str | None:
    """Return the address of the Prefect server that flows of this machine would use.

    By variable, by the active profile, or that of `studyflow ui`; `None` where each flow starts a
    server of its own.
    """
    env = os.environ if environment is None else environment
    return env.get("PREFECT_API_URL") or _profile_api(env) or running_prefect_api(settings)


def prefect_headers(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the headers by which Prefect's server lets this user in."""
    env = os.environ if environment is None else environment
    if key := env.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if pair := env.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}


def _profile_api(env: Mapping[str, str]) -> str | None:
    """Return the server that the active Prefect profile names."""
    home = Path(env.get("PREFECT_HOME") or Path(env.get("HOME", "~")).expanduser() / ".prefect")
    try:
        document = tomllib.loads((home / "profiles.toml").read_text())
        active = env.get("PREFECT_PROFILE") or document["active"]
        return str(document["profiles"][active]["PREFECT_API_URL"])
    except (OSError, KeyError, TypeError, tomllib.TOMLDecodeError):
        return None


def running_prefect_api(settings: Settings) -> str | None:
    """Return the address of the Prefect server that `studyflow ui` runs, or `None`."""
    return _announced(settings, "api")


def running_mlflow_pages(settings: Settings) -> str | None:
    """Return the address of the MLflow server that `studyflow ui` runs, or `None`."""
    return _announced(settings, "mlflow")


def _announced(settings: Settings, what: str) -> str | None:
    """Return one of the addresses that `studyflow ui` left, while it runs."""
    try:
        document = json.loads(prefect_api_file(settings).read_text())
        os.kill(int(document["pid"]), 0)
        return str(document[what])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def end_orphaned_servers(settings: Settings) -> int:
    """End the servers of flow runs that were killed, and return how many there were.

    Prefect starts its temporary server as a child and ends it when the flow ends; one whose flow
    was killed would run for ever. Only orphans over this home's database are touched.
    """
    home = str(settings.home / "prefect")
    ended = []
    for process in psutil.process_iter():
        try:
            if (
                _SERVER_APP in process.cmdline()
                and process.environ().get("PREFECT_HOME") == home
                and _is_orphan(process)
            ):
                process.terminate()
                ended.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    for process in psutil.wait_procs(ended, timeout=10)[1]:
        process.kill()
    return len(ended)


def _is_orphan(server: psutil.Process) -> bool:
    """Return whether the Python that started a server is gone: its parent is no Python now."""
    parent = server.parent()
    return parent is None or not any("python" in part for part in parent.cmdline()[:1])
