"""Makes a backup: each part copied while it is in use, then all of them in one archive."""

from __future__ import annotations

import errno
import logging
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

from studyflow import __version__
from studyflow.backup import folder, postgres
from studyflow.backup.archive import ArchiveWriter, new_archive
from studyflow.backup.journal import copy_journal
from studyflow.backup.manifest import Kind, Manifest, Member, Part, PartEntry
from studyflow.backup.places import Place, Places
from studyflow.backup.sqlite import copy_database
from studyflow.errors import BackupError

_log = logging.getLogger(__name__)

PROGRESS_SECONDS: Final = 5.0
"""Pause between two lines about a part that takes long."""

LEFTOVER_SECONDS: Final = 86400.0
"""Age from which the working folder of a backup that was killed is removed by the next one."""

_FILES: Final = {
    Kind.JOURNAL: "storage.journal",
    Kind.SQLITE: "database.sqlite",
    Kind.POSTGRESQL: "database.dump",
}
"""Name of a database's copy in its part."""

_CANNOT_LINK: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
"""How file systems without hard links refuse one: FAT, and many that a network mounts."""

_CANNOT_SYNC: Final = frozenset({errno.EINVAL, errno.EACCES, errno.ENOTSUP, errno.ENOSYS})
"""How file systems refuse `fsync` of a folder that they cannot do; other errors are failures."""

Tell = Callable[[str], None]
"""Is given one line of progress."""


def now_utc() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def back_up(
    places: Places,
    path: Path,
    *,
    tell: Tell,
    now: Callable[[], datetime] = now_utc,
    clock: Callable[[], float] = time.monotonic,
) -> Manifest:
    """Write an archive of an installation; whoever uses it goes on.

    The archive appears under its name once it is complete and on the disk.

    Args:
        places: What belongs into it.
        path: Where it is to be; nothing is there. `.gz` at its end has it compressed.
        tell: Is given one line for each part, and for long ones more.
        now: The time that the archive bears.
        clock: Seconds, monotonic.

    Raises:
        BackupError: A part cannot be copied, or something is at the path.
        BackupUnavailable: A database does not answer, or is kept locked.
        OSError: The disk refuses.
    """
    if path.exists():
        raise BackupError(f"{path} exists already.", hint="name another file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=folder.WORK) as made:
        work, draft = Path(made), Path(made) / path.name
        with new_archive(draft) as archive:
            save = _Save(archive, work, _Progress(tell, clock))
            created_at = f"{now():%Y-%m-%dT%H:%M:%SZ}"
            parts = tuple(entry for place in places.places if (entry := save.part(place)))
            for part, why in places.left_out.items():
                save.progress.tell(f"{part}: left out: {why}")
            manifest = Manifest(
                created_at,
                {**_versions(), **save.versions},
                parts,
                {**places.left_out, **save.left_out},
            )
            archive.close(manifest)
        _publish(draft, path)
    return manifest


class _Save:
    """One backup on its way."""

    def __init__(self, archive: ArchiveWriter, work: Path, progress: _Progress) -> None:
        self._archive = archive
        self._work = work
        self.progress = progress
        self.versions: dict[str, str] = {}
        self.left_out: dict[str, str] = {}

    def part(self, place: Place) -> PartEntry | None:
        """Add one part; return `None` when there is nothing of it.

        Raises:
            BackupError: There are no studies: the address is wrong, or there is nothing to lose.
        """
        if place.kind is not Kind.FOLDER and place.path is not None and not place.path.exists():
            if place.part is Part.STUDIES:
                raise BackupError(
                    f"There is no study storage at {place.path}.",
                    hint="name it by --storage or --home.",
                )
            self.left_out[place.part] = f"there is no {place.path}"
            self.progress.tell(f"{place.part}: there is none at {place.path}")
            return None
        members = self._folder(place) if place.kind is Kind.FOLDER else (self._database(place),)
        entry = PartEntry(place.part, place.kind, place.shown, members)
        n_files = f", {len(members)} entries" if place.kind is Kind.FOLDER else ""
        self.progress.tell(f"{place.part}: {size(entry.n_bytes)}{n_files} of {place.shown}")
        return entry

    def _database(self, place: Place) -> Member:
        copy = self._work / f"{place.part}.copy"
        self.progress.begin(place.part, None)
        if place.kind is Kind.POSTGRESQL:
            self.versions["pg_dump"] = postgres.dump(place.url, copy)
        elif place.kind is Kind.JOURNAL:
            assert place.path is not None
            copy_journal(place.path, copy)
        else:
            assert place.path is not None
            copy_database(place.path, copy)
        name = f"{place.part}/{_FILES[place.kind]}"
        member = self._archive.add_file(copy, name, self.progress.advance)
        copy.unlink()
        return member

    def _folder(self, place: Place) -> tuple[Member, ...]:
        root = place.path
        assert root is not None

        def skips(path: Path) -> bool:
            return place.part is Part.FILES and folder.is_of_living(root, path)

        self.progress.begin(place.part, folder.size_of(root, skips))
        members, left_out = folder.add_folder(
            self._archive, root, place.part, skips=skips, advance=self.progress.advance
        )
        if left_out:
            names = ", ".join(str(path.relative_to(root)) for path in left_out[:3])
            why = (
                f"{len(left_out)} links out of it, sockets, devices or not to be read: {names}"
                f"{', ...' if len(left_out) > 3 else ''}"
            )
            self.left_out[place.part] = why
            self.progress.tell(f"{place.part}: left out {why}")
        return members


class _Progress:
    """Tells a person and the log how far a backup is."""

    def __init__(self, tell: Tell, clock: Callable[[], float]) -> None:
        self._tell = tell
        self._clock = clock
        self._part, self._total, self._n_bytes = "", 0, 0
        self._told_at = clock()

    def tell(self, line: str) -> None:
        """Tell one line."""
        _log.info("%s", line)
        self._tell(line)
        self._told_at = self._clock()

    def begin(self, part: str, n_bytes: int | None) -> None:
        """Begin a part of a size that may be unknown."""
        self._part, self._total, self._n_bytes = part, n_bytes or 0, 0

    def advance(self, n_bytes: int) -> None:
        """Take in that so many more bytes were read."""
        self._n_bytes += n_bytes
        if self._clock() >= self._told_at + PROGRESS_SECONDS:
            of = f" of {size(self._total)}" if self._total else ""
            self.tell(f"{self._part}: {size(self._n_bytes)}{of} …")


def size(n_bytes: int) -> str:
    """Return a number of bytes as a person reads it."""
    number = float(n_bytes)
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def _versions() -> dict[str, str]:
    """Return the versions of what has written the parts."""
    versions = {"studyflow": __version__, "python": platform.python_version()}
    for name in ("optuna", "mlflow"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _remove_leftovers(parent: Path) -> None:
    """Remove the working folders of backups that were killed long ago."""
    for found in parent.glob(f"{folder.WORK}*"):
        try:
            is_old = time.time() - found.stat().st_mtime > LEFTOVER_SECONDS
        except FileNotFoundError:
            continue
        if is_old:
            shutil.rmtree(found, ignore_errors=True)


def _publish(draft: Path, path: Path) -> None:
    """Give a complete archive its name, which nothing has yet, and have the disk store that.

    Raises:
        FileExistsError: Something has the name by now.
        OSError: The disk refuses.
    """
    try:
        os.link(draft, path)  # unlike a renaming, it replaces nothing
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        draft.rename(path)
    try:
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
        _log.info("The disk of %s cannot be asked to store a folder: %s", path.parent, error)
