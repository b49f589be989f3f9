"""Names of archives in a folder of backups, and which of them are old enough to go."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final

_NAME: Final = re.compile(r"studyflow-\d{8}T\d{6}Z\.tar\.gz")


def archive_name(now: datetime) -> str:
    """Return the name of an archive that is made now; names sort by time.

    Args:
        now: In UTC.
    """
    return f"studyflow-{now:%Y%m%dT%H%M%SZ}.tar.gz"


def outdated(names: Iterable[str], keep: int) -> list[str]:
    """Return which archives of a folder go, so that the newest stay; other files never go.

    Args:
        names: What the folder holds.
        keep: How many archives stay, at least 1.
    """
    archives = sorted(name for name in names if _NAME.fullmatch(name))
    return archives[: max(len(archives) - max(keep, 1), 0)]
