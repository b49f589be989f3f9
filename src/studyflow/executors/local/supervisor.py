"""Runs one attempt's script and records how it ended. A program of its own: standard library only.

    python -I -S supervisor.py ATTEMPT_DIR TIMEOUT_SECONDS|- GRACE_SECONDS CGROUP|- PROGRAM ...

A runner may be killed at any moment while trainings go on, so each attempt has this small process
as its parent. It outlives the runner, and the files it keeps are all that another runner needs:

`lock`      held (flock) while this process lives. Whoever holds it, and nobody else, may start the
            script or write `exit.json`; so however often an attempt is started, its script runs
            once, and "is it alive" is asked of the kernel, not of a process id that may be
            another's by now.
`pid.json`  written before the script is started and again with its process id.
`exit.json` written once, when nothing of the script's process tree runs any more.
`stop.json` written by a runner; a regular file of this name asks for the end.

The script can reach all of these. What it puts in their place is moved aside; when `lock` is not
the file any more that this process holds, such as when the whole folder was removed, no runner can
follow the attempt: the script is ended like one that is stopped.

The script leads a process group of its own. When it ends, is stopped or runs out of time, all its
descendants are killed, also those that left the group or the session: on Linux orphans come back
to this process (it is a "child subreaper"). Should this process be killed, the kernel kills the
script (PR_SET_PDEATHSIG); the runner that finds the lock free sees to the rest. Other systems have
neither: there only the process group is killed, and a script outlives a killed supervisor.

Where the runner may make control groups (version 2), the script runs in one of its own, CGROUP.
It holds all that the script starts, whatever becomes of environment, session and parents, so that
whoever ends the attempt misses nothing. It is removed with the attempt's end.

Started for every trial, so what it imports is chosen by the clock: `json` alone would cost 12 ms.
It is one file, for without `site` and its own folder on the path it could import no other.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is to a type checker, without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Final

LOCK: Final = "lock"
PID: Final = "pid.json"
EXIT: Final = "exit.json"
STOP: Final = "stop.json"
OUTCOME: Final = "outcome.json"
LOG: Final = "log.txt"
TOKEN_VARIABLE: Final = "STUDYFLOW_EXIT_TOKEN"  # noqa: S105 - a name
"""Holds what `exit.json` shows as a sign that this process wrote it; the script does not get it."""
WORK: Final = "work"

CHECK_SECONDS: Final = 0.1
"""Seconds between checks for `stop.json`; the end of the script is noticed at once."""
LOCK_PATIENCE_SECONDS: Final = 1.0
"""A runner that asks for the lock holds it for microseconds; a supervisor for longer than this."""
OOM_SECONDS: Final = 60.0
"""How long before a script's end the kernel may have killed for want of memory and still be the
reason: a script learns late of a data loader that was killed, and may need long to end. What was
killed earlier, the script survived."""
REAP_PAUSE_SECONDS: Final = 0.002
EXEC_FAILED: Final = 127

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


def main(arguments: list[str]) -> None:
    """Run the script of one attempt to its end, unless another supervisor did or does."""
    os.closerange(3, 65536)  # whatever the runner's libraries leaked: sockets, database files
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
    group = None if cgroup == "-" or not _make_cgroup(cgroup) else cgroup
    _write(PID, _pids(os.getpid(), None, started_at, group))
    is_stopped, work = _is_file(STOP), _open_work()
    if is_stopped or work is None:
        if group is not None:
            _remove_cgroup(group)
        # Whoever removes the folder at this moment must find no new file in it.
        if is_stopped or os.path.lexists(LOCK):
            how = "stopped" if is_stopped else "removed"
            _write_if_possible(EXIT, _ending(how, None, started_at, token=token))
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
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        oom_kills = RecentKills()
        script = _start(self._command, self._work, self._cgroup)
        _write_if_possible(PID, _pids(os.getpid(), script, self._started_at, self._cgroup))
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds

        how, finished_first, kill_at = "exited", False, None
        while (status := _reap(script)) is None:
            now = time.monotonic()
            oom_kills.update()
            if how == "exited":
                if not self._is_reachable():
                    how = "removed"
                elif self._terminated:
                    how = "lost"
                elif _is_file(STOP):
                    how = "stopped"
                elif deadline is not None and now >= deadline:
                    how = "timeout"
                if how != "exited":
                    # A script that called finish() keeps its result, even if it then hangs.
                    finished_first = _finished_first(how)
                    # Only the script is told, as by Kubernetes: data loaders that die before it
                    # would make it fail instead of saving its state.
                    _signal(script, signal.SIGTERM)
                    kill_at = now + self._grace_seconds
            elif kill_at is not None and now >= kill_at:
                _signal_group(script, signal.SIGKILL)
                _signal(script, signal.SIGKILL)
            self._sleep(CHECK_SECONDS)

        # Only now: a count taken while the script dies may miss its own kill.
        oom = oom_kills.is_any()
        ended_at = time.time()
        _kill_remaining(script, self._cgroup)
        if how == "exited" and not self._is_reachable():
            how = "removed"
        elif how == "exited" and self._terminated:
            how = "lost"  # the machine is going down and the signal reached the script first
        elif how == "exited" and _is_file(STOP):
            how = "stopped"  # the script saw the request before this process did
            finished_first = _finished_first(how)
        code = os.waitstatus_to_exitcode(status)
        # Whoever removes the folder at this moment must find no new file in it.
        if how != "removed" or os.path.lexists(LOCK):
            ending = _ending(
                how, code, self._started_at, ended_at, oom, finished_first, self._token
            )
            _write_if_possible(EXIT, ending)

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


def _finished_first(how: str) -> bool:
    """Return whether the outcome was there before the stop was requested, or before now."""
    try:
        written_at = os.lstat(OUTCOME).st_mtime_ns
        return how != "stopped" or written_at < os.lstat(STOP).st_mtime_ns
    except OSError:
        return False


def _is_file(name: str) -> bool:
    try:
        return os.lstat(name).st_mode & 0o170000 == 0o100000  # `stat` is not imported here
    except OSError:
        return False


def _ignore(number: int, frame: FrameType | None) -> None:
    """Let a signal do nothing but interrupt a wait."""


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


def _start(command: list[str], work: int, cgroup: str | None) -> int:
    parent = os.getpid()
    script = os.fork()
    if script:
        return script
    try:
        os.setpgid(0, 0)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # killed before the line above took effect
            os._exit(EXEC_FAILED)
        signal.set_wakeup_fd(-1)
        for number in (
            *(signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
            *(signal.SIGPIPE, signal.SIGXFSZ),  # ignored by Python; a shell script expects them
        ):
            signal.signal(number, signal.SIG_DFL)
        if cgroup is not None:
            _put(f"{cgroup}/cgroup.procs", b"0")  # itself, and so all that it starts
        os.fchdir(work)
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        os.write(2, f"cannot start {command[0]}: {error}\n".encode(errors="replace"))
    finally:
        os._exit(EXEC_FAILED)


def _reap(script: int) -> int | None:
    """Collect dead children, adopted ones too; return the script's status once it is among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == script:
            return status
        if pid == 0:
            return None


def _kill_remaining(script: int, cgroup: str | None) -> None:
    """Kill what the script left behind; return when this process has no child any more.

    Killing a process hands its children to this one, so killing all children until there are none
    leaves nothing, whatever group or session they chose.
    """
    if cgroup is not None:
        _put(f"{cgroup}/cgroup.kill", b"1")  # at once: faster than any process can start others
    try:
        _kill_children(script)
    finally:
        if cgroup is not None:
            _remove_cgroup(cgroup)


def _kill_children(script: int) -> None:
    pause = REAP_PAUSE_SECONDS
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            _signal_group(script, signal.SIGKILL)  # all there is where orphans do not come back
            return
        _signal_group(script, signal.SIGKILL)
        for child in _children():
            _signal(child, signal.SIGKILL)
        time.sleep(pause)
        pause = min(2 * pause, CHECK_SECONDS)  # one that waits for a device dies when that answers


def _make_cgroup(path: str) -> bool:
    try:
        os.mkdir(path)  # noqa: PTH102
    except FileExistsError:
        pass  # left by a supervisor that was killed before it started anything
    except OSError:
        return False
    return True


def _remove_cgroup(path: str) -> None:
    """Remove a control group, with those that the script made below it."""
    try:
        for name in os.listdir(path):  # noqa: PTH208
            if _is_folder(f"{path}/{name}"):
                _remove_cgroup(f"{path}/{name}")
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


def _children() -> list[int]:
    own = str(os.getpid()).encode()
    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():  # noqa: PTH112, PTH208
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                    # "pid (name) state parent ...", where the name may hold spaces and brackets
                    parent = file.read().rpartition(b")")[2].split()[1]
            except OSError:
                continue
            if parent == own:
                found.append(int(name))
    return found


def _signal(pid: int, number: int) -> None:
    try:  # noqa: SIM105 - contextlib is not imported here
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _signal_group(leader: int, number: int) -> None:
    try:  # noqa: SIM105
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):  # macOS answers so for a group of zombies
        pass


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class RecentKills:
    """Whether the kernel killed for want of memory lately: since 60 to 120 seconds ago."""

    def __init__(
        self,
        count: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count = count or _count_oom_kills
        self._clock = clock
        self._older = self._newer = self._count()
        self._counted_at = clock()

    def update(self) -> None:
        """Take note of the count, once in a while; costs nothing in between."""
        now = self._clock()
        if now - self._counted_at >= OOM_SECONDS:
            self._older, self._newer, self._counted_at = self._newer, self._count(), now

    def is_any(self) -> bool:
        """Return whether there is a kill that is not older than that."""
        return self._count() > self._older


def _count_oom_kills() -> int:
    """Return how often the kernel killed for want of memory in this control group, or anywhere."""
    try:
        with open("/proc/self/cgroup") as file:  # noqa: PTH123
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return 0
    for _, controllers, path in groups:
        if controllers == "":
            candidates = [f"/sys/fs/cgroup{path}/memory.events", "/sys/fs/cgroup/memory.events"]
        elif controllers == "memory":
            candidates = [
                f"/sys/fs/cgroup/memory{path}/memory.oom_control",
                "/sys/fs/cgroup/memory/memory.oom_control",  # a container sees its own as the root
            ]
        else:
            continue
        for candidate in candidates:
            count = _read_count(candidate)
            if count is not None:
                return count
    return _read_count("/proc/vmstat") or 0


def _read_count(path: str) -> int | None:
    try:
        with open(path) as file:  # noqa: PTH123
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return None


def _pids(supervisor: int, script: int | None, started_at: float, cgroup: str | None) -> str:
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


def _ending(
    how: str,
    exit_code: int | None,
    started_at: float,
    ended_at: float | None = None,
    oom: bool = False,
    finished_first: bool = False,
    token: str = "",
) -> str:
    shown = f', "token": "{token}"' if token else ""  # a number in hexadecimal
    return (
        f'{{"how": "{how}", "exit_code": {"null" if exit_code is None else exit_code}, '
        f'"started_at": {started_at!r}, "ended_at": {ended_at or started_at!r}, '
        f'"oom": {str(oom).lower()}, "finished_first": {str(finished_first).lower()}{shown}}}\n'
    )


def _write(name: str, text: str) -> None:
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


def _write_if_possible(name: str, text: str) -> None:
    """The same where the script may have removed the folder: a runner finds that by itself."""
    try:
        try:
            _write(name, text)
        except PermissionError:
            os.chmod(".", 0o700)  # noqa: PTH101
            _write(name, text)
    except OSError as error:
        os.write(2, f"cannot write {name}: {error}\n".encode(errors="replace"))


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # nothing to clean up; tearing the interpreter down takes 3 ms
