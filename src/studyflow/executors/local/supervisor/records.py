"""The files that tell a runner of a script: written so that a reader sees all of one or nothing."""

from __future__ import annotations

import os


def pids_document(
    supervisor: int, script: int | None, started_at: float, cgroup: str | None
) -> str:
    """Return the text of `pid.json`: which processes the attempt has."""
    start = "null" if script is None else _start_ticks(script)
    group = "null" if cgroup is None else f'"{cgroup}"'  # made of letters that JSON has as they are
    return (
        f'{{"supervisor": {supervisor}, "script": {script or "null"}, "script_start": {start}, '
        f'"started_at": {started_at!r}, "cgroup": {group}}}\n'
    )


def _start_ticks(pid: int) -> str:
    """Return when a process began in clock ticks since boot: with its id this names it for good."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return "null"


def ending_document(
    how: str,
    exit_code: int | None,
    started_at: float,
    ended_at: float | None = None,
    oom: bool = False,
    finished_first: bool = False,
    token: str = "",
) -> str:
    """Return the text of `exit.json`: how the script ended, and the sign that this says so."""
    shown = f', "token": "{token}"' if token else ""  # a number in hexadecimal
    return (
        f'{{"how": "{how}", "exit_code": {"null" if exit_code is None else exit_code}, '
        f'"started_at": {started_at!r}, "ended_at": {ended_at or started_at!r}, '
        f'"oom": {str(oom).lower()}, "finished_first": {str(finished_first).lower()}{shown}}}\n'
    )


def write(name: str, text: str) -> None:
    """Replace a file so that a reader sees all of it or the old one.

    Not synced: that costs more than all else here. A power cut ends the attempt as lost anyway.
    """
    part = f".{name}.{os.urandom(8).hex()}.part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
    try:
        os.replace(part, name)  # noqa: PTH105
    except OSError:  # the script put a folder there
        os.rename(name, f"{part}.aside")  # noqa: PTH104
        os.replace(part, name)  # noqa: PTH105


def write_if_possible(name: str, text: str) -> None:
    """The same where the script may have removed the folder: a runner finds that by itself."""
    try:
        try:
            write(name, text)
        except PermissionError:
            os.chmod(".", 0o700)  # noqa: PTH101
            write(name, text)
    except OSError as error:
        os.write(2, f"cannot write {name}: {error}\n".encode(errors="replace"))


def is_file(name: str) -> bool:
    """Return whether a regular file has a name; a link to one is none."""
    try:
        return os.lstat(name).st_mode & 0o170000 == 0o100000  # `stat` is not imported here
    except OSError:
        return False
