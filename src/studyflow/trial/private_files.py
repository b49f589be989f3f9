"""Files and folders for their user alone, whatever the umask is.

Parameters, logs and addresses stand in the files of a study, and others of the same machine have
no business there. So files are made with mode 0600 and folders with 0700; those that an earlier
version or a library made more open are tightened when a runner opens the home folder.

A folder whose set-group-ID bit is set is shared by its group on purpose: there, files and folders
keep the rights of the group (0660, 2770), and only others lose theirs.

Standard library only.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

HOME_NAME: Final = ".studyflow"
"""Name of a home folder that holds nothing but what studyflow put there."""

_OURS: Final = ("studies", "mlflow.db", "mlartifacts", "prefect", "ui.", "servers")
"""How names in a home folder begin that studyflow makes."""

_LOOKED_AT_LEVELS: Final = 2
"""Below the home folder: the databases of MLflow and Prefect, and each study's own files. Deeper
down only what lies in a folder that is too open is looked at: thousands of trials are there."""

_GROUP: Final = 0o070
_OTHERS: Final = 0o007


def make_private_folder(path: Path) -> None:
    """Make a folder for this user alone, and those above it; one that is there stays as it is.

    Raises:
        OSError: The disk refuses.
    """
    if path.is_dir():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(0o700 | _shared_with(path.parent), exist_ok=True)


def make_private_file(path: Path) -> None:
    """Make an empty file for this user alone; one that is there stays as it is.

    Raises:
        OSError: The disk refuses.
    """
    os.close(private_opener(str(path), os.O_WRONLY | os.O_CREAT))


def private_opener(path: str, flags: int) -> int:
    """Open a file for `open(..., opener=...)`, made for this user alone."""
    return os.open(path, flags, 0o600 | (_shared_with(Path(path).parent) & 0o660))


def tighten_home(home: Path) -> None:
    """Take from group and others what they may do with the files in a home folder; never raises.

    Only what belongs to this user and has a name of studyflow's is touched.
    """
    if home.name == HOME_NAME:
        tighten(home, levels=0)
    with suppress(OSError):
        for entry in list(os.scandir(home)):
            if home.name == HOME_NAME or entry.name.startswith(_OURS):
                tighten(Path(entry.path), levels=_LOOKED_AT_LEVELS - 1)


def tighten(path: Path, levels: int) -> None:
    """Take from group and others what they may do with a file, or with a folder and what it holds.

    Never raises: some disks know no rights, and some files are another user's.

    Args:
        path: The file or folder.
        levels: How many levels of a folder are looked at; those below only where a folder is open.
    """
    with suppress(OSError):
        mask = _too_much_in(path.parent)
        found: list[tuple[Path, int]] = []
        waiting = [(path, mask, levels)]
        while waiting:
            place, mask, depth = waiting.pop()
            with suppress(OSError):
                waiting += _look(place, mask, depth, found)
        # From below: a walk that is cut short finds what is left by the open folder above it.
        for place, mode in reversed(found):
            with suppress(OSError):
                place.chmod(mode)


def _look(
    path: Path, mask: int, levels: int, found: list[tuple[Path, int]]
) -> Iterator[tuple[Path, int, int]]:
    """Note what is too open, and yield what is to be looked at in a folder."""
    status = path.lstat()
    mode = stat.S_IMODE(status.st_mode)
    is_folder = stat.S_ISDIR(status.st_mode)
    if status.st_uid != os.geteuid() or not (is_folder or stat.S_ISREG(status.st_mode)):
        return
    if is_folder:
        mask = _too_much(mode)
    if mode & mask:
        found.append((path, mode & ~mask))
    if is_folder and (levels > 0 or mode & mask):
        for entry in os.scandir(path):
            yield Path(entry.path), mask, levels - 1


def _shared_with(folder: Path) -> int:
    """Return which rights a group has by the folder in which something is made."""
    return _GROUP & ~_too_much_in(folder)


def _too_much_in(folder: Path) -> int:
    try:
        return _too_much(folder.stat().st_mode)
    except OSError:
        return _GROUP | _OTHERS


def _too_much(mode: int) -> int:
    """Return the rights that nothing in a folder of this mode should have."""
    return _OTHERS if mode & stat.S_ISGID else _GROUP | _OTHERS
