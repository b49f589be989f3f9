"""What a published checkpoint says of itself, and whether it is whole.

    <number>/manifest.json    step, attempt, time, and every file with its size and checksum
    <number>/files/           what the script saved

The folder gets its name when all of it is on the disk, so one that is torn should not exist. A disk
that loses power, or a server that promised what it did not keep, makes one all the same: sizes and
checksums tell.
"""

from __future__ import annotations

import json
import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from studyflow.sdk.folder_copy import sync_folder
from studyflow.sdk.session import Checkpoint
from studyflow.trial.checkpoint_folders import FILES
from studyflow.trial.user_files import open_file

MANIFEST: Final = "manifest.json"
MANIFEST_VERSION: Final = 1
MANIFEST_LIMIT_BYTES: Final = 64 << 20
"""Longest manifest that is read: some 500,000 files."""

_PIECE_BYTES: Final = 1 << 20

_DAMAGED: Final = (
    *(ValueError, KeyError, TypeError, AttributeError),
    *(RecursionError, OverflowError),  # JSON nested without end; a number without end
)
"""What is raised by a manifest that is not as it was written."""


class DamagedCheckpointError(Exception):
    """A published checkpoint is not as it was published."""


@dataclass(frozen=True, slots=True)
class _File:
    """One file as a manifest has it."""

    bytes: int
    crc32: int


def write_manifest(folder: Path, step: int, attempt: int, now: float) -> None:
    """Write the manifest of what a folder holds, and have the disk store all of it.

    Args:
        folder: A checkpoint that is being written.
        step: Its step.
        attempt: Number of the attempt.
        now: Seconds since the epoch.

    Raises:
        ValueError: There is no file.
        OSError: The disk takes no more.
    """
    files = {name: _store(path) for name, path in _regular_files(folder / FILES)}
    if not files:
        raise ValueError(
            "checkpoint: nothing was saved. Save at least one file in the folder that "
            "`with sdk.checkpoint(step) as folder:` gives."
        )
    document = {
        "version": MANIFEST_VERSION,
        "step": step,
        "attempt": attempt,
        "published_at": now,
        "files": {name: {"bytes": file.bytes, "crc32": file.crc32} for name, file in files.items()},
    }
    with (folder / MANIFEST).open("x") as manifest:
        json.dump(document, manifest)
        manifest.flush()
        os.fsync(manifest.fileno())
    for level, _, _ in os.walk(folder, topdown=False):
        sync_folder(Path(level))


def read_checkpoint(folder: Path) -> Checkpoint:
    """Return a published checkpoint once each of its files is found as it was published.

    Reads all of it, which the script is about to do anyway: from here on it is in memory.

    Raises:
        DamagedCheckpointError: It is not as it was published; the message says what is wrong.
    """
    try:
        with open_file(folder / MANIFEST) as manifest:
            document = json.loads(manifest.read(MANIFEST_LIMIT_BYTES))
        if document["version"] != MANIFEST_VERSION:
            raise DamagedCheckpointError(
                f"its manifest is of version {str(document['version'])[:20]!r}, and this studyflow "
                f"reads version {MANIFEST_VERSION}"
            )
        files = {name: _File(**_numbers(entry)) for name, entry in document["files"].items()}
        found = Checkpoint(
            path=folder / FILES,
            step=int(document["step"]),
            attempt=int(document["attempt"]),
            published_at=float(document["published_at"]),
        )
    except OSError as error:
        raise DamagedCheckpointError(f"its manifest cannot be read: {error.strerror}") from error
    except _DAMAGED as error:
        raise DamagedCheckpointError("its manifest is damaged") from error
    for name, file in files.items():
        _check(found.path, name, file)
    return found


def _numbers(entry: Any) -> dict[str, int]:
    return {key: int(entry[key]) for key in ("bytes", "crc32")}


def _check(folder: Path, name: str, expected: _File) -> None:
    """Compare one file with the manifest.

    Raises:
        DamagedCheckpointError: It is another one.
    """
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise DamagedCheckpointError(f"its manifest names {name!r}")
    try:
        with open_file(folder / relative) as file:
            size = os.fstat(file.fileno()).st_size
            if size != expected.bytes:
                raise DamagedCheckpointError(
                    f"{name} has {size} bytes, and was published with {expected.bytes}"
                )
            if _crc32(file) != expected.crc32:
                raise DamagedCheckpointError(f"{name} has another content than was published")
    except OSError as error:
        raise DamagedCheckpointError(f"{name} cannot be read: {error.strerror}") from error


def _regular_files(folder: Path, prefix: str = "") -> Iterator[tuple[str, Path]]:
    """Yield every regular file below a folder with its name."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        path = folder / name
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            yield from _regular_files(path, f"{prefix}{name}/")
        elif stat.S_ISREG(mode):
            yield f"{prefix}{name}", path


def _store(path: Path) -> _File:
    """Have the disk store a file; return what identifies its content."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return _File(os.fstat(file.fileno()).st_size, _crc32(file))


def _crc32(file: Any) -> int:
    crc = 0
    while piece := file.read(_PIECE_BYTES):
        crc = zlib.crc32(piece, crc)
    return crc
