"""How often the kernel killed for want of memory, and whether lately."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

OOM_SECONDS: Final = 60.0
"""How long before a script's end the kernel may have killed for want of memory and still be the
reason: a script learns late of a data loader that was killed, and may need long to end. What was
killed earlier, the script survived."""


class RecentKills:
    """Whether the kernel killed for want of memory lately: since 60 to 120 seconds ago."""

    def __init__(
        self,
        count: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count = count or count_oom_kills
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


def count_oom_kills() -> int:
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
