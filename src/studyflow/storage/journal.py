"""Optuna's journal in one file, made to survive crashes, full disks and killed lock holders."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import optuna
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from studyflow.errors import StorageUnavailable

if TYPE_CHECKING:
    from io import BufferedRandom

_log = logging.getLogger(__name__)

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PASSING: Final = _FULL | {
    *(errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT),
    *(errno.ENOLCK, errno.ENFILE, errno.EMFILE),
}
"""Refusals that may end by themselves, or when somebody makes room."""


LOCK_SECONDS: Final = 10.0
"""How long to wait for another process to let go of a journal. One write takes milliseconds: a
holder that takes longer is stopped, or its disk does not answer."""

_LONGEST_LOCK_PAUSE_SECONDS: Final = 0.02


class ProcessLock(JournalFileOpenLock):
    """A lock between processes that the kernel releases when its holder dies.

    Optuna's own journal locks are files: one left by a killed process holds up the next for 30 s.
    Not for network file systems, where `flock` may not reach other machines.

    A process that is stopped while it holds the lock keeps it. Nobody takes it away: what it had
    begun to write would come in the middle of what others write.

    Args:
        path: Lock file; created beside the journal and never removed.
        seconds: How long to wait for it.
    """

    def __init__(self, path: Path, seconds: float = LOCK_SECONDS) -> None:
        super().__init__(str(path))
        self._path = path
        self._seconds = seconds
        self._file: BufferedRandom | None = None

    def acquire(self) -> bool:
        """Wait for the lock, then hold it; always True.

        Raises:
            StorageUnavailable: Another process has held it all the time.
        """
        file = self._path.open("ab+")
        deadline, pause = time.monotonic() + self._seconds, 0.001
        try:
            while not _try_to_lock(file):
                if time.monotonic() >= deadline:
                    raise _still_locked(self._path)
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_LOCK_PAUSE_SECONDS)
        except BaseException:
            file.close()
            raise
        self._file = file
        return True

    def release(self) -> None:
        """Let go of the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _try_to_lock(file: BufferedRandom) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _still_locked(path: Path) -> StorageUnavailable:
    holder = _lock_holder(path)
    if holder is None:
        who, hint = "another process", "is one of this study's runners stopped?"
    else:
        is_stopped = _is_stopped(holder)
        who = f"process {holder}" + (", which is stopped" if is_stopped else "")
        hint = (
            f"{f'let it go on (kill -CONT {holder})' if is_stopped else 'wait for it'}, or end it."
        )
    return StorageUnavailable(
        f"The study file {path.with_suffix('')} is locked by {who}.",
        hint=f"{hint} Nothing that was recorded is lost.",
    )


def _lock_holder(path: Path) -> int | None:
    """Return the process that holds a lock, where the system tells."""
    try:
        inode = path.stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for line in lines:  # such as "7: FLOCK  ADVISORY  WRITE 4711 08:01:1234567 0 EOF"
        words = line.split()
        is_held = len(words) == 8 and words[1] == "FLOCK"
        if is_held and words[5].rpartition(":")[2] == str(inode):
            return int(words[4])
    return None


def _is_stopped(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in "Tt"


class ExclusiveJournal(JournalFileBackend):
    """Optuna's journal file, with each operation written whole or not at all.

    Args:
        path: The journal.
        lock: Held while an operation is written.
    """

    def __init__(self, path: Path, lock: ProcessLock) -> None:
        super().__init__(str(path), lock_obj=lock)
        self._path = path
        self._process_lock = lock

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write operations durably.

        Raises:
            StorageUnavailable: The disk is full, or refuses for now; the journal is as it was.
        """
        with self.exclusively() as append:
            append(logs)

    @contextmanager
    def exclusively(self) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
        """Give what writes operations, while no other process writes.

        Raises:
            StorageUnavailable: The disk is full, or refuses for now; the journal is as it was. Or
                another process does not let go of the journal.
        """
        with _refusals_as_unavailable(self._path):
            self._process_lock.acquire()
            try:
                yield self._append
            finally:
                self._process_lock.release()

    def _append(self, logs: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        # Who holds the lock sees what is torn: nobody else is writing.
        repair_tail(self._path)
        with self._path.open("ab", buffering=0) as file:
            _append_whole(file, text.encode())

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Give the operations from a number on.

        Raises:
            StorageUnavailable: The disk refuses for now.
        """
        with _refusals_as_unavailable(self._path):
            yield from super().read_logs(log_number_from)


def _append_whole(file: IO[bytes], data: bytes) -> None:
    """Write at the end of a file, or leave it as it was: a full disk takes a part."""
    size = file.seek(0, os.SEEK_END)
    try:
        while data:
            data = data[file.write(data) :]
        os.fsync(file.fileno())
    except BaseException:
        os.ftruncate(file.fileno(), size)
        raise


@contextmanager
def _refusals_as_unavailable(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses for now into `StorageUnavailable`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _PASSING:
            raise
        raise StorageUnavailable(
            f"The study file {path} cannot be used: {error.strerror}.",
            hint="make room on the disk, then run the study again; nothing that was recorded is "
            "lost."
            if error.errno in _FULL
            else "nothing that was recorded is lost; run the study again when the disk answers.",
        ) from error


def open_journal(path: Path, *, is_reader: bool) -> optuna.storages.JournalStorage:
    """Return the storage in a journal, made if it is not there yet.

    Args:
        path: The journal.
        is_reader: Leave no trace beside the journal, and a torn last line as it is.

    Raises:
        StorageUnavailable: The file cannot be opened, or is damaged.
    """
    try:
        lock = ProcessLock(path.with_name(f"{path.name}.lock"))
        if not is_reader:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            try:
                repair_tail(path)
            finally:
                lock.release()
        return optuna.storages.JournalStorage(ExclusiveJournal(path, lock))
    except OSError as error:
        raise StorageUnavailable(
            f"Cannot open the study file {path}: {error.strerror}.",
            hint="is the folder writable, and the disk not full?",
        ) from error
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise StorageUnavailable(
            f"The study file {path} is damaged: line {_damaged_line(path)} is not one of Optuna's "
            "operations.",
            hint="mend or remove that line; each line is one operation.",
        ) from error


def repair_tail(path: Path) -> None:
    """Cut off a last line that a crash left unfinished, keeping a copy of the file as it was.

    Without this the next operation would be written behind the torn one, on the same line, and the
    journal could never be read again. The journal's lock must be held.
    """
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        intact = file.read().rfind(b"\n") + 1
        backup = path.with_name(f"{path.name}.torn-{time.time_ns()}")
        shutil.copyfile(path, backup)
        file.truncate(intact)
        _log.warning("The last line of %s was torn; cut it off, copy in %s", path, backup.name)


def _damaged_line(path: Path) -> int:
    """Return the number of the first line that is no operation, from 1; 0 when each one is."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                operation = json.loads(line)
            except ValueError:
                return number
            if not isinstance(operation, dict) or "op_code" not in operation:
                return number
    return 0
