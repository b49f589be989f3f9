"""The variables that Prefect reads when it is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from studyflow.servers.prefect import is_prefect_configured, prefect_environment
from studyflow.settings import Settings
from studyflow.trial.private_files import make_private_folder, tighten_home


def prepare_prefect(settings: Settings) -> None:
    """Have Prefect keep its files in the home folder, where no server is configured.

    Raises:
        OSError: Its folder cannot be made; its server would find no database.
    """
    variables = prefect_environment(settings)
    os.environ.update(variables)
    if "PREFECT_HOME" in variables:
        make_private_folder(settings.home)
        make_private_folder(Path(variables["PREFECT_HOME"]))
        tighten_home(settings.home)


def is_embedded(settings: Settings, environment: Mapping[str, str] | None = None) -> bool:
    """Return whether Prefect runs without a server that somebody configured.

    The server of `studyflow ui` counts as none: it is over the database in the home folder.
    """
    env = os.environ if environment is None else environment
    is_at_home = env.get("PREFECT_HOME") == str(settings.home / "prefect")
    return is_at_home or not is_prefect_configured(env)


def quiet_console() -> None:
    """Keep Prefect's log lines out of a terminal that shows the live view; its page has them."""
    if sys.stderr.isatty():
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")
