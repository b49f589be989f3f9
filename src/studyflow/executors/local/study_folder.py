"""The folder of one study on this machine: where its attempts are, and that it is still there."""

from __future__ import annotations

import functools
import logging
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from studyflow.errors import ExecutorUnavailable
from studyflow.executors.local.files import (
    LAUNCH,
    as_unavailable,
    is_file,
    is_sealed_launch,
    make_folder,
    remove,
    replace_file,
)
from studyflow.executors.local.keys import AttemptKeys
from studyflow.executors.protocol import AttemptId
from studyflow.trial.private_files import make_private_folder
from studyflow.trial.user_files import read_piece

logger = logging.getLogger(__name__)

OPEN: Final = "open"
"""Folder of a study with an entry for each attempt that is submitted and not forgotten."""

TRIALS: Final = "trials"
"""Folder of a study with a folder for each trial."""

ID_LIMIT_BYTES: Final = 100
"""More than the number of a folder has."""

_ID: Final = "place"
_KEYS: Final = "keys.json"


def site_of(root: Path) -> str | None:
    """Return `LocalExecutor.site` of a study's folder on this machine; `None` before its first.

    Args:
        root: The study's folder; nothing is changed in it.
    """
    try:
        found = read_piece(root / _ID, ID_LIMIT_BYTES)
    except OSError:
        return None
    return None if found is None else _site(found.decode(errors="replace"))


def _site(folder_id: str) -> str:
    return f"{socket.gethostname()}/{folder_id}"


class StudyFolder:
    """A study's folder, made if missing, and made again when it is removed.

    Args:
        root: Where it is, on a local disk.
        keep: Called by each `restore`, once the folder is there.
        tell: Hears of files that another process changed.

    Raises:
        ExecutorUnavailable: It cannot be written to.
    """

    def __init__(
        self,
        root: Path,
        keep: Callable[[], None] | None = None,
        tell: Callable[[str], None] = logger.warning,
    ) -> None:
        self.root = root.absolute()
        self.keys = AttemptKeys(self.root / _KEYS, self._unsealed_attempts, tell)
        self._keep = keep or (lambda: None)
        self._descriptor: int | None = None
        """Of the folder that `root` was when it was last there: tells whether it is that still."""
        with as_unavailable("prepare", self.root):
            make_private_folder(self.root)
            self._make_folders()
            self._descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)

    @property
    def site(self) -> str:
        """This machine's name, and a number that the folder keeps: machines may share a name.

        Raises:
            ExecutorUnavailable: The number can be neither read nor written.
        """
        return _site(self._id)

    def trial(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.root / TRIALS / str(number)

    def attempt(self, attempt: AttemptId) -> Path:
        """Return the folder of an attempt."""
        return self.trial(attempt.number) / f"attempt-{attempt.attempt}"

    def open_entry(self, attempt: AttemptId) -> None:
        """Have `open_attempts` name an attempt.

        Raises:
            OSError: The disk refuses.
        """
        self._entry(attempt).touch()

    def close_entry(self, attempt: AttemptId) -> None:
        """Have `open_attempts` name an attempt no more.

        Raises:
            OSError: The disk refuses.
        """
        remove(self._entry(attempt))

    def has_entry(self, attempt: AttemptId) -> bool:
        """Return whether `open_attempts` names an attempt."""
        return self._entry(attempt).exists()

    def open_attempts(self) -> set[AttemptId]:
        """Return the attempts that were submitted and not forgotten, by whichever runner.

        Raises:
            OSError: The disk does not answer.
        """
        found = set()
        for entry in os.scandir(self.root / OPEN):
            number, _, attempt = entry.name.partition("-")
            if number.isdecimal() and attempt.isdecimal():
                found.add(AttemptId(int(number), int(attempt)))
        return found

    def restore(self) -> None:
        """Make the folder again if it was removed. Does nothing once `close` was called.

        Raises:
            ExecutorUnavailable: It is somewhere else now.
            OSError: The disk does not answer.
        """
        if self._descriptor is None:
            return
        if not self.is_there():
            is_removed = os.fstat(self._descriptor).st_nlink == 0
            if not is_removed and not self.root.exists():
                raise ExecutorUnavailable(
                    f"The study's folder {self.root} was moved or its disk taken away.",
                    hint="bring it back; or end this runner, and run the study again.",
                )
            logger.warning("%s was removed and is made again; its running trials end", self.root)
            make_private_folder(self.root)
            os.close(self._descriptor)
            self._descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        self._keep()
        self._make_folders()
        if "_id" in self.__dict__ and not is_file(self.root / _ID):
            self._write_id(self._id)
        self.keys.restore()

    def is_there(self) -> bool:
        """Return whether the folder is the one that it was."""
        if self._descriptor is None:
            return self.root.is_dir()
        try:
            return os.path.samestat(self.root.stat(), os.fstat(self._descriptor))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def close(self) -> None:
        """Let go of the folder."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @functools.cached_property
    def _id(self) -> str:
        with as_unavailable("prepare", self.root):
            found = (read_piece(self.root / _ID, ID_LIMIT_BYTES) or b"").decode(errors="replace")
            if not found.strip():
                found = uuid.uuid4().hex[:8]
                self._write_id(found)
            return found

    def _write_id(self, folder_id: str) -> None:
        replace_file(self.root / _ID, folder_id)  # a folder has one runner at a time

    def _entry(self, attempt: AttemptId) -> Path:
        return self.root / OPEN / str(attempt)

    def _unsealed_attempts(self) -> list[AttemptId]:
        """Return the attempts that an earlier version of studyflow has launched."""
        return [
            attempt
            for attempt in self._attempts()
            if is_file(launch := self.attempt(attempt) / LAUNCH) and not is_sealed_launch(launch)
        ]

    def _attempts(self) -> Iterator[AttemptId]:
        """Yield every attempt that has a folder."""
        for folder in (self.root / TRIALS).glob("*/attempt-*"):
            number, attempt = folder.parent.name, folder.name.removeprefix("attempt-")
            if number.isdecimal() and attempt.isdecimal():
                yield AttemptId(int(number), int(attempt))

    def _make_folders(self) -> None:
        for name in (OPEN, TRIALS):
            make_folder(self.root / name)
