"""Reads the platform's file: every mistake in it by line and column, and no study runs past one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any, Final

from pydantic import ValidationError

from studyflow.errors import PlatformError
from studyflow.spec.pods.platform import PLATFORM_VARIABLE, Platform
from studyflow.spec.problems import BrokenRule
from studyflow.spec.reader import SIZE_LIMIT_BYTES, find_problems_in
from studyflow.spec.translation import show_value, translate

PLATFORM_MOUNT: Final = FilePath("/etc/studyflow/platform/platform.yaml")
"""Where the pods of flow runs have the platform's file (k8s/base/pool/flow-run-job.yaml)."""


def platform_path(environment: Mapping[str, str]) -> FilePath | None:
    """Return where the platform's file is; `None` for no file, and so for the defaults.

    What is mounted counts, whatever a variable says: a mount is by whoever runs the cluster, and
    variables of a flow run may be by whoever started it.
    """
    if PLATFORM_MOUNT.exists():
        return PLATFORM_MOUNT
    named = environment.get(PLATFORM_VARIABLE)
    return FilePath(named) if named else None


def read_platform(path: FilePath | None) -> Platform:
    """Return what the platform allows; the defaults without a file.

    Args:
        path: The file; `None` for none. One that is named must be there: a mount that is missing
            must not lift the limits.

    Raises:
        PlatformError: It cannot be read, or is wrong; every problem is in the message.
    """
    if path is None:
        return Platform()
    try:
        with path.open("rb") as file:
            raw = file.read(SIZE_LIMIT_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or NUL in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not UTF-8"
        raise PlatformError(
            f"Cannot read the platform's file {path}: {reason}.",
            hint=f"fix the path in {PLATFORM_VARIABLE}, or the ConfigMap that is mounted there; "
            "no study runs on the cluster without it.",
        ) from error
    platform, problems = find_problems_in(text, path.name, _check)
    if platform is None:
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise PlatformError(
            f"The platform's file {path} has {count}:",
            problems=tuple(str(problem) for problem in problems),
        )
    return platform


def _check(data: Any) -> tuple[Platform | None, tuple[BrokenRule, ...]]:
    if not isinstance(data, dict):
        message = f"the platform's file must be a mapping, but it is {show_value(data)}"
        return None, (BrokenRule((), message, "see docs/platform.md; `{}` sets nothing"),)
    try:
        return Platform.model_validate(data), ()
    except ValidationError as error:
        return None, tuple(translate(error, data, (), Platform))
