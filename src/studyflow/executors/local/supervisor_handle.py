"""A supervisor as a runner follows it: by the kernel, for its process id may be another's."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from typing import Final

_children: Final[set[int]] = set()
"""Supervisors started by this process and not yet collected, whichever executor started them."""


def collect_children() -> int:
    """Let the kernel forget supervisors that ended; return how many of this process's still run."""
    for pid in tuple(_children):
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                continue
        except ChildProcessError:
            pass
        _children.discard(pid)
    return len(_children)


class SupervisorHandle:
    """The supervisor of one attempt, of which several may have been started."""

    def __init__(self) -> None:
        self.starts = 0
        """How often this object started one."""
        self.pid: int | None = None
        """Whom `descriptor` is about."""
        self.alive_at: int | None = None
        """Clock tick at which it was last seen alive."""
        self.descriptor: int | None = None
        """Becomes readable when the supervisor ends; `None` while none is watched."""
        self._child: int | None = None

    @property
    def is_child(self) -> bool:
        """Whether this process started it and has not yet seen its end."""
        return self._child in _children

    @property
    def was_started_here(self) -> bool:
        """Whether this object ever started one."""
        return self._child is not None

    def start(self, pid: int) -> None:
        """Take note of a supervisor that was just started, and watch it."""
        self._child = pid
        _children.add(pid)
        self.starts += 1
        self.watch(pid)

    def watch(self, pid: int) -> None:
        """Learn of the end of a process, unless another one is watched already."""
        if self.descriptor is None and sys.platform == "linux":
            with contextlib.suppress(OSError):  # gone already, or a kernel before 5.3
                self.descriptor = os.pidfd_open(pid)
                self.pid = pid

    def watch_child(self) -> None:
        """Watch the supervisor that this object started, while that runs."""
        if self._child is not None and self.is_child:
            self.watch(self._child)

    def unwatch(self) -> None:
        """Stop watching; it goes on."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def is_dead(self) -> bool:
        """Return whether it has ended; False while nobody knows."""
        if self.descriptor is not None:
            return _is_readable(self.descriptor)
        return self._child is not None and not self.is_child

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if the process is known to be ours and still there."""
        if self._child is not None and self.is_child:
            with contextlib.suppress(OSError):
                os.kill(self._child, number)
        elif self.descriptor is not None and sys.platform == "linux":
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self.descriptor, number)


def _is_readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
