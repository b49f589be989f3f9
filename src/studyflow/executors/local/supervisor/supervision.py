"""The life of one script under this process, from its start to the record of its end."""

from __future__ import annotations

import fcntl
import os
import select
import time

from . import EXIT, LOCK, OUTCOME, PID, STOP, TOKEN_VARIABLE, WORK
from .calls import signal
from .control_group import make_cgroup, remove_cgroup
from .oom_kills import RecentKills
from .records import ending_document, is_file, pids_document, write, write_if_possible
from .script import adopt_orphans, kill_remaining, reap, signal_group, signal_process, start_script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Final

CHECK_SECONDS: Final = 0.1
"""Seconds between checks for `stop.json`; the end of the script is noticed at once."""
LOCK_PATIENCE_SECONDS: Final = 1.0
"""A runner that asks for the lock holds it for microseconds; a supervisor for longer than this."""


def supervise(arguments: list[str]) -> None:
    """Run the script of one attempt to its end, unless another supervisor did or does."""
    folder, timeout, grace, cgroup, *command = arguments
    token = os.environ.pop(TOKEN_VARIABLE, "")
    os.chdir(folder)
    lock = _take_lock()
    if lock is None:
        return
    if os.path.exists(EXIT) or os.path.exists(PID):  # noqa: PTH110 - pathlib costs 6 ms
        return
    # Both from here on mean "a script may have run": an attempt without PID may be started again.
    started_at = time.time()
    group = None if cgroup == "-" or not make_cgroup(cgroup) else cgroup
    write(PID, pids_document(os.getpid(), None, started_at, group))
    is_stopped, work = is_file(STOP), _open_work()
    if is_stopped or work is None:
        if group is not None:
            remove_cgroup(group)
        # Whoever removes the folder at this moment must find no new file in it.
        if is_stopped or os.path.lexists(LOCK):
            how = "stopped" if is_stopped else "removed"
            write_if_possible(EXIT, ending_document(how, None, started_at, token=token))
        return
    supervision = _Supervision(command, work, started_at, float(grace), lock, group, token)
    supervision.run(None if timeout == "-" else float(timeout))


class _Supervision:
    """The life of one script under this process."""

    def __init__(
        self,
        command: list[str],
        work: int,
        started_at: float,
        grace_seconds: float,
        lock: int,
        cgroup: str | None,
        token: str,
    ) -> None:
        self._command = command
        self._work = work
        self._token = token
        self._started_at = started_at
        self._grace_seconds = grace_seconds
        self._lock = lock
        self._cgroup = cgroup
        self._terminated = False
        self._wakeup, wakeup_end = os.pipe()
        for end in (self._wakeup, wakeup_end):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wakeup_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)  # a handler, so that it reaches the wakeup pipe
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_termination)

    def run(self, timeout_seconds: float | None) -> None:
        """Start the script, wait for its end, kill what it left, record the ending."""
        adopt_orphans()
        oom_kills = RecentKills()
        script = start_script(self._command, self._work, self._cgroup)
        write_if_possible(PID, pids_document(os.getpid(), script, self._started_at, self._cgroup))
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds

        how, finished_first, kill_at = "exited", False, None
        while (status := reap(script)) is None:
            now = time.monotonic()
            oom_kills.update()
            if how == "exited":
                if not self._is_reachable():
                    how = "removed"
                elif self._terminated:
                    how = "lost"
                elif is_file(STOP):
                    how = "stopped"
                elif deadline is not None and now >= deadline:
                    how = "timeout"
                if how != "exited":
                    # A script that called finish() keeps its result, even if it then hangs.
                    finished_first = _finished_first(how)
                    # Only the script is told, as by Kubernetes: data loaders that die before it
                    # would make it fail instead of saving its state.
                    signal_process(script, signal.SIGTERM)
                    kill_at = now + self._grace_seconds
            elif kill_at is not None and now >= kill_at:
                signal_group(script, signal.SIGKILL)
                signal_process(script, signal.SIGKILL)
            self._sleep(CHECK_SECONDS)

        # Only now: a count taken while the script dies may miss its own kill.
        oom = oom_kills.is_any()
        ended_at = time.time()
        kill_remaining(script, self._cgroup)
        if how == "exited" and not self._is_reachable():
            how = "removed"
        elif how == "exited" and self._terminated:
            how = "lost"  # the machine is going down and the signal reached the script first
        elif how == "exited" and is_file(STOP):
            how = "stopped"  # the script saw the request before this process did
            finished_first = _finished_first(how)
        code = os.waitstatus_to_exitcode(status)
        # Whoever removes the folder at this moment must find no new file in it.
        if how != "removed" or os.path.lexists(LOCK):
            ending = ending_document(
                how, code, self._started_at, ended_at, oom, finished_first, self._token
            )
            write_if_possible(EXIT, ending)

    def _is_reachable(self) -> bool:
        """Return whether a runner can still follow the attempt: by the lock in its folder."""
        own = os.fstat(self._lock)
        try:
            there = os.lstat(LOCK)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # a disk that does not answer for now is no reason to end a training
            return True
        return (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)

    def _sleep(self, seconds: float) -> None:
        """Sleep, or until a signal such as the script's end."""
        if select.select([self._wakeup], [], [], seconds)[0]:
            os.read(self._wakeup, 4096)

    def _on_termination(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._terminated = True


def _take_lock() -> int | None:
    """Return the descriptor that holds the lock; `None` when another supervisor does."""
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o600)  # never closed: it is held until the end
    patience = time.monotonic() + LOCK_PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > patience:
                return None
            time.sleep(0.01)
        else:
            return lock


def _open_work() -> int | None:
    """Return a descriptor of the script's folder; `None` while somebody removes the attempt's.

    By it a script starts that folder or not: a failure to start is its own then, or its command's.
    """
    try:
        return os.open(WORK, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _finished_first(how: str) -> bool:
    """Return whether the outcome was there before the stop was requested, or before now."""
    try:
        written_at = os.lstat(OUTCOME).st_mtime_ns
        return how != "stopped" or written_at < os.lstat(STOP).st_mtime_ns
    except OSError:
        return False


def _ignore(number: int, frame: FrameType | None) -> None:
    """Let a signal do nothing but interrupt a wait."""
