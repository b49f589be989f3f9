"""Where results come from: versions of what is installed, the commit, the user."""

from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import os
import platform
import re
import subprocess
from typing import Final

GIT_SECONDS: Final = 2
"""Longest wait for git to name the commit."""

_DISTRIBUTIONS: Final = (
    "studyflow", "optuna", "botorch", "torch", "prefect", "mlflow", "mlflow-skinny", "kubernetes",
)  # fmt: skip


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that shape results."""
    versions = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def git_commit() -> str | None:
    """Return the commit of the working folder; `None` where git knows of none."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--verify", "HEAD"],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    commit = head.stdout.strip()
    is_commit = head.returncode == 0 and re.fullmatch(r"[0-9a-f]{40,64}", commit) is not None
    return commit if is_commit else None


def user_name() -> str:
    """Return the name of the user that this process runs as, or the number of a nameless one."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user id without a name
        return f"uid-{os.getuid()}"
