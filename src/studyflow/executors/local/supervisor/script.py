"""The processes of a script: started, collected when they end, and killed when it is time."""

from __future__ import annotations

import os
import time

from .calls import prctl, signal
from .control_group import enter_cgroup, kill_cgroup, remove_cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

REAP_PAUSE_SECONDS: Final = 0.002
MAX_REAP_PAUSE_SECONDS: Final = 0.1
"""A process that waits for a device dies when that answers."""
EXEC_FAILED: Final = 127

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


def adopt_orphans() -> None:
    """Have orphans of the script come back to this process, where the system is Linux."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def start_script(command: list[str], work: int, cgroup: str | None) -> int:
    """Return the id of a new process that runs the script, in a process group of its own.

    Args:
        command: Program and arguments.
        work: Descriptor of its working folder.
        cgroup: Control group for it; `None` for none.
    """
    parent = os.getpid()
    script = os.fork()
    if script:
        return script
    try:
        os.setpgid(0, 0)
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # killed before the line above took effect
            os._exit(EXEC_FAILED)
        signal.set_wakeup_fd(-1)
        for number in (
            *(signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
            *(signal.SIGPIPE, signal.SIGXFSZ),  # ignored by Python; a shell script expects them
        ):
            signal.signal(number, signal.SIG_DFL)
        if cgroup is not None:
            enter_cgroup(cgroup)
        os.fchdir(work)
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        os.write(2, f"cannot start {command[0]}: {error}\n".encode(errors="replace"))
    finally:
        os._exit(EXEC_FAILED)


def reap(script: int) -> int | None:
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


def kill_remaining(script: int, cgroup: str | None) -> None:
    """Kill what the script left behind; return when this process has no child any more.

    Killing a process hands its children to this one, so killing all children until there are none
    leaves nothing, whatever group or session they chose.
    """
    if cgroup is not None:
        kill_cgroup(cgroup)
    try:
        _kill_children(script)
    finally:
        if cgroup is not None:
            remove_cgroup(cgroup)


def _kill_children(script: int) -> None:
    pause = REAP_PAUSE_SECONDS
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            signal_group(script, signal.SIGKILL)  # all there is where orphans do not come back
            return
        signal_group(script, signal.SIGKILL)
        for child in _children():
            signal_process(child, signal.SIGKILL)
        time.sleep(pause)
        pause = min(2 * pause, MAX_REAP_PAUSE_SECONDS)


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


def signal_process(pid: int, number: int) -> None:
    """Send a signal to a process, if it is there."""
    try:  # noqa: SIM105 - contextlib is not imported here
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def signal_group(leader: int, number: int) -> None:
    """Send a signal to a process group, if it is there."""
    try:  # noqa: SIM105
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):  # macOS answers so for a group of zombies
        pass
