"""The file that a trial's reports are appended to, where runner and trial share a folder."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from typing import Final

from studyflow.sdk.console import print_error
from studyflow.sdk.outcome_file import unwritable, write_all
from studyflow.trial import MetricPoint

_DISK_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""How a disk refuses to store more."""


class MetricsFile:
    """Appends reports to the metrics file of one attempt.

    Args:
        path: Where it is; made with the first report.
        key: The attempt's, for the seals of its lines; `None` for lines without.
    """

    def __init__(self, path: str, key: str | None = None) -> None:
        self._path = path
        self._key = key
        self._lock = threading.RLock()
        self._line_is_torn = False
        self._has_warned = False
        self.lost = ""
        """Why the last report is not in the file; empty when it is."""

    def append(self, points: Sequence[MetricPoint]) -> None:
        """Append a line for each point; a file that cannot be opened is told once, and no error.

        Raises:
            OSError: The disk takes no more.
        """
        lines = "".join(f"{point.to_json(self._key)}\n" for point in points).encode()
        with self._lock:
            # What a full disk left of an earlier line must not spoil this one.
            content = b"\n" + lines if self._line_is_torn else lines
            try:
                self._write(content)
            except OSError as error:
                self.lost = error.strerror or str(error)
                if error.errno in _DISK_ERRORS:
                    what = "report: the step cannot be written"
                    raise unwritable(what, self._path, error) from error
                if not self._has_warned:
                    self._has_warned = True
                    print_error(f"studyflow: metrics cannot be written: {error}\n")
                return
            self._line_is_torn = False
            self.lost = ""

    def _write(self, content: bytes) -> None:
        # One write to a file opened for appending: lines of processes do not mix. A pipe that
        # someone made there must not stop the training.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, 0o600)
        try:
            self._line_is_torn = True
            write_all(descriptor, content)
        finally:
            os.close(descriptor)
