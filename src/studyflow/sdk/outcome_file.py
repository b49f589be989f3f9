"""The file that holds what a trial ended with: it is written as a whole or stays as it was.

Several processes of one trial may write it: the training, what it starts, what a shell script runs
after it. A result is a fact of the trial, so a process that fails does not replace the result of
another one. A lock on the folder keeps two of them from checking and writing at the same time.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from studyflow.errors import DocumentError
from studyflow.sdk.console import print_error
from studyflow.trial import (
    OUTCOME_LIMIT_BYTES,
    UNWRITTEN,
    Cause,
    Outcome,
    Trial,
    is_sealed_outcome,
)

LOCK_SECONDS: Final = 2.0
"""Longest wait for another process that writes: one that is stopped must not stop the training."""

_RESULTS: Final = frozenset({Cause.OK, Cause.NAN, Cause.BAD_METRIC})
"""What only a call of `finish` that returned leaves behind."""

_CANNOT_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EROFS})
"""How special files refuse `fsync`; every other error means that the data is not stored."""


class Keep(enum.Enum):
    """What a new outcome leaves in place."""

    NOTHING = enum.auto()
    RESULT = enum.auto()
    """A result of this attempt."""
    ANYTHING = enum.auto()
    """Whatever is there."""


class OutcomeFile:
    """The outcome of one attempt on disk.

    Args:
        path: Where it stands; in a pod a mounted file in a folder that is not ours.
        trial: The attempt.
    """

    def __init__(self, path: Path, trial: Trial) -> None:
        self._path = path
        self._trial = trial

    def write(self, content: bytes, keep: Keep = Keep.NOTHING) -> None:
        """Put a document in place, unless what is there is to be kept.

        Raises:
            OSError: It could not be written. What was there before is still there.
        """
        with _lock(self._path.parent):
            if keep is Keep.ANYTHING and self._size():
                return
            if keep is Keep.RESULT and self._holds_result():
                return
            if self._holds_foreign():
                print_error(
                    f"studyflow: another process wrote to {self._path}; this attempt's outcome "
                    "replaces that.\n"
                )
            part = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
            try:
                _write_new(part, content)
                part.replace(self._path)
            except OSError:
                # A container's termination message is a mounted file in a folder that is not ours:
                # it can be written, not replaced.
                with contextlib.suppress(OSError):
                    part.unlink()
                _overwrite(self._path, content)

    def restore(self, content: bytes) -> None:
        """Put a document in place again if it is gone, or another process's is there by now."""
        if self._holds_foreign():
            with contextlib.suppress(OSError):
                self.write(content)
        elif not os.path.lexists(self._path):
            with contextlib.suppress(OSError):
                self.write(content, Keep.ANYTHING)

    def mark(self, text: str) -> bool:
        """Leave something that no reader takes for an outcome or for silence, if nothing is there.

        Without it a result that could not be written looks like one that never was.

        Returns:
            Whether something is there now.
        """
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o600)
        except IsADirectoryError:
            return True
        except OSError:
            with contextlib.suppress(OSError):  # a link needs no free descriptor
                self._path.symlink_to(text)
            return self._size() > 0
        try:
            if os.fstat(descriptor).st_size == 0:
                try:
                    os.write(descriptor, text.encode(errors="replace")[:OUTCOME_LIMIT_BYTES])
                except OSError:
                    os.ftruncate(descriptor, 1)  # a hole takes no space on a full disk
            return os.fstat(descriptor).st_size > 0
        except OSError:
            return False
        finally:
            os.close(descriptor)

    def _size(self) -> int:
        try:
            return self._path.lstat().st_size
        except OSError:
            return 0

    def _holds_result(self) -> bool:
        try:
            content = self._read()
        except OSError:  # it cannot be read, so a result may be in it
            return self._size() > 0
        trial = self._trial
        if content is None or (trial.key is not None and not is_sealed_outcome(content, trial.key)):
            return False
        try:
            outcome = Outcome.from_json(content)
        except DocumentError:
            return False
        is_ours = (outcome.study, outcome.number, outcome.attempt) == (
            *(trial.study, trial.number),
            trial.attempt,
        )
        return is_ours and outcome.cause in _RESULTS

    def _holds_foreign(self) -> bool:
        """Return whether a document is there that this attempt did not write."""
        if self._trial.key is None:
            return False
        try:
            content = self._read()
        except OSError:
            return False
        if content is None or content.startswith(UNWRITTEN.encode()) or not content.strip(b"\0"):
            return False  # nothing, or a mark of this attempt
        return not is_sealed_outcome(content, self._trial.key)

    def _read(self) -> bytes | None:
        """Return what stands in the file; `None` when no regular file is there.

        Raises:
            OSError: It cannot be read.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return os.read(descriptor, OUTCOME_LIMIT_BYTES + 1)
        finally:
            os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of the content: a disk that is nearly full takes a part of it without an error.

    Raises:
        OSError: The rest cannot be written.
    """
    left = memoryview(content)
    while left:
        n_written = os.write(descriptor, left)
        if n_written <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left = left[n_written:]


def unwritable(what: str, path: str | None, error: OSError) -> OSError:
    """Return an error that says what cannot be written, and what that means for the study."""
    return OSError(
        error.errno,
        f"{what}, so the study does not see it: {error.strerror or error}. "
        "Hint: is the disk full, or a quota or a limit on file sizes reached?",
        path,
    )


def _write_new(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        write_all(descriptor, content)
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _overwrite(path: Path, content: bytes) -> None:
    """Write into a file that cannot be replaced; put its old content back when that fails."""
    flags = os.O_CREAT | os.O_NONBLOCK
    try:
        descriptor = os.open(path, os.O_RDWR | flags, 0o600)
    except PermissionError:
        descriptor = os.open(path, os.O_WRONLY | flags, 0o600)
    try:
        status = os.fstat(descriptor)
        size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        before = b""
        with contextlib.suppress(OSError):  # it may be written, but not read
            before = os.read(descriptor, min(size, OUTCOME_LIMIT_BYTES))
            os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            # Blanks over the rest of a longer text: should this process be killed before the next
            # line, the document is whole all the same.
            write_all(descriptor, content.ljust(size if size <= OUTCOME_LIMIT_BYTES else 0))
            if size > len(content):
                os.ftruncate(descriptor, len(content))
            _sync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.lseek(descriptor, 0, os.SEEK_SET)
                write_all(descriptor, before)
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Keep the trial's other processes from writing, where the folder can be locked."""
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (ImportError, OSError):
        yield
        return
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.01)
            except OSError:  # a file system without locks
                break
            else:
                break
        yield
    finally:
        with contextlib.suppress(OSError):
            # A process forked meanwhile holds the descriptor too; this releases it for both.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
