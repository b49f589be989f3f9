"""Files that a training script made, or could have replaced: read without trusting what they are.

A script runs as the same user as its runner and can put anything in place of any file of its
attempt: a folder, a pipe, a device, a link to another place, a file of 1 TB without content. So
what is read here is a regular file, found without following a link and opened without waiting.

**Artifacts** are found by `gather`, for everybody who copies or uploads them:

- regular files are kept, with the size they have at that moment;
- a link is kept as the content of the regular file that it points to, if that is in the same
  artifact folder. Links that lead out of it, to a folder or to nothing are left out;
- pipes, sockets, devices and files that may not be read are left out;
- all files together have at most `MAX_BYTES` and `MAX_FILES`; those beyond, in the order of names,
  are left out; so is a folder with more entries than that.

Standard library only: this module is part of every trial image.
"""

from __future__ import annotations

import enum
import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

MAX_BYTES: Final = 100 << 30
"""Most bytes of all artifacts that are gathered at once, 100 GiB: holes count like content."""

MAX_FILES: Final = 100_000
"""Most artifacts that are gathered at once."""

MAX_DEPTH: Final = 64
"""Folders below this depth are left out."""

METRICS_LIMIT_BYTES: Final = 256 << 20
"""Of a longer file of metrics, what is beyond this is not read: some 5 million points."""

CHUNK_BYTES: Final = 1 << 20

_UNFINISHED: Final = re.compile(r"\.\d+\.part")
"""The name under which `studyflow.sdk` copies an artifact: one left over is not whole."""

_NOT_A_FILE: Final = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.EINVAL, errno.ENXIO),
        *(errno.ENODEV, errno.ENAMETOOLONG, errno.EOPNOTSUPP, errno.ETXTBSY),
    }
)
"""What the operating system says of things that are no files, or not for this user. Other errors
are the disk's."""


class Kind(enum.Enum):
    """What stands at a path, links not followed."""

    NOTHING = "nothing"
    FILE = "a regular file"
    OTHER = "something else"


class NotAFileError(OSError):
    """There is something at a path that is no regular file, or that may not be read."""


def kind_of(path: Path) -> Kind:
    """Return what stands at a path.

    Raises:
        OSError: The disk does not answer.
    """
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return Kind.NOTHING
    except OSError as error:
        if error.errno in _NOT_A_FILE:
            return Kind.OTHER
        raise
    return Kind.FILE if stat.S_ISREG(mode) else Kind.OTHER


def open_file(path: Path) -> BinaryIO:
    """Return a regular file, opened for reading; waits for no writer and follows no link.

    Raises:
        FileNotFoundError: There is nothing.
        NotAFileError: There is something else than a regular file, or it may not be read.
        OSError: The disk does not answer.
    """
    try:
        # Looked at before it is opened: opening a device may do something.
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise NotAFileError(errno.EINVAL, "is no regular file", str(path))
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except NotAFileError:
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(*error.args) from error
    except OSError as error:
        if error.errno in _NOT_A_FILE:
            raise NotAFileError(*error.args) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAFileError(errno.EINVAL, "is no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_piece(path: Path, limit_bytes: int, *, from_end: bool = False) -> bytes | None:
    """Return the first or last bytes of a regular file; `None` when there is none.

    `kind_of` tells whether there is nothing or something else.

    Raises:
        OSError: The disk does not answer.
    """
    try:
        with open_file(path) as file:
            if from_end:
                file.seek(max(0, os.fstat(file.fileno()).st_size - limit_bytes))
            return file.read(limit_bytes)
    except (FileNotFoundError, NotAFileError):
        return None


def copy_file(source: Path, target: Path, size: int) -> None:
    """Copy the first bytes of a regular file, as many as it had when it was looked at.

    Raises:
        OSError: It is no regular file any more, or cannot be read or written.
    """
    left = size
    with open_file(source) as file, target.open("xb") as copy:
        while left and (chunk := file.read(min(CHUNK_BYTES, left))):
            copy.write(chunk)
            left -= len(chunk)
        status = os.fstat(file.fileno())
    target.chmod(stat.S_IMODE(status.st_mode) | stat.S_IRUSR | stat.S_IWUSR)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file among the artifacts."""

    path: Path
    """Where its content is: a regular file."""
    name: str
    """Its place among the artifacts, with slashes."""
    size: int
    """Bytes that it had when it was looked at."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something among the artifacts that is not kept."""

    name: str
    reason: str


@dataclass(slots=True)
class Gathered:
    """The files among some artifacts, and what is left out."""

    files: list[Artifact] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    n_left_out: int = 0
    """All that is left out; `left_out` holds the first hundred."""

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    def describe_left_out(self, limit: int = 3) -> str:
        """Return in half a line what is left out; empty when nothing is."""
        if not self.n_left_out:
            return ""
        shown = ", ".join(f"{_shown(x.name)} ({x.reason})" for x in self.left_out[:limit])
        more = self.n_left_out - min(limit, len(self.left_out))
        return f"{shown} and {more} more" if more else shown


def gather(
    sources: Iterable[tuple[Path, str, Path]],
    *,
    max_files: int = MAX_FILES,
    max_bytes: int = MAX_BYTES,
) -> Gathered:
    """Return the files among some artifacts, in the order of names; never raises.

    Args:
        sources: Each file or folder, the name it gets, and the folder that links must not leave.
        max_files: Files beyond this many are left out.
        max_bytes: Files that bring all together above this size are left out.
    """
    return _Walk(max_files, max_bytes).run(sources)


class _Walk:
    def __init__(self, max_files: int, max_bytes: int) -> None:
        self._found = Gathered()
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._bytes = 0
        self._n_seen = 0

    def run(self, sources: Iterable[tuple[Path, str, Path]]) -> Gathered:
        for path, name, within in sources:
            # Not by recursion: a script may nest folders deeper than the interpreter's stack.
            waiting = [(path, name, 0)]
            real = Path(os.path.realpath(within))
            while waiting:
                path, name, depth = waiting.pop()
                if self._n_seen > 2 * self._max_files:  # folders count too: no tree is endless
                    self._leave_out(name, f"beyond {self._max_files} files")
                    break
                try:
                    waiting += reversed(list(self._look(path, name, depth, real)))
                except (OSError, ValueError) as error:
                    reason = getattr(error, "strerror", None) or type(error).__name__
                    self._leave_out(name, f"cannot be read: {reason}")
        return self._found

    def _look(
        self, path: Path, name: str, depth: int, within: Path
    ) -> Iterator[tuple[Path, str, int]]:
        """Take in one file, or yield what is in a folder."""
        self._n_seen += 1
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            if depth == MAX_DEPTH:
                self._leave_out(name, f"more than {MAX_DEPTH} folders deep")
                return
            with os.scandir(path) as entries:
                names = [entry.name for entry in islice(entries, self._max_files + 1)]
            if len(names) > self._max_files:
                self._leave_out(name, f"a folder of more than {self._max_files} files")
                return
            for entry in sorted(names):
                yield path / entry, f"{name}/{entry}" if name else entry, depth + 1
            return
        if stat.S_ISLNK(status.st_mode):
            path = Path(os.path.realpath(path))
            reason = _refuse_target(path, within)
            if reason is not None:
                self._leave_out(name, reason)
                return
            status = os.lstat(path)
        self._take(path, name, status)

    def _take(self, path: Path, name: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            self._leave_out(name, _NAMES.get(stat.S_IFMT(status.st_mode), "no regular file"))
        elif _UNFINISHED.fullmatch(path.name):
            self._leave_out(name, "half copied")
        elif not os.access(path, os.R_OK):
            self._leave_out(name, "may not be read")
        elif len(self._found.files) >= self._max_files:
            self._leave_out(name, f"beyond {self._max_files} files")
        elif self._bytes + status.st_size > self._max_bytes:
            limit = self._max_bytes / 2**30
            size = status.st_size / 2**30
            self._leave_out(name, f"{size:.4g} GiB, with what is before it beyond {limit:g} GiB")
        else:
            self._bytes += status.st_size
            self._found.files.append(Artifact(path, name, status.st_size))

    def _leave_out(self, name: str, reason: str) -> None:
        self._found.n_left_out += 1
        if len(self._found.left_out) < _MOST_NAMED:
            self._found.left_out.append(LeftOut(name, reason))


_MOST_NAMED: Final = 100

_NAMES: Final = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _refuse_target(target: Path, within: Path) -> str | None:
    """Return why a link to this place is left out; `None` to keep what is there."""
    if not os.path.lexists(target):
        return "a link to nothing"
    if target.is_symlink():
        return "a link to itself"
    if not target.is_relative_to(within):
        return "a link that leads out of the folder"
    return "a link to a folder" if target.is_dir() else None


def _shown(name: str) -> str:
    plain = "".join(c if c.isprintable() else "?" for c in name) or "all of it"
    return plain if len(plain) <= 60 else f"…{plain[-59:]}"
