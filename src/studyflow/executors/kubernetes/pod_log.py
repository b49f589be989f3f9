"""Tells what a container wrote from what the kubelet says about its log.

A kubelet that cannot read a log says so in the log's place, with status 200: "unable to retrieve
container logs for containerd://…", "failed to try resolving symlinks in path …". Its words change
with its version, so logs are asked for with timestamps: the kubelet puts one before each line that
a container wrote, and none before a line of its own. (`kubectl logs --timestamps` is part of
Kubernetes' conformance tests.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

_STAMP: Final = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d) ")

STAMP_BYTES: Final = 48
"""More than the longest timestamp has."""

FRAGMENT_BYTES: Final = 4096
"""Container runtimes store a long line in fragments of 8 or 16 KiB, and older kubelets put a
timestamp before each of them. A timestamp closer than this to the last one is the script's own."""

HELD_BYTES: Final = 1 << 16
"""Most bytes of one line that are held back until its end arrives."""


def written(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what the container wrote, in pieces, of a log that was asked for with timestamps.

    Args:
        pieces: The log with timestamps, cut anywhere. A last line whose timestamp is incomplete is
            left out, like every line without one.
    """
    line = _Line()
    held = b""
    for piece in pieces:
        *complete, held = (held + piece).split(b"\n")
        text = b"".join(line.take(part + b"\n", is_end=True) for part in complete)
        if len(held) > HELD_BYTES:
            text += line.take(held[:-STAMP_BYTES], is_end=False)
            held = held[-STAMP_BYTES:]
        if text:
            yield text
    if held:
        yield line.take(held, is_end=True)


class _Line:
    """The line that is being read, which may come in parts."""

    def __init__(self) -> None:
        self._has_begun = False
        self._is_written = False
        """Whether it began with a timestamp, so that a container wrote it."""
        self._n_since_stamp = 0

    def take(self, part: bytes, *, is_end: bool) -> bytes:
        """Return what the container wrote of a part of the line."""
        if not self._has_begun:
            self._has_begun = True
            stamp = _STAMP.match(part)
            self._is_written = stamp is not None
            self._n_since_stamp = 0
            part = part if stamp is None else part[stamp.end() :]
        text = self._without_stamps(part) if self._is_written else b""
        if is_end:
            self._has_begun = False
        return text

    def _without_stamps(self, part: bytes) -> bytes:
        kept, start = [], 0
        for stamp in _STAMP.finditer(part):
            if self._n_since_stamp + stamp.start() - start >= FRAGMENT_BYTES:
                kept.append(part[start : stamp.start()])
                start, self._n_since_stamp = stamp.end(), 0
        kept.append(part[start:])
        self._n_since_stamp += len(part) - start
        return b"".join(kept)
