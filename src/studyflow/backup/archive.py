"""The archive: a tar file whose last member, the manifest, says what the others are.

Without the manifest an archive is incomplete, so a backup that was killed is never restored.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final

from studyflow.backup.manifest import Manifest, Member, Part
from studyflow.errors import BackupError, BackupUnavailable
from studyflow.reasons import Code

MANIFEST: Final = "manifest.json"

MANIFEST_LIMIT_BYTES: Final = 1 << 30
"""Longest manifest that is read: 150 bytes for each file make several million files."""

_CHUNK_BYTES: Final = 1 << 20

WHOLE_BYTES: Final = 8 << 20
"""Up to this size a file is read as a whole, so that it may grow or be replaced meanwhile."""

Advance = Callable[[int], None]
"""Is told how many bytes were read since it was last called."""


Receive = Callable[[tarfile.TarInfo, io.RawIOBase | None], None]
"""Is given a member of an archive, and its content where it is a file."""


class ArchiveWriter:
    """Writes members of an archive. Made by `new_archive`."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def add_file(self, path: Path, name: str, advance: Advance) -> Member:
        """Add a file as it is at this moment.

        Raises:
            BackupUnavailable: It became shorter while it was read.
            OSError: It is gone, or the disk refuses.
        """
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            source: IO[bytes] = file
            info = tarfile.TarInfo(name)
            info.size, info.mtime = status.st_size, int(status.st_mtime)
            info.mode = status.st_mode & 0o777
            if status.st_size <= WHOLE_BYTES:
                whole = file.read(status.st_size)
                info.size, source = len(whole), io.BytesIO(whole)
            reader = _DigestReader(source, advance)
            try:
                self._tar.addfile(info, reader)
            except OSError as error:
                if reader.n_bytes < info.size and not error.errno:
                    raise BackupUnavailable(
                        f"{path} became shorter while it was read.", hint="make the backup again."
                    ) from error
                raise
            return Member(name, info.size, reader.hexdigest())

    def add_link(self, target: str, name: str) -> Member:
        """Add a symbolic link."""
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.SYMTYPE, target
        self._tar.addfile(info)
        return Member(name, 0, hashlib.sha256(os.fsencode(target)).hexdigest())

    def add_folder(self, name: str, mode: int) -> Member:
        """Add a folder, which may stay empty."""
        info = tarfile.TarInfo(name)
        info.type, info.mode = tarfile.DIRTYPE, mode & 0o777
        self._tar.addfile(info)
        return Member(name, 0, hashlib.sha256().hexdigest())

    def close(self, manifest: Manifest) -> None:
        """Add the manifest; nothing comes after it."""
        data = manifest.to_json().encode()
        info = tarfile.TarInfo(MANIFEST)
        info.size, info.mode = len(data), 0o600
        self._tar.addfile(info, io.BytesIO(data))


@contextlib.contextmanager
def new_archive(path: Path) -> Iterator[ArchiveWriter]:
    """Give the writer of a new archive, readable for its owner alone, on the disk afterwards.

    Args:
        path: Where it is written; `.gz` at its end has it compressed.

    Raises:
        FileExistsError: Something is there.
        OSError: The disk refuses.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), 0o600)  # whatever the umask says
        if path.suffix in (".gz", ".tgz"):
            # 1: what is large in a backup is dumps and models, which are compressed already.
            with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as tar:
                yield ArchiveWriter(tar)
        else:
            with tarfile.open(fileobj=file, mode="w") as tar:
                yield ArchiveWriter(tar)
        file.flush()
        os.fsync(file.fileno())


def read_archive(path: Path, receive: Receive | None = None) -> Manifest:
    """Return an archive's manifest, once every byte of the archive was found as it was written.

    Args:
        path: The archive.
        receive: Is given each member of it, with its content where it is a file; it may read the
            content to its end or not at all.

    Raises:
        BackupError: It is no archive, incomplete or damaged.
        OSError: It cannot be read.
    """
    found: dict[str, Member] = {}
    text: bytes | None = None
    try:
        with tarfile.open(path, "r|*") as tar:
            for info in tar:
                if text is not None:
                    raise _damaged(path, "something stands behind its manifest")
                if info.name == MANIFEST:
                    text = _content(tar, info).read(MANIFEST_LIMIT_BYTES)
                    continue
                if info.name in found or not _is_safe(info):
                    raise _damaged(path, f"{info.name!r} does not belong into it")
                found[info.name] = _read_member(tar, info, receive)
    except (tarfile.TarError, EOFError, zlib.error, UnicodeError) as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        if error.errno:
            raise
        raise _damaged(path, str(error)) from error  # gzip's own: a wrong check sum
    if text is None:
        raise _damaged(path, "its manifest is missing: it was never finished, or is cut")
    manifest = Manifest.from_json(text)
    wanted = {member.path: member for entry in manifest.parts for member in entry.members}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise _damaged(path, f"{name!r} is not as it was written")
    return manifest


def _read_member(
    tar: tarfile.TarFile,
    info: tarfile.TarInfo,
    receive: Receive | None,
) -> Member:
    if info.isfile():
        reader = _DigestReader(_content(tar, info), lambda _: None)
        if receive is not None:
            receive(info, reader)
        while reader.read(_CHUNK_BYTES):
            pass
        return Member(info.name, reader.n_bytes, reader.hexdigest())
    if receive is not None:
        receive(info, None)
    target = info.linkname if info.issym() else ""
    return Member(info.name, 0, hashlib.sha256(os.fsencode(target)).hexdigest())


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(info)
    if content is None:
        raise tarfile.ReadError(f"{info.name!r} is no file")
    return content


def is_inside(name: str, target: str) -> bool:
    """Return whether a link stays below the first folder of its own name.

    Args:
        name: The link's name, relative.
        target: What it points to.
    """
    if not target or PurePosixPath(target).is_absolute():
        return False
    depth = len(PurePosixPath(name).parts) - 2
    for piece in PurePosixPath(target).parts:
        depth += -1 if piece == ".." else 1
        if depth < 0:
            return False
    return True


def _is_safe(info: tarfile.TarInfo) -> bool:
    """Return whether a member may be written below the folder of its part."""
    name = PurePosixPath(info.name)
    if len(name.parts) < 2 or name.parts[0] not in set(Part) or ".." in name.parts:
        return False
    if info.issym():
        return is_inside(info.name, info.linkname)
    return info.isfile() or info.isdir()


def _damaged(path: Path, why: str) -> BackupError:
    return BackupError(
        f"The archive {path} cannot be restored: {why}.",
        hint="restore another backup; nothing was changed.",
        code=Code.BACKUP_DAMAGED,
    )


class _DigestReader(io.RawIOBase):
    """Passes on what is read, and digests it."""

    def __init__(self, source: IO[bytes], advance: Advance) -> None:
        super().__init__()
        self._source = source
        self._advance = advance
        self._digest = hashlib.sha256()
        self.n_bytes = 0

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._digest.update(data)
        self.n_bytes += len(data)
        self._advance(len(data))
        return data

    def hexdigest(self) -> str:
        return self._digest.hexdigest()
