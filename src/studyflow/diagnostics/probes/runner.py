"""Which processes of this machine drive a study, as its lock file and the processes tell."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from studyflow.diagnostics.snapshot import RunnerState
from studyflow.runner_lock import is_held, read_holder


def find_runner(lock: Path) -> RunnerState:
    """Return which processes of this machine drive a study, or wait to.

    Args:
        lock: The file that a runner holds locked.
    """
    if not is_held(lock):
        return RunnerState()
    holder = read_holder(lock)
    pid = None if holder is None else holder.pid
    openers = _processes_with(lock)
    return RunnerState(
        is_there=True,
        pid=pid,
        is_suspended=pid is not None and _is_suspended(pid),
        standing_by=tuple(sorted(openers - {pid})) if pid in openers else (),
    )


def _is_suspended(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def _processes_with(lock: Path) -> set[int]:
    """Return this user's Python processes that have the file open."""
    path, found = str(lock.resolve()), set()
    for process in psutil.process_iter():
        try:
            is_python = any("python" in part or "studyflow" in part for part in process.cmdline())
            if is_python and any(file.path == path for file in process.open_files()):
                found.add(process.pid)
        except (psutil.Error, OSError):
            continue
    return found - {os.getpid()}
