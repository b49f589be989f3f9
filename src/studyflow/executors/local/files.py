"""Files and folders of attempts, whatever a script put in their place.

A script runs as the same user as its runner: it can replace or remove any of these files, and take
away its own folder's rights.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from studyflow.errors import DocumentError, ExecutorUnavailable
from studyflow.trial.user_files import Kind, NotAFileError, kind_of, open_file

TRIAL: Final = "trial.json"
LAUNCH: Final = "launch.json"
METRICS: Final = "metrics.jsonl"
ARTIFACTS: Final = "artifacts"
CHECKPOINTS: Final = "checkpoints"

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
"""What attempts write is for their user alone."""

DOCUMENT_LIMIT_BYTES: Final = 16 << 20
"""Longest document of an attempt that is read: no variable of a process can be as long."""

DAMAGED: Final = (
    *(NotAFileError, ValueError, KeyError, TypeError, OverflowError, RecursionError),
    DocumentError,
)
"""What is raised by documents that are not as a runner wrote them."""


def is_file(path: Path) -> bool:
    """Return whether a regular file is at a path; a link to one is none."""
    return kind_of(path) is Kind.FILE


def modified_at(path: Path) -> float | None:
    """Return when a file was last written, seconds since the epoch; `None` without one."""
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return None


def version_of(path: Path) -> tuple[int, int] | None:
    """Return what changes whenever a file is replaced; `None` without one."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def read_document(path: Path) -> bytes:
    """Return a document of a runner or supervisor.

    Raises:
        FileNotFoundError: There is none.
        NotAFileError: There is something else.
    """
    with open_file(path) as file:
        return file.read(DOCUMENT_LIMIT_BYTES)


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON document of a runner or supervisor; empty without one, or where it is damaged.

    Raises:
        OSError: The disk does not answer.
    """
    try:
        document = json.loads(read_document(path))
    except (FileNotFoundError, *DAMAGED):
        return {}
    return document if isinstance(document, dict) else {}


def is_sealed_launch(path: Path) -> bool:
    """Return whether a document of what was launched has a seal, whosever.

    Raises:
        OSError: The disk does not answer.
    """
    return "seal" in read_object(path)


def replace_file(path: Path, text: str) -> None:
    """Replace a file, durably, whatever a script put in its place or did to its folder's rights.

    Raises:
        OSError: The disk refuses.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        write_new(part, text)
    except PermissionError:
        path.parent.chmod(FOLDER_MODE)
        write_new(part, text)
    try:
        part.replace(path)
    except (IsADirectoryError, NotADirectoryError, FileExistsError):  # a script put a folder there
        path.rename(path.with_name(f".{path.name}.{uuid.uuid4().hex}.aside"))
        part.replace(path)


def write_new(path: Path, text: str) -> None:
    """Write a file that must not exist yet, and have the disk store it.

    Raises:
        OSError: It exists, or the disk refuses.
    """
    with open_new(path) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def open_new(path: Path) -> TextIO:
    """Return a file that must not exist yet, opened for writing.

    Raises:
        OSError: It exists, or the disk refuses.
    """
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "w")


def make_folder(path: Path) -> None:
    """Make a folder if there is none; what a script put in its place is removed.

    Raises:
        OSError: The disk refuses.
    """
    try:
        path.mkdir(FOLDER_MODE)
    except FileExistsError:
        if not path.is_dir():
            remove(path)
            path.mkdir(FOLDER_MODE)
        elif not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            path.chmod(FOLDER_MODE)


def remove(path: Path) -> None:
    """Remove whatever is at a path, if anything is; a link, not what it points to.

    Raises:
        OSError: The disk refuses.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def as_unavailable(action: str, root: Path) -> Iterator[None]:
    """Turn errors of the disk into the one that callers know to be worth another try.

    Args:
        action: What was being done to the folder, such as "submit to".
        root: The study's folder.

    Raises:
        ExecutorUnavailable: The disk refuses.
    """
    try:
        yield
    except OSError as error:
        raise ExecutorUnavailable(
            f"Cannot {action} {root}: {error.strerror or error}.",
            hint="is the disk full, read-only or gone?",
        ) from error
