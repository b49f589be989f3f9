"""Optuna's journal in one file, made to survive crashes, full disks and killed lock holders."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import optuna
from optuna.storages.journal import BaseJournalBackend

from studyflow.errors import StorageBroken, StorageUnavailable
from studyflow.storage.process_lock import ProcessLock
from studyflow.trial.private_files import make_private_file, make_private_folder

if TYPE_CHECKING:
    pass

_log = logging.getLogger(__name__)

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PASSING: Final = _FULL | {
    *(errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT),
    *(errno.ENOLCK, errno.ENFILE, errno.EMFILE),
}
"""Refusals that may end by themselves, or when somebody makes room."""
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})

_MARK_BYTES: Final = 1024
"""How much of what was read is compared before each use of the file."""

WHOLE_CHECK_SECONDS: Final = 60.0
"""Pause between two comparisons of all that was read, which take 1 ms for each MiB."""

_BEGINNING: Final = b'{"op_code":'
"""How each line of a journal begins, as Optuna and we write it."""


@dataclass(frozen=True, slots=True)
class _Position:
    """How far a journal was read."""

    n_lines: int = 0
    offset: int = 0
    mark: bytes = b""
    """The end of the last line that was read, by which the file is known again."""
    checksum: int = 0
    """CRC-32 of all that was read."""

    def after(self, line: bytes) -> _Position:
        """Return the position behind a line, which ends with its line feed."""
        return _Position(
            self.n_lines + 1,
            self.offset + len(line),
            line[-_MARK_BYTES:],
            zlib.crc32(line, self.checksum),
        )


class JournalFile(BaseJournalBackend):
    """A journal file of Optuna's format, with each operation written whole or not at all.

    Whatever happens to the file while it is in use is a `StorageUnavailable`. Of several processes
    each reads what the others wrote, and nobody trusts its own memory of a file that is no longer
    the same: what was read last must still be where it was, before anything is read or written, and
    once a minute all of it.

    Args:
        path: The journal; it is there.
        lock: Held while an operation is written.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, path: Path, lock: ProcessLock, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = path
        self._process_lock = lock
        self._clock = clock
        self._position = _Position()
        self._checked_at = clock()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write operations durably.

        Raises:
            StorageUnavailable: The disk is full, or refuses for now; the journal is as it was.
            StorageBroken: The file is not the one that was read.
        """
        with self.exclusively() as append:
            append(logs)

    @contextmanager
    def exclusively(self) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
        """Give what writes operations, while no other process writes.

        Raises:
            StorageUnavailable: As in `append_logs`; or another process keeps its lock.
            StorageBroken: As in `append_logs`.
        """
        with _refusals_as_unavailable(self.path):
            self._process_lock.acquire()
            try:
                yield self._append
            finally:
                self._process_lock.release()

    def _append(self, logs: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with open(self.path, "rb+", buffering=0, opener=_for_appending) as file:
            self._check_known(file)
            self._check_whole(file)
            # With the lock held nobody else is writing, so a torn line stays torn.
            repair_tail(self.path)
            _append_whole(file, text.encode())

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Give the operations from a number on.

        Raises:
            StorageUnavailable: The disk refuses for now.
            StorageBroken: The file is damaged, or not the one that was read.
        """
        if log_number_from != self._position.n_lines:
            self._position = _Position()  # a storage that was unpickled begins anew
        for line in self._new_lines():
            operation = _operation_in(line)
            if operation is None:
                raise damaged(self.path, self._position.n_lines + 1)
            self._position = self._position.after(line)
            if self._position.n_lines > log_number_from:
                yield operation

    def _new_lines(self) -> list[bytes]:
        """Return the whole lines that nobody has read here, each with its line feed.

        Without the lock, what a dead writer left torn and what replaces it could be read as one.
        """
        with _refusals_as_unavailable(self.path), self.path.open("rb", buffering=0) as file:
            if self._check_known(file) == self._position.offset:
                return []
            with self._process_lock.shared():
                self._check_known(file)
                file.seek(self._position.offset)
                data = file.read()
        *whole, _torn = data.split(b"\n")
        return [line + b"\n" for line in whole]

    def _check_known(self, file: IO[bytes]) -> int:
        """Return the size of the file if it begins with what was read of it.

        Raises:
            StorageBroken: It was cut, replaced or written over.
        """
        size, read = os.fstat(file.fileno()).st_size, self._position
        found = os.pread(file.fileno(), len(read.mark), read.offset - len(read.mark))
        if size < read.offset or found != read.mark:
            raise self._edited()
        return size

    def _check_whole(self, file: IO[bytes]) -> None:
        """Return if all that was read is as it was; checked once in a while."""
        now = self._clock()
        if now < self._checked_at + WHOLE_CHECK_SECONDS:
            return
        self._checked_at = now
        data = os.pread(file.fileno(), self._position.offset, 0)
        if zlib.crc32(data) != self._position.checksum:
            for number, line in enumerate(data.splitlines(), start=1):
                if _operation_in(line) is None:
                    raise damaged(self.path, number)
            raise self._edited()

    def _edited(self) -> StorageBroken:
        return StorageBroken(
            f"The study file {self.path} was cut, replaced or edited while it was in use: it no "
            f"longer holds what its first {self._position.n_lines} lines said.",
            hint="put the right file back if there is a copy, then run the study again; it goes on "
            "with what the file holds.",
        )


def _for_appending(path: str, flags: int) -> int:
    """Open a file that is there: one that was removed is not begun anew in the middle."""
    return os.open(path, flags | os.O_APPEND)


def _operation_in(line: bytes) -> dict[str, Any] | None:
    """Return the operation that a line holds; `None` when it holds none."""
    try:
        operation = json.loads(line)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, two operations, too deep
        return None
    return operation if isinstance(operation, dict) and "op_code" in operation else None


class _Journal(optuna.storages.JournalStorage):
    """Optuna's storage over a journal, to which a line that cannot be applied is damage.

    Args:
        file: The journal.
    """

    _has_asked = False
    """Whether this thread, which holds the storage's lock, waits for Optuna's answer."""

    def __init__(self, file: JournalFile) -> None:
        self._path = file.path
        super().__init__(file)

    def _write_log(self, op_code: int, extra_fields: dict[str, Any]) -> None:
        self._sync_with_backend()  # nothing is written behind what is damaged
        super()._write_log(op_code, extra_fields)
        self._has_asked = True

    def _sync_with_backend(self) -> None:
        """Take in what is new.

        Raises:
            StorageUnavailable: The disk refuses for now.
            StorageBroken: The file is damaged, or not the one that was read.
        """
        has_asked, self._has_asked = self._has_asked, False
        replay = self._replay_result
        for operation in self._backend.read_logs(replay.log_number_read):
            is_own = has_asked and operation.get("worker_id") == replay.worker_id
            try:
                # Optuna raises what is wrong with an operation of this thread, and lets pass what
                # others asked for in vain. So does what this one asked for in an earlier call.
                replay.apply_logs([operation if is_own else {**operation, "worker_id": None}])
            except Exception as error:
                if is_own:
                    raise
                line = replay.log_number_read
                replay.log_number_read -= 1  # it stays damaged, and is not passed over next time
                raise damaged(self._path, line) from error


def _append_whole(file: IO[bytes], data: bytes) -> None:
    """Write at the end of a file, or leave it as it was: a full disk takes a part."""
    size = file.seek(0, os.SEEK_END)
    with ExitStack() as undo:
        undo.callback(os.ftruncate, file.fileno(), size)
        while data:
            data = data[file.write(data) :]
        os.fsync(file.fileno())
        undo.pop_all()


@contextmanager
def _refusals_as_unavailable(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into `StorageUnavailable`."""
    try:
        yield
    except FileNotFoundError as error:
        raise StorageBroken(
            f"The study file {path} was removed while it was in use.",
            hint="put it back, then run the study again; without it the study begins anew.",
        ) from error
    except OSError as error:
        message = f"The study file {path} cannot be used: {error.strerror}."
        if error.errno in _PASSING:
            raise StorageUnavailable(
                message,
                hint="make room on the disk, then run the study again; nothing that was recorded "
                "is lost."
                if error.errno in _FULL
                else "nothing that was recorded is lost; run the study again when the disk "
                "answers.",
            ) from error
        raise StorageBroken(
            message,
            hint="let this user read and write it, then run the study again; nothing that was "
            "recorded is lost."
            if error.errno in _FORBIDDEN
            else "put the file back, then run the study again.",
        ) from error


def damaged(path: Path, line: int) -> StorageBroken:
    """Return the error that says which line of a journal is no operation."""
    return StorageBroken(
        f"The study file {path} is damaged: line {line} is not one of Optuna's operations.",
        hint="remove it if something else wrote it there, then run the study again. If it was an "
        "operation, put a copy of the file back: later lines count the trials before them.",
    )


def open_journal(path: Path, *, is_reader: bool) -> optuna.storages.JournalStorage:
    """Return the storage in a journal, made if it is not there yet.

    Args:
        path: The journal.
        is_reader: Leave no trace beside the journal, and a torn last line as it is.

    Raises:
        StorageUnavailable: The file cannot be opened, or is damaged.
    """
    lock = ProcessLock(path.with_name(f"{path.name}.lock"))
    try:
        if not is_reader:
            make_private_folder(path.parent)
            make_private_file(path)
        storage = _Journal(JournalFile(path, lock))
        if not is_reader:
            lock.acquire()
            try:
                repair_tail(path)
            finally:
                lock.release()
    except OSError as error:
        raise StorageUnavailable(
            f"Cannot open the study file {path}: {error.strerror}.",
            hint="is the folder writable, and the disk not full?",
        ) from error
    return storage


def repair_tail(path: Path) -> None:
    """End or cut off a last line that a crash left unfinished.

    An operation that lacks nothing but its line feed is kept. Any other is cut off, and a copy of
    the file as it was is left beside it. Without this the next operation would be written behind
    the torn one, on the same line, and the journal could never be read again. The journal's lock
    must be held.

    Raises:
        StorageBroken: The file is no journal: its only line does not begin like an operation.
    """
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        if file.read(1) in (b"", b"\n"):
            return
        file.seek(0)
        data = file.read()
        intact = data.rfind(b"\n") + 1
        torn = data[intact:]
        if _operation_in(torn) is not None:
            file.write(b"\n")
            return
        begins = _BEGINNING.startswith(torn[: len(_BEGINNING)]) or not torn.strip(b"\0")
        if intact == 0 and not begins:
            raise damaged(path, 1)
        backup = path.with_name(f"{path.name}.torn-{time.time_ns()}")
        with ExitStack() as undo:
            undo.callback(backup.unlink, missing_ok=True)  # a part would fill what is left
            make_private_file(backup)
            shutil.copyfile(path, backup)
            undo.pop_all()
        file.truncate(intact)
        _log.warning("The last line of %s was torn; cut it off, copy in %s", path, backup.name)
