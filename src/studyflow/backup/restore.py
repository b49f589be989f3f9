"""The way back: an archive checked as a whole, unpacked beside what it replaces, then switched."""

from __future__ import annotations

import io
import logging
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from studyflow.backup import postgres
from studyflow.backup.archive import read_archive
from studyflow.backup.folder import WORK
from studyflow.backup.in_use import refuse_used
from studyflow.backup.manifest import Kind, Manifest, Part, PartEntry
from studyflow.backup.places import Place, Places
from studyflow.backup.save import Tell, now_utc, size
from studyflow.backup.sqlite import move_addresses
from studyflow.errors import BackupError
from studyflow.trial.private_files import private_opener

_log = logging.getLogger(__name__)

_SIDE_FILES: Final = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database, which belongs to no other one."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One part on its way back."""

    entry: PartEntry
    place: Place
    staged: Path
    """Where its content is unpacked: beside its place, so that a renaming brings it there."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore has done."""

    manifest: Manifest
    parts: tuple[Part, ...]
    """The parts that are back."""


def check_archive(path: Path) -> Manifest:
    """Return an archive's manifest, once every byte of it was found as it was written.

    Raises:
        BackupError: It is incomplete or damaged, or of a later format.
        OSError: It cannot be read.
    """
    return read_archive(path)


def restore(
    path: Path,
    places: Places,
    *,
    replace: bool,
    tell: Tell,
    now: Callable[[], datetime] = now_utc,
) -> Restored:
    """Bring an archive's parts back.

    Nothing is touched before the whole archive was checked and every target was looked at. Files
    are unpacked beside their places and renamed into them, and renamed back when a later step
    fails; each PostgreSQL database is replaced in one transaction. MLflow's comes before that of
    the studies: whatever MLflow lacks of these it is sent again.

    Args:
        path: The archive.
        places: Where the parts belong.
        replace: Whether what is there may go. Replaced files stay beside their places.
        tell: Is given a line for each step.
        now: The time that replaced files bear in their names.

    Raises:
        BackupError: The archive is damaged, does not fit these places, or these are not empty.
        BackupUnavailable: Somebody works on what would be replaced, or a database is away.
        OSError: The disk refuses.
    """
    say = _teller(tell)
    manifest = check_archive(path)
    say(f"{path} is whole: made {manifest.created_at} by studyflow {_maker(manifest)}")
    pairs = _pairs(manifest, places)
    databases = [place for _, place in pairs if place.kind is Kind.POSTGRESQL]
    refuse_used(places.home, databases)
    occupied = [
        *(str(place.path) for _, place in pairs if place.path is not None and _holds(place.path)),
        *(place.shown for place in databases if not postgres.look(place.url).is_empty),
    ]
    if occupied and not replace:
        raise BackupError(
            f"Not empty: {', '.join(occupied)}.",
            hint="--replace has the backup take the place of what is there, after you have backed "
            "that up too.",
        )
    with ExitStack() as stack:
        steps = _unpack(path, manifest, pairs, stack)
        _move_artifacts(steps, say)
        os.sync()  # what is renamed over the old is on the disk as a whole
        return _switch(manifest, steps, say, f"replaced-{now():%Y%m%dT%H%M%SZ}")


def _teller(tell: Tell) -> Tell:
    def say(line: str) -> None:
        _log.info("%s", line)
        tell(line)

    return say


def _maker(manifest: Manifest) -> str:
    return manifest.versions.get("studyflow", "?")


def _pairs(manifest: Manifest, places: Places) -> list[tuple[PartEntry, Place]]:
    """Return each part of an archive with the place where it belongs.

    Raises:
        BackupError: There is no such place, or it is of another kind.
    """
    pairs = []
    for entry in manifest.parts:
        place = places.place(entry.part)
        if place is None:
            raise BackupError(
                f"The archive holds {entry.part}, and there is no place for it here: "
                f"{places.left_out.get(entry.part, 'none was named')}.",
                hint="name it as it was named for the backup.",
            )
        if place.kind is not entry.kind:
            raise BackupError(
                f"The archive holds {entry.part} as {entry.kind}, and {place.shown} is "
                f"{place.kind}.",
                hint=f"name a place of the kind {entry.kind}; docs/backup.md says how to go on "
                "from there to another kind.",
            )
        if place.path is not None and place.path.is_mount():
            raise BackupError(
                f"{place.path} is a mount point, which cannot be replaced as a whole.",
                hint="name a folder inside it.",
            )
        pairs.append((entry, place))
    return pairs


def _holds(path: Path) -> bool:
    """Return whether something is at a path: a file with content, or a folder with an entry."""
    if path.is_dir():
        return any(path.iterdir())
    return path.exists() and path.stat().st_size > 0


def _unpack(
    path: Path, manifest: Manifest, pairs: list[tuple[PartEntry, Place]], stack: ExitStack
) -> list[_Step]:
    """Write an archive's content beside the places where it belongs.

    Raises:
        BackupError: The archive is not the one that was checked.
    """
    steps = []
    for entry, place in pairs:
        parent = _room_beside(path) if place.path is None else place.path.parent
        parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(dir=parent, prefix=WORK, ignore_cleanup_errors=True)
        work = Path(stack.enter_context(made))
        staged = work / entry.part
        staged.mkdir()
        steps.append(_Step(entry, place, staged))
    roots = {step.entry.part: step.staged.parent for step in steps}
    folders: list[tuple[Path, int]] = []
    links: list[tuple[Path, str]] = []

    def receive(info: tarfile.TarInfo, content: io.RawIOBase | None) -> None:
        root = roots.get(Part(info.name.partition("/")[0]))
        if root is None:
            raise _replaced(path)
        target = root / info.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            with open(target, "xb", opener=private_opener) as file:
                shutil.copyfileobj(content, file, 1 << 20)
                os.fchmod(file.fileno(), info.mode & 0o777)
            os.utime(target, (info.mtime, info.mtime))
        elif info.issym():
            links.append((target, info.linkname))
        else:
            target.mkdir(exist_ok=True)
            folders.append((target, info.mode))

    if read_archive(path, receive) != manifest:
        raise _replaced(path)
    for target, link in links:  # last, so that no file is written through one
        target.symlink_to(link)
    for folder, mode in reversed(folders):  # what is in a folder comes before its mode
        folder.chmod(mode & 0o777)
    return steps


def _replaced(path: Path) -> BackupError:
    """Return the error of an archive that is another one than a moment ago, when it was checked."""
    return BackupError(
        f"{path} was replaced while it was read; nothing was changed.", hint="restore it again."
    )


def _room_beside(archive: Path) -> Path:
    """Return the archive's folder, whose disk has room for what is in it, if that is writable."""
    parent = archive.absolute().parent
    return parent if os.access(parent, os.W_OK) else Path(tempfile.gettempdir())


def _move_artifacts(steps: list[_Step], say: Tell) -> None:
    """Have an embedded MLflow's database name the folder that its artifacts come back to."""
    by_part = {step.entry.part: step for step in steps}
    database, artifacts = by_part.get(Part.MLFLOW), by_part.get(Part.ARTIFACTS)
    if database is None or artifacts is None or database.entry.kind is not Kind.SQLITE:
        return
    old, new = artifacts.entry.source, artifacts.place.shown
    if old != new:
        n_changed = move_addresses(_only_file(database), old, new)
        say(f"mlflow: {n_changed} addresses of artifacts now name {new}, no longer {old}")


def _only_file(step: _Step) -> Path:
    [file] = step.staged.iterdir()
    return file


def _switch(manifest: Manifest, steps: list[_Step], say: Tell, aside: str) -> Restored:
    """Bring what was unpacked to its places; undo what was renamed when a later step fails."""
    kept: list[Path] = []
    done: list[Part] = []
    committed: list[Part] = []
    with ExitStack() as undo:
        # Files first: that can be undone. A database's transaction cannot, once it is through.
        for step in sorted(steps, key=lambda step: step.place.path is None):
            if step.place.path is None:
                try:
                    postgres.load(step.place.url, _only_file(step), step.staged.parent / "sql")
                except BackupError as error:
                    raise _half_done(error, committed) from error
                committed.append(step.entry.part)
            else:
                kept += _rename(step, step.place.path, aside, undo)
            done.append(step.entry.part)
            say(f"{step.entry.part}: {size(step.entry.n_bytes)} at {step.place.shown}")
        undo.pop_all()
    for path in kept:
        say(f"what was there before is at {path}; remove it once the studies go on")
    return Restored(manifest, tuple(done))


def _rename(step: _Step, target: Path, aside: str, undo: ExitStack) -> list[Path]:
    """Rename what was unpacked to its place; return where what was there is now."""
    source = step.staged if step.entry.kind is Kind.FOLDER else _only_file(step)
    moved = []
    sides = _SIDE_FILES if step.entry.kind is Kind.SQLITE else ()
    for old in (target, *(target.with_name(f"{target.name}{side}") for side in sides)):
        if os.path.lexists(old):
            new = old.with_name(f"{old.name}.{aside}")
            old.rename(new)
            undo.callback(new.rename, old)
            moved.append(new)
    source.rename(target)
    undo.callback(target.rename, source)
    return moved


def _half_done(error: BackupError, committed: list[Part]) -> BackupError:
    """Return an error that also says which databases are back already."""
    if not committed:
        return error
    return type(error)(
        f"{error.message} The database of {', '.join(committed)} is back already; all others are "
        "as they were.",
        hint="fix it and restore again with --replace.",
        code=error.code,
    )
