"""The metrics that a script reports, as they come into a file of its attempt."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from studyflow.errors import DocumentError
from studyflow.executors.diagnosis import readable
from studyflow.trial import BEGINNING_BYTES, MetricPoint
from studyflow.trial.user_files import METRICS_LIMIT_BYTES, NotAFileError, open_file

logger = logging.getLogger(__name__)

METRICS_BYTES_PER_POLL: Final = 1 << 20
"""Most bytes of one attempt's metrics that one `poll` reads, some 20,000 points: a script that
reports in a tight loop must not hold up the others."""

METRICS_BYTES_PER_ATTEMPT: Final = METRICS_LIMIT_BYTES
"""Metrics beyond this stay in the file and are not shown to the study."""

_COMPARED_BYTES: Final = 256
"""How much of what was read of a file is compared before it is read on."""

_REFUSED_BYTES: Final = 4096
"""How much of a line that is no report is kept for a message."""


class MetricsReader:
    """Reads a file that a script appends to: each line once, torn and foreign lines never.

    A file that was replaced or cut off is read from its beginning: what stands last in it counts.

    Args:
        path: Where the file is.
        key: The attempt's, whose seal each line must have; `None` to take any line.
    """

    def __init__(self, path: Path, key: str | None = None) -> None:
        self._path = path
        self._key = key
        self.n_foreign = 0
        """Lines that lack the attempt's seal: another process wrote them."""
        self._version: tuple[int, int, int] | None = None
        """Of the file when it was last read."""
        self._offset = 0
        self._read_last = b""
        """What stands before the offset: where it does not any more, the file is another one."""
        self._seen = 0
        """Size of the file when last read; more than `_offset` when its last line is torn."""
        self._in_long_line = False
        self._refused = b""
        """The last line, if it is no report; empty if it is one."""
        self._is_damaged = False
        self._has_warned = False
        self.is_exhausted = False
        """Whether the last `read` took everything there was."""

    def version(self) -> tuple[int, int, int] | None:
        """Return what changes whenever there is something to read; `None` without a file."""
        try:
            status = os.lstat(self._path)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def has_more(self) -> bool:
        """Whether the file has changed since it was read, or was not read to its end."""
        version = self.version()
        if version is None or self._offset >= METRICS_BYTES_PER_ATTEMPT:
            return False
        return version != self._version or version[-1] > self._seen

    def read(self) -> tuple[MetricPoint, ...]:
        """Return the points of complete lines that were not returned before, a bounded number."""
        self.is_exhausted = True
        if not self.has_more():
            return ()
        try:
            with open_file(self._path) as file:
                status = os.fstat(file.fileno())
                if not self._is_continued(file, status):
                    self._offset, self._in_long_line = 0, False
                    self.n_foreign = 0
                file.seek(self._offset)
                chunk = file.read(METRICS_BYTES_PER_POLL)
        except FileNotFoundError:
            return ()
        except NotAFileError:
            if not self._has_warned:
                logger.warning("%s is no file that metrics can be read from", self._path)
            self._is_damaged = self._has_warned = True
            return ()
        self._is_damaged = False
        self._version = status.st_ino, status.st_mtime_ns, status.st_size
        self._seen = self._offset + len(chunk)
        self.is_exhausted = len(chunk) < METRICS_BYTES_PER_POLL
        complete, newline, _ = chunk.rpartition(b"\n")
        if not newline:
            if len(chunk) == METRICS_BYTES_PER_POLL:  # not a line of ours: skip to its end
                self._offset = self._seen
                self._read_last = chunk[-_COMPARED_BYTES:]
                self._refused = self._refused if self._in_long_line else chunk[:_REFUSED_BYTES]
                self._in_long_line = True
            return ()
        self._offset += len(complete) + 1
        self._read_last = chunk[: len(complete) + 1][-_COMPARED_BYTES:]
        lines = complete.split(b"\n")
        if self._in_long_line:
            del lines[0]
            self._in_long_line = False
        if self._offset >= METRICS_BYTES_PER_ATTEMPT:
            logger.warning("%s: metrics beyond %d bytes are not read", self._path, self._offset)
            self.is_exhausted = True
        return tuple(self._parse(lines))

    def why_incomplete(self, redact: Callable[[str], str]) -> str:
        """Return why the last report may not be among those that were read; empty when it is.

        Args:
            redact: Takes secrets out of what is shown of a line.
        """
        version = self.version()
        if self._is_damaged:
            return "something else stands where the reports belong"
        if version is None:
            return "" if self._version is None else "the reports were removed"
        if self._offset >= METRICS_BYTES_PER_ATTEMPT and version[-1] > self._offset:
            return f"the reports are longer than {METRICS_BYTES_PER_ATTEMPT} bytes"
        if self._seen > self._offset:
            return "the last line of the reports is cut off"
        if self._refused:
            shown = readable(redact(self._refused.decode(errors="replace")), BEGINNING_BYTES)
            return f"the last line of the reports begins {shown!r}"
        return ""

    def _is_continued(self, file: BinaryIO, status: os.stat_result) -> bool:
        """Return whether what was read before still stands where it stood."""
        if self._version is not None and status.st_ino != self._version[0]:
            return False
        file.seek(self._offset - len(self._read_last))
        return file.read(len(self._read_last)) == self._read_last

    def _parse(self, lines: Sequence[bytes]) -> Iterator[MetricPoint]:
        for line in lines:
            try:
                point = MetricPoint.from_sealed(line.decode(), self._key)
            except (DocumentError, UnicodeDecodeError):
                self._refused = line[:_REFUSED_BYTES] if line.strip() else self._refused
                continue
            if point is None:
                self.n_foreign += 1
            else:
                self._refused = b""
                yield point
