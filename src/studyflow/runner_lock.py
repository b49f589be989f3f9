"""One runner per study on this machine, by a lock that the kernel frees with its holder."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from studyflow.errors import ExecutorUnavailable
from studyflow.observers.observer import Observer
from studyflow.trial.private_files import private_opener

STANDBY_SECONDS: Final = 1.0
"""Pause between two tries to take over a study that another runner drives."""


class StudyIsDriven(Exception):
    """Another process of this machine held the runner lock all the time."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a runner lock, as it wrote itself into the file."""

    pid: int
    since: float
    """When it took the lock, in seconds since the epoch."""

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, UTC).strftime("%H:%M:%S UTC")
        return f"process {self.pid}, since {since}"


class RunnerLock:
    """A study's runner lock; only its holder drives the study on this machine.

    Args:
        path: The lock file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _open(path)

    def take(self) -> bool:
        """Return whether this process holds the lock now; take it if nobody else does."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": os.getpid(), "since": time.time()}))
        self._file.flush()
        return True

    def take_again(self) -> None:
        """Take the lock at its path again if it was removed, alone or with the study's folder.

        Raises:
            ExecutorUnavailable: Another runner was faster.
        """
        with suppress(FileNotFoundError):
            if os.path.samestat(self._path.stat(), os.fstat(self._file.fileno())):
                return
        removed, self._file = self._file, _open(self._path)
        if self.take():
            removed.close()
            return
        self._file.close()
        self._file = removed
        raise ExecutorUnavailable(
            f"{self._path} was removed, and {_describe_holder(self._path)} drives the study now.",
            hint="end one of the two runners.",
        )

    def close(self) -> None:
        """Release the lock."""
        self._file.close()


@contextmanager
def only_runner(
    path: Path,
    observer: Observer,
    standby_seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[RunnerLock]:
    """Hold a study's runner lock; stand by while another process of this machine holds it.

    Args:
        path: The lock file.
        observer: Hears once that this runner stands by.
        standby_seconds: How long to stand by; may be infinite.
        clock: Seconds, from any moment on.
        pause: Waits for some seconds between two tries.

    Raises:
        StudyIsDriven: Another process held it for longer than `standby_seconds`.
    """
    deadline = clock() + standby_seconds
    with closing(RunnerLock(path)) as lock:
        announced = False
        while not lock.take():
            if clock() >= deadline:
                raise StudyIsDriven
            if not announced:
                observer.noted(
                    f"A runner drives this study already ({_describe_holder(path)}); "
                    "standing by to take over when it ends."
                )
                announced = True
            pause(STANDBY_SECONDS)
        yield lock


def is_held(path: Path) -> bool:
    """Return whether a process holds a runner lock; a file that cannot be read is not held."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def read_holder(path: Path) -> Holder | None:
    """Return the process that last took a runner lock; `None` if the file does not say."""
    try:
        document = json.loads(path.read_text())
        return Holder(int(document["pid"]), float(document["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _describe_holder(path: Path) -> str:
    return str(read_holder(path) or "another process")


def _open(path: Path) -> IO[str]:
    return open(path, "a+", opener=private_opener)
