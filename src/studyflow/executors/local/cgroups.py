"""Control groups of attempts: whatever a script starts stays in its group, so none of it is missed.

Only version 2 is used, only below the group that the runner itself is in, and only where the runner
may make groups there: as root, or in a part of the tree that was delegated to its user (by systemd
in each user's own services). No controller is switched on, so nothing is limited or counted that
was not before, and the rule that a group with controllers holds no processes does not apply.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import string
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_PLAIN: Final = frozenset(string.ascii_letters + string.digits + "/-_.:@")


def find_parent(system: Path = Path("/")) -> Path | None:
    """Return the control group below which attempts may have theirs; `None` where there is none.

    Args:
        system: Root of the file system, for tests.
    """
    try:
        own = (system / "proc/self/cgroup").read_text()
        mounts = (system / "proc/self/mountinfo").read_text()
    except OSError:
        return None
    path = own_cgroup(own, mounts)
    if path is None:
        return None
    group = system / path.relative_to("/")
    # To move a process from here to a group below, a user must be let into the common parent too.
    needed = (group, group / "cgroup.procs")
    return group if all(os.access(p, os.W_OK) for p in needed) else None


def own_cgroup(own: str, mounts: str) -> PurePosixPath | None:
    """Return where a process's control group of version 2 is mounted; `None` when it is not.

    Args:
        own: The text of `/proc/self/cgroup`, see cgroups(7).
        mounts: The text of `/proc/self/mountinfo`, see proc(5).
    """
    path = next((line[3:] for line in own.splitlines() if line.startswith("0::/")), None)
    if path is None or ".." in PurePosixPath(path).parts:  # out of what a container sees
        return None
    for root, point in _mounts(mounts):
        if PurePosixPath(path).is_relative_to(root):
            group = point / PurePosixPath(path).relative_to(root)
            # It goes into a document as it is; a name with other letters is nobody's group of ours.
            return group if set(str(group)) <= _PLAIN else None
    return None


def is_group(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Return whether a path is a control group of version 2, whoever's."""
    try:
        points = [point for _, point in _mounts(mounts.read_text())]
    except OSError:
        return False
    is_plain = path.is_absolute() and ".." not in path.parts
    return is_plain and any(path.is_relative_to(point) for point in points)


def group_name(outcome_path: str) -> str:
    """Return the name of an attempt's group: it tells attempts of all studies apart."""
    return f"studyflow-{hashlib.sha256(outcome_path.encode()).hexdigest()[:16]}"


def kill_group(group: Path) -> bool:
    """Kill all processes of a group and of those below it; return whether there were any."""
    if not group.is_dir():
        return False
    found = _pids(group)
    if found:
        try:
            (group / "cgroup.kill").write_text("1")
        except OSError:  # a kernel before 5.14
            for pid in found:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
    return bool(found)


def remove_group(group: Path) -> None:
    """Remove a group with those below it, if none of them holds a process."""
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()


def _mounts(table: str) -> Iterator[tuple[PurePosixPath, PurePosixPath]]:
    """Yield where groups of version 2 are mounted: the group that is seen there, and the path."""
    for line in reversed(table.splitlines()):  # of two mounts at one path the later one is seen
        before, _, after = line.partition(" - ")
        fields = before.split()
        if after.split()[:1] == ["cgroup2"] and len(fields) >= 5:
            yield PurePosixPath(fields[3]), PurePosixPath(fields[4])


def _pids(group: Path) -> list[int]:
    found: list[int] = []
    for folder, _, _ in os.walk(group):
        with contextlib.suppress(OSError, ValueError):
            found += map(int, (Path(folder) / "cgroup.procs").read_text().split())
    return found
