"""Finds and kills what a killed supervisor left of its attempt's process tree, on Linux."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from studyflow.trial import TRIAL_VARIABLE

_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """A process as it was found once."""

    pid: int
    parent: int
    group: int
    session: int
    started: int
    """Clock ticks since the machine started."""
    is_marked: bool = False
    """Whether its environment names the attempt."""
    is_dead: bool = False
    """Whether it has ended and only its number is still taken."""


@dataclass(frozen=True, slots=True)
class Tree:
    """What is known of an attempt's processes."""

    supervisor: int | None = None
    """Leads the session in which the script runs."""
    script: int | None = None
    """Leads the script's process group."""
    script_start: int | None = None
    alive_at: int | None = None
    """Tick at which the supervisor was last seen alive: until then its session was no other's."""


def left_processes(processes: Collection[Process], tree: Tree) -> frozenset[int]:
    """Return the processes that belong to an attempt, with all their descendants.

    Numbers of processes, groups and sessions come back as somebody else's, so a number alone proves
    nothing. A process belongs to the attempt when its environment says so; when it is in the group
    of the script and that is the very same process still; or when it is in the session or group and
    was there before the supervisor was last seen alive.
    """
    by_pid = {process.pid: process for process in processes}
    leader = by_pid.get(tree.script) if tree.script is not None else None
    is_same_leader = leader is not None and leader.started == tree.script_start

    def belongs(process: Process) -> bool:
        if process.is_marked or (is_same_leader and process.group == tree.script):
            return True
        was_there = tree.alive_at is not None and process.started <= tree.alive_at
        return was_there and (
            (tree.supervisor is not None and process.session == tree.supervisor)
            or (tree.script is not None and process.group == tree.script)
        )

    found = {process.pid for process in processes if belongs(process)}
    children: dict[int, list[int]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process.pid)
    waiting = list(found)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return frozenset(pid for pid in found - {os.getpid(), 1} if not by_pid[pid].is_dead)


def kill_left(outcome_path: str, tree: Tree) -> bool:
    """Kill what is left of an attempt's process tree; return whether there was anything.

    Args:
        outcome_path: Where the attempt's script writes its outcome: no other attempt has the same.
        tree: What is known of its processes.
    """
    found = left_processes(list(_processes(outcome_path)), tree)
    for pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return bool(found)


def is_stopped(pid: int) -> bool:
    """Return whether a process was told to stand still (SIGSTOP); False where nobody knows."""
    try:
        return (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()[0] == b"T"
    except (OSError, IndexError):
        return False


def ticks_now() -> int | None:
    """Return the clock by which the kernel dates processes; `None` where it does not."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return None
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def _processes(outcome_path: str) -> Iterable[Process]:
    if not _PROC.is_dir():
        return
    name = f"{TRIAL_VARIABLE}=".encode()
    mark = f'"outcome_path": {json.dumps(outcome_path)}'.encode()
    own = os.getuid()
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            if entry.stat().st_uid != own and own != 0:
                continue
            # "pid (name) state parent group session ...", where the name may hold anything
            fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        environment = b""
        with contextlib.suppress(OSError):
            environment = (entry / "environ").read_bytes()
        parent, group, session = (int(field) for field in fields[1:4])
        is_marked = any(v.startswith(name) and mark in v for v in environment.split(b"\0"))
        is_dead = fields[0] in (b"Z", b"X")
        yield Process(int(entry.name), parent, group, session, int(fields[19]), is_marked, is_dead)
