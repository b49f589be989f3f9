"""Copies a folder so that writing into the copy never reaches what was copied, and syncs it.

Not by hard links: a script that writes the next checkpoint into the same file would write into the
earlier attempt's. Where the file system shares blocks between files (XFS, Btrfs) or copies on the
server (NFS 4.2), `copy_file_range` has it do so, and a large checkpoint costs next to nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Final

PIECE_BYTES: Final = 1 << 30
"""Most bytes of one call of `copy_file_range`."""

_CANNOT_COPY_SO: Final = frozenset(
    {errno.ENOSYS, errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF, errno.ETXTBSY}
)
"""What `copy_file_range` says where it cannot copy and reading and writing can."""


def copy_folder(source: Path, target: Path, leave_out: str = "") -> None:
    """Copy what a folder holds into a new one and have the disk store it.

    Kept are regular files, folders and links, with their times; a link into the source becomes one
    into the copy. What vanishes meanwhile is left out: another process may be writing there.

    Args:
        source: The folder.
        target: Where the copy is to be; there is nothing yet.
        leave_out: Name of an entry of `source` that is not copied.

    Raises:
        OSError: The disk takes no more, or something may not be read.
    """
    _copy_level(source, target, source, leave_out)


def _copy_level(folder: Path, target: Path, source: Path, leave_out: str = "") -> None:
    target.mkdir()
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.name != leave_out)
    for name in names:
        path, copy = folder / name, target / name
        with contextlib.suppress(FileNotFoundError):
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                copy.symlink_to(_moved(path.readlink(), folder, source))
            elif stat.S_ISDIR(mode):
                _copy_level(path, copy, source)
            elif stat.S_ISREG(mode):
                copy_file(path, copy)
    sync_folder(target)
    with contextlib.suppress(OSError):
        shutil.copystat(folder, target)


def _moved(aim: Path, folder: Path, source: Path) -> Path:
    """Return where a copied link points to: within the copy, if it was within the source."""
    if not aim.is_absolute() or not aim.is_relative_to(source):
        return aim
    return Path(os.path.relpath(aim, folder))


def copy_file(path: Path, copy: Path) -> None:
    """Copy a regular file and have the disk store it.

    Raises:
        FileNotFoundError: It is gone. There is no copy then.
        OSError: The disk takes no more, or the file may not be read.
    """
    with path.open("rb") as read, copy.open("xb") as write:
        if not _copy_in_kernel(read.fileno(), write.fileno()):
            read.seek(0)
            write.seek(0)
            write.truncate()
            shutil.copyfileobj(read, write, 1 << 20)
            write.flush()
        os.fsync(write.fileno())
    with contextlib.suppress(OSError):
        shutil.copystat(path, copy)


def _copy_in_kernel(read: int, write: int) -> bool:
    """Return whether the file system copied a whole file by itself."""
    is_empty = True
    try:
        while os.copy_file_range(read, write, PIECE_BYTES):
            is_empty = False
    except OSError as error:
        if error.errno in _CANNOT_COPY_SO:
            return False
        raise
    # Some file systems have it copy nothing and say nothing.
    return not is_empty or os.fstat(read).st_size == 0


def sync_folder(folder: Path) -> None:
    """Have the disk store which entries a folder has, as far as the file system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
