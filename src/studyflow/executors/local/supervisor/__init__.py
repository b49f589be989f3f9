"""Runs one attempt's script and records how it ended. A program of its own: standard library only.

    python -I -S supervisor/__main__.py ATTEMPT_DIR TIMEOUT|- GRACE CGROUP|- COMMAND ...

supervision.py    the program: the life of one script; TIMEOUT and GRACE are in seconds
calls.py          what is called of the system's signals and processes
script.py         the script's processes: started, collected, killed
control_group.py  the group that holds them, where the runner may make one
oom_kills.py      whether the kernel killed for want of memory lately
records.py        the files that tell of it

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
Without `site` it finds no package: `__main__.py` puts the folder above this one on the path, so
these modules import each other by relative names and nothing else of studyflow.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is to a type checker, without importing typing
if TYPE_CHECKING:
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

PROGRAM: Final = __file__.removesuffix("__init__.py") + "__main__.py"
"""Path of the program."""
