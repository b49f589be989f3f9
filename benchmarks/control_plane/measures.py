"""What a benchmark measures, and how it is printed."""

from __future__ import annotations

import gc
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Row:
    """One line of a benchmark's table."""

    what: str
    value: float
    unit: str
    """Such as `ms CPU`, `statements`."""
    peer: float | None = None
    """The same of a peer in the same run; `None` without one."""
    peer_name: str = ""

    def __str__(self) -> str:
        shown = f"| {self.what} | {number(self.value)} {self.unit} |"
        if self.peer is None:
            return f"{shown} | |"
        ratio = f"{self.value / self.peer:.2f} ×" if self.peer else ""
        return f"{shown} {self.peer_name}: {number(self.peer)} {self.unit} | {ratio} |"


class Statements:
    """Counts what is sent to a database."""

    def __init__(self, storage: optuna.storages.RDBStorage) -> None:
        import sqlalchemy

        self.n = 0
        sqlalchemy.event.listen(storage.engine, "before_cursor_execute", self.count)

    def count(self, *_: object) -> None:
        self.n += 1

    def during(self, act: Callable[[], object]) -> int:
        """Return how many statements are sent meanwhile."""
        before = self.n
        act()
        return self.n - before


def number(value: float) -> str:
    """Return a number with three digits, and no point where it counts something."""
    return f"{value:.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.3g}"


def show(rows: Iterable[Row]) -> None:
    """Print a table, each line as soon as it is there, below what the machine is doing."""
    load = ", ".join(f"{part:.1f}" for part in os.getloadavg())
    print(f"{os.cpu_count()} cores, load {load}\n")
    print("| what | measured | peer | ratio |\n|---|---|---|---|", flush=True)
    for row in rows:
        print(row, flush=True)


def cpu_ms(act: Callable[[], object], times: int = 1) -> float:
    """Return the CPU milliseconds of this process that a call takes, the least of some times.

    The least says what the work itself takes: others on the machine can only add to it.
    """
    least = float("inf")
    for _ in range(times):
        with no_collection():
            began = time.process_time()
            act()
            least = min(least, time.process_time() - began)
    return 1000 * least


def rss_mib() -> float:
    """Return the resident memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep the garbage collector, which pays for what others have done, out of a measurement."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def have_bytecode_kept() -> None:
    """Let the processes that follow keep what Python has compiled, as a user's do.

    Where tests run, a variable often forbids it, and each process compiles all of studyflow again.
    """
    for variable in ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"):
        os.environ.pop(variable, None)


@dataclass(frozen=True)
class Spent:
    """What a command took, with all processes that it waited for."""

    cpu_seconds: float
    memory_mb: float
    """Of the largest of its processes, at its largest."""


def spent_by(command: Sequence[str], folder: Path) -> Spent:
    """Return what a command takes.

    Raises:
        RuntimeError: It fails.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            raise RuntimeError(f"{command}: {output.read()[-2000:].decode(errors='replace')}")
    return Spent(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
