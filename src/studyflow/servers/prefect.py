"""Which Prefect server flows of this machine use, by variables and files: Prefect is not imported.

Where none is configured, Prefect runs embedded over a database in the home folder. A configured
server is its owner's business.
"""

from __future__ import annotations

import base64
import json
import os
import tomllib
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from studyflow.servers.announced import running_prefect_api
from studyflow.settings import Settings

ANSWER_SECONDS: Final = 3.0
"""How long a request may take: less than a probe is waited for, so that its own reason is told."""


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


def ask(
    api: str,
    path: str,
    body: Any = None,
    *,
    environment: Mapping[str, str] | None = None,
    timeout: float = ANSWER_SECONDS,
) -> bytes:
    """Return what Prefect's server answers.

    Args:
        api: Address of Prefect's API.
        path: What is asked for, such as `health`.
        body: What is sent, as JSON values; `None` for nothing.
        environment: Variables that say how this user is let in; this process's by default.
        timeout: Seconds that the server may take.

    Raises:
        OSError: The server does not answer, or refuses.
        ValueError: The address is none.
    """
    headers = prefect_headers(environment)
    if body is not None:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(
        f"{api.rstrip('/')}/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers=headers,
    )
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        found: bytes = answer.read()
        return found


def _profile_api(env: Mapping[str, str]) -> str | None:
    """Return the server that the active Prefect profile names."""
    home = Path(env.get("PREFECT_HOME") or Path(env.get("HOME", "~")).expanduser() / ".prefect")
    try:
        document = tomllib.loads((home / "profiles.toml").read_text())
        active = env.get("PREFECT_PROFILE") or document["active"]
        return str(document["profiles"][active]["PREFECT_API_URL"])
    except (OSError, KeyError, TypeError, tomllib.TOMLDecodeError):
        return None
