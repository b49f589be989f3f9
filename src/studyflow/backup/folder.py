"""The files of a folder that somebody may be writing to."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from studyflow.backup.archive import Advance, ArchiveWriter, is_inside
from studyflow.backup.manifest import Member
from studyflow.executors.local.attempt import LockState, lock_state
from studyflow.executors.local.files import CHECKPOINTS
from studyflow.executors.local.study_folder import OPEN, TRIALS
from studyflow.settings import RUNNER_LOCK

WORK: Final = ".studyflow-work-"
"""How the folders begin that backups and restores work in, wherever they are."""


def add_folder(
    archive: ArchiveWriter,
    root: Path,
    name: str,
    *,
    skips: Callable[[Path], bool],
    advance: Advance,
) -> tuple[tuple[Member, ...], tuple[Path, ...]]:
    """Add a folder's files, folders and links; return them, and what had to be left out.

    That is links out of the folder, sockets, devices and what this user may not read. What is
    removed meanwhile, and the work of other backups, is left out silently.

    Args:
        archive: Gets them.
        root: The folder; it need not exist.
        name: Its name in the archive.
        skips: Tells of a path below the folder whether it does not belong to a backup.
        advance: Is told of bytes that were read.

    Raises:
        BackupUnavailable: A large file became shorter while it was read.
        OSError: The disk refuses.
    """
    members: list[Member] = []
    left_out: list[Path] = []
    for path, status in _walk(root, skips, left_out):
        member = f"{name}/{path.relative_to(root).as_posix()}"
        try:
            if stat.S_ISDIR(status.st_mode):
                members.append(archive.add_folder(member, status.st_mode))
            elif stat.S_ISREG(status.st_mode):
                members.append(archive.add_file(path, member, advance))
            elif stat.S_ISLNK(status.st_mode) and is_inside(member, target := str(path.readlink())):
                members.append(archive.add_link(target, member))
            else:
                left_out.append(path)
        except FileNotFoundError:
            continue
        except PermissionError:
            left_out.append(path)
    return tuple(members), tuple(left_out)


def _walk(
    folder: Path, skips: Callable[[Path], bool], left_out: list[Path]
) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield everything below a folder, each folder before what is in it, by name.

    Args:
        folder: The folder; it need not exist.
        skips: Tells what is passed over.
        left_out: Gets the folders that this user may not read.
    """
    try:
        found = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError:
        left_out.append(folder)
        return
    for entry in found:
        path = Path(entry.path)
        if entry.name.startswith(WORK) or skips(path):
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        yield path, status
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(path, skips, left_out)


def size_of(root: Path, skips: Callable[[Path], bool]) -> int:
    """Return the size of a folder's files, bytes."""
    return sum(s.st_size for _, s in _walk(root, skips, []) if stat.S_ISREG(s.st_mode))


def is_of_living(root: Path, path: Path) -> bool:
    """Return whether a path below the studies' folder belongs to a process that lives.

    That is a runner's lock, a file that is not complete yet, and an attempt that runs: after a
    restore nothing of it is there, and it is launched again.

    Args:
        root: The folder of all studies on this machine.
        path: Something below it.
    """
    parts = path.relative_to(root).parts
    if len(parts) < 2 or (parts[1] == TRIALS and parts[3:4] == (CHECKPOINTS,)):
        return False  # checkpoints are a script's: it goes on from them, whatever their names
    if parts[1] == RUNNER_LOCK or (parts[1] == TRIALS and path.name.startswith(".")):
        return True
    if len(parts) == 4 and parts[1] == TRIALS:
        return lock_state(path) is LockState.HELD
    if len(parts) == 3 and parts[1] == OPEN:
        number, _, attempt = path.name.partition("-")
        folder = root / parts[0] / TRIALS / number / f"attempt-{attempt}"
        return lock_state(folder) is not LockState.FREE
    return False


def running_attempts(root: Path) -> list[Path]:
    """Return the folders of attempts on this machine whose scripts run.

    Args:
        root: The folder of all studies on this machine.
    """
    return sorted(
        folder
        for folder in root.glob(f"*/{TRIALS}/*/attempt-*")
        if lock_state(folder) is LockState.HELD
    )
