"""A study storage that fails on command, as databases do."""

from __future__ import annotations

import enum
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from optuna.storages import BaseStorage

from studyflow.errors import StorageUnavailable
from studyflow.storage import ForwardingStorage

_T = TypeVar("_T")


class StorageFault(enum.Enum):
    """What goes wrong with a call."""

    LOST_BEFORE_COMMIT = "server closed the connection unexpectedly"
    """The connection is cut and nothing was done."""
    LOST_AFTER_COMMIT = "consuming input failed: connection reset by peer"
    """The work is done, but the answer is lost."""
    DEADLOCK = "deadlock detected"
    """The database rolled the work back in favour of somebody else."""
    LOCKED = "database is locked"
    """Another process writes to the file."""
    SLOW = "slow"
    """The call works, after a while."""


@dataclass(slots=True)
class _Plan:
    fault: StorageFault
    methods: frozenset[str]
    rate: float
    times: float


class FailingStorage(ForwardingStorage):
    """Passes calls on to a storage, unless told otherwise.

    Args:
        storage: The storage that works.
        seed: Of the random numbers that decide which calls fail.
        slow_seconds: How long a slow call takes.
        sleep: Waits for seconds.
    """

    def __init__(
        self,
        storage: BaseStorage,
        *,
        seed: int = 0,
        slow_seconds: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(storage)
        self.calls: Counter[str] = Counter()
        """How often each method was called, whatever came of it."""
        self.failures: Counter[str] = Counter()
        """How often each method failed."""
        self.is_away = False
        """While true, every call fails before anything is done."""
        self._random = random.Random(seed)
        self._slow_seconds = slow_seconds
        self._sleep = sleep
        self._plans: list[_Plan] = []

    def fail(
        self, fault: StorageFault, *methods: str, rate: float = 1.0, times: float = float("inf")
    ) -> None:
        """Have calls go wrong from now on.

        Args:
            fault: How.
            methods: Names of methods, such as `create_new_trial`; none means all.
            rate: Share of the calls that go wrong, from 0 to 1.
            times: How many calls go wrong before all is well again.
        """
        self._plans.append(_Plan(fault, frozenset(methods), rate, times))

    def heal(self) -> None:
        """Have all calls work again."""
        self._plans.clear()
        self.is_away = False

    def _pass(self, method: str, call: Callable[[], _T]) -> _T:
        self.calls[method] += 1
        fault = StorageFault.LOST_BEFORE_COMMIT if self.is_away else self._draw(method)
        match fault:
            case None:
                return call()
            case StorageFault.SLOW:
                self._sleep(self._slow_seconds)
                return call()
            case StorageFault.LOST_AFTER_COMMIT:
                call()
        self.failures[method] += 1
        raise StorageUnavailable(f"The study storage test:// failed: {fault.value}.")

    def _draw(self, method: str) -> StorageFault | None:
        for plan in self._plans:
            is_meant = not plan.methods or method in plan.methods
            if is_meant and plan.times > 0 and self._random.random() < plan.rate:
                plan.times -= 1
                return plan.fault
        return None
