"""The control group of a script, which holds all that it starts (`cgroups.py` says where)."""

from __future__ import annotations

import os


def make_cgroup(path: str) -> bool:
    """Make a control group; return whether there is one now."""
    try:
        os.mkdir(path)  # noqa: PTH102
    except FileExistsError:
        pass  # left by a supervisor that was killed before it started anything
    except OSError:
        return False
    return True


def enter_cgroup(path: str) -> None:
    """Put this process into a control group, and so all that it starts."""
    _put(f"{path}/cgroup.procs", b"0")


def kill_cgroup(path: str) -> None:
    """Kill all of a control group at once: faster than any process can start others."""
    _put(f"{path}/cgroup.kill", b"1")


def remove_cgroup(path: str) -> None:
    """Remove a control group, with those that the script made below it."""
    try:
        for name in os.listdir(path):  # noqa: PTH208
            if _is_folder(f"{path}/{name}"):
                remove_cgroup(f"{path}/{name}")
        os.rmdir(path)  # noqa: PTH106
    except OSError:
        pass  # something of it is in no hurry to die; a runner removes it when it polls


def _is_folder(path: str) -> bool:
    try:
        return os.lstat(path).st_mode & 0o170000 == 0o040000
    except OSError:
        return False


def _put(path: str, text: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY)
    except OSError:
        return
    try:
        os.write(descriptor, text)
    except OSError:
        pass
    finally:
        os.close(descriptor)
