"""The checkpoints of one attempt: it writes its own, and reads those of the attempts before it.

    <trial>/                         files of studyflow 0.1.0, if any; read and never written
        .attempts/<attempt>/         written by that attempt alone
            files/                   `sdk.checkpoint_dir()`
            published/<number>/      a published checkpoint; see `manifest.py`
            writing-* seeding-*      one, or a copy, that is not complete: nobody reads it

**Fencing.** An attempt on a lost node goes on writing for as long as its node lives. It writes into
its own folder, which no later attempt uses: a later one has copied what it goes on from, or reads a
published checkpoint, which nobody changes. Of two attempts the later one counts, whatever the
earlier one publishes afterwards.

**`files/`** begins as a copy of the newest one of earlier attempts, made under another name and
renamed, so an attempt that was lost while it copied has none. Copied, and not renamed or linked: a
rename does not stop who has the folder open or mounted, and a hard link lets a script that writes
in place reach both.

**Room.** An attempt clears the folders of attempts before the previous one, once it has as much as
they have. One that sees a later attempt removes nothing: that one may be reading it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from studyflow.sdk.console import print_error
from studyflow.sdk.folder_copy import copy_folder, sync_folder
from studyflow.sdk.manifest import DamagedCheckpointError, read_checkpoint, write_manifest
from studyflow.sdk.session import Checkpoint
from studyflow.trial.checkpoint_folders import ATTEMPTS, FILES, CheckpointFolders

PUBLISHED: Final = "published"

_MOST_TRIES: Final = 3
"""How often a folder is looked for whose content went away while it was copied."""


class Checkpoints:
    """See the module's text. Several processes of an attempt may have one each.

    Args:
        folders: Where the attempt's checkpoints are, and those of others.
        attempt: Number of the attempt.
        clock: Seconds since the epoch.
    """

    def __init__(
        self, folders: CheckpointFolders, attempt: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._own = Path(folders.own)
        self._attempts = Path(folders.trial) / ATTEMPTS
        self._retired = tuple(map(Path, folders.retired))
        self._attempt = attempt
        self._clock = clock
        self._lock = threading.RLock()

    # ---- the script's own files ---------------------------------------------------------------

    def files(self) -> Path:
        """Return the folder for the script's own files, with those of the attempt before.

        Raises:
            OSError: The disk takes no more, or a file of the attempt before may not be read.
        """
        folder = self._own / FILES
        if not folder.is_dir():
            self._own.mkdir(parents=True, exist_ok=True)
            with self._lock, _one_process(self._own / ".lock"):
                if not folder.is_dir():
                    self._seed(folder)
                    self._clear_retired(FILES, "seeding-")
        return folder

    def _seed(self, folder: Path) -> None:
        for n_left in reversed(range(_MOST_TRIES)):
            part = self._own / f"seeding-{uuid.uuid4().hex}"
            source = self._newest_files()
            try:
                if source is None:
                    part.mkdir()
                else:
                    copy_folder(source, part, leave_out=ATTEMPTS)
                if source is not None and not source.is_dir() and n_left:
                    continue  # cleared by an attempt that was itself replaced
                _rename_new(part, folder)
            except FileNotFoundError:
                if not n_left:
                    raise
            else:
                return
            finally:
                shutil.rmtree(part, ignore_errors=True)

    def _newest_files(self) -> Path | None:
        """Return the files to go on from; `None` when no attempt has left any."""
        for attempt in self._earlier():
            found = self._attempts / str(attempt) / FILES
            if found.is_dir():
                return found
        shared = self._attempts.parent
        with contextlib.suppress(OSError), os.scandir(shared) as entries:
            if any(entry.name != ATTEMPTS for entry in entries):
                return shared
        return None

    # ---- published checkpoints ----------------------------------------------------------------

    @contextmanager
    def publish(self, step: int, keep: int) -> Iterator[Path]:
        """Give a folder to save a checkpoint in, and publish it when the block ends in order.

        Args:
            step: Its step.
            keep: How many published checkpoints of this attempt stay.

        Raises:
            ValueError: Nothing was saved.
            OSError: The disk takes no more. Nothing is published then.
        """
        part = self._own / f"writing-{uuid.uuid4().hex}"
        (part / FILES).mkdir(parents=True)
        try:
            yield part / FILES
            write_manifest(part, step, self._attempt, self._clock())
            with self._lock:
                self._publish(part)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        # Only now, and only if there is no later attempt yet: one that begins after this look finds
        # what was just published, and reads none of those that go.
        self._clear_own(keep)
        self._clear_retired(PUBLISHED, "writing-")

    def _publish(self, part: Path) -> None:
        published = self._own / PUBLISHED
        published.mkdir(exist_ok=True)
        while True:
            newest = max(_numbers_in(published), default=0)
            name = published / str(newest + 1)
            try:
                part.rename(name)
            except OSError:
                if not name.exists():
                    raise
            else:
                sync_folder(published)
                return
            # Another process of this attempt was faster.

    def last(self) -> Checkpoint | None:
        """Return the checkpoint to go on from; `None` when there is none that is whole.

        That is the last one of the newest attempt that published any. A damaged one is told on
        standard error, and the one before it is returned.
        """
        for attempt in (self._attempt, *self._earlier()):
            own = attempt == self._attempt
            published = (self._own if own else self._attempts / str(attempt)) / PUBLISHED
            for number in sorted(_numbers_in(published), reverse=True):
                try:
                    return read_checkpoint(published / str(number))
                except DamagedCheckpointError as error:
                    print_error(
                        f"studyflow: checkpoint {number} of attempt {attempt} is damaged and left "
                        f"out: {error}.\n"
                    )
        return None

    # ---- room ---------------------------------------------------------------------------------

    def _clear_own(self, keep: int) -> None:
        published = self._own / PUBLISHED
        old = sorted(_numbers_in(published))[:-keep]
        if old and not self._has_successor():
            for number in old:
                _remove_at_once(published / str(number), self._own)

    def _clear_retired(self, name: str, unfinished: str) -> None:
        """Clear what earlier attempts have of one kind.

        Args:
            name: The kind.
            unfinished: How names begin of what they have not completed of it.
        """
        if not self._retired or self._has_successor():
            return
        for folder in self._retired:
            _remove_at_once(folder / name, folder)
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith((unfinished, "removed-")):
                        shutil.rmtree(entry.path, ignore_errors=True)

    def _has_successor(self) -> bool:
        """Return whether a later attempt has begun: then this one counts no more."""
        return any(attempt > self._attempt for attempt in _numbers_in(self._attempts))

    def _earlier(self) -> list[int]:
        """Return the attempts before this one that have a folder, newest first."""
        found = (attempt for attempt in _numbers_in(self._attempts) if attempt < self._attempt)
        return sorted(found, reverse=True)


def _numbers_in(folder: Path) -> list[int]:
    try:
        with os.scandir(folder) as entries:
            return [int(entry.name) for entry in entries if entry.name.isdecimal()]
    except OSError:
        return []


def _rename_new(part: Path, folder: Path) -> None:
    """Give a complete folder its name, unless another process was faster."""
    try:
        part.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    sync_folder(folder.parent)


def _remove_at_once(folder: Path, where: Path) -> None:
    """Remove a folder so that nobody finds half of it; one that cannot be removed stays."""
    aside = where / f"removed-{uuid.uuid4().hex}"
    with contextlib.suppress(OSError):
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _one_process(path: Path) -> Iterator[None]:
    """Let processes of one attempt copy one after the other: the second finds a copy.

    Where files cannot be locked, each makes its own, and the first one counts.
    """
    with path.open("ab") as lock:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
