"""A lock between processes of one machine, which the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from optuna.storages.journal import JournalFileOpenLock

from studyflow.errors import StorageUnavailable
from studyflow.trial.private_files import private_opener

if TYPE_CHECKING:
    from io import BufferedRandom

LOCK_SECONDS: Final = 5.0
"""How long a write waits for another one. Writing takes milliseconds, so a lock that is held for
longer belongs to a process that is stopped, or to a disk that hangs."""

READ_LOCK_SECONDS: Final = 1.0
"""How long a read waits for a write. It then reads what is there: a stopped process holds up no
`studyflow status`."""

_LOCK_POLL_SECONDS: Final = 0.002
"""Pause between two tries to get a lock: a tenth of what a write takes on a slow disk."""

_LOCKS: Final = Path("/proc/locks")
"""Where Linux lists who holds which lock."""


class ProcessLock(JournalFileOpenLock):
    """A lock between processes that the kernel releases when its holder dies.

    Optuna's own journal locks are files: one left by a killed process holds up the next for 30 s.
    Not for network file systems, where `flock` may not reach other machines.

    A process that is stopped while it holds the lock keeps it. Nobody takes it away: what it had
    begun to write would come in the middle of what others write.

    Args:
        path: Lock file; created beside the journal and never removed.
        patience_seconds: How long to wait for it.
    """

    def __init__(self, path: Path, patience_seconds: float = LOCK_SECONDS) -> None:
        super().__init__(str(path))
        self._path = path
        self._patience_seconds = patience_seconds
        self._file: BufferedRandom | None = None

    def acquire(self) -> bool:
        """Wait for the lock, then hold it; always True.

        Raises:
            StorageUnavailable: Another process has held it for all this time.
        """
        self.release()  # an exception of a signal handler may have come before the last release
        deadline = time.monotonic() + self._patience_seconds
        while True:
            file = open(self._path, "ab+", opener=private_opener)  # noqa: SIM115
            if not _lock(file, fcntl.LOCK_EX, deadline):
                held = _held_by(file, self._path)
                file.close()
                raise held
            if _is_at(file, self._path):
                self._file = file
                return True
            file.close()  # somebody removed the lock file, and others lock the new one

    def release(self) -> None:
        """Let go of the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Keep writers out while a reader reads, as far as the lock can be had; leave no trace.

        A holder of the lock reads at once.
        """
        with ExitStack() as stack:
            if self._file is not None:
                yield
                return
            # Without a lock file nobody writes; without the right to it, reading is still possible.
            with suppress(FileNotFoundError, PermissionError):
                file = stack.enter_context(self._path.open("rb"))
                _lock(file, fcntl.LOCK_SH, time.monotonic() + READ_LOCK_SECONDS)
            yield


def _lock(file: IO[bytes], kind: int, deadline: float) -> bool:
    """Wait for a lock until a time; return whether it is held now."""
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOCK_POLL_SECONDS)
        else:
            return True


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Return whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _held_by(file: IO[bytes], path: Path) -> StorageUnavailable:
    """Return the error that says which process holds the lock on a file, and what to do."""
    inode = str(os.fstat(file.fileno()).st_ino)
    who, hint = "another process", "is one of this study's runners stopped?"
    with suppress(OSError, StopIteration, IndexError):
        # Such as `1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF`.
        table = [line.split() for line in _LOCKS.read_text().splitlines()]
        process = next(
            row[4] for row in table if row[1] == "FLOCK" and row[5].rpartition(":")[2] == inode
        )
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        who, hint = f"process {process}", "wait for it, or end it."
        if state in ("T", "t"):
            who = f"process {process}, which is stopped"
            hint = f"let it go on (kill -CONT {process}), or end it."
    return StorageUnavailable(
        f"The study file {path.with_suffix('')} is locked by {who}.",
        hint=f"{hint} Nothing that was recorded is lost.",
    )
