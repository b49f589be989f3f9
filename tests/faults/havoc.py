"""Breaks things around one study at random: what local studies and those of pods have in common."""

from __future__ import annotations

import os
import random
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import date
from typing import Protocol

Fault = Callable[[], None]


def seed_of(is_long: bool) -> int:
    """Return STUDYFLOW_FAULT_SEED, else 0, and in a long form another number each day."""
    day = date.today().toordinal() if is_long else 0
    return int(os.environ.get("STUDYFLOW_FAULT_SEED", day))


class Runner(Protocol):
    """A process that drives the study; a `Popen` is one."""

    def poll(self) -> int | None:
        """Return its exit code, or `None` while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code once it has ended."""

    def send_signal(self, number: int, /) -> None:
        """Send it a signal."""

    def terminate(self) -> None:
        """Send it SIGTERM."""

    def kill(self) -> None:
        """Send it SIGKILL."""


class Havoc(ABC):
    """Each fault breaks one thing, and leaves a runner at work.

    Args:
        start: Starts a runner.
        seed: Decides what breaks when.
    """

    PAUSE_SECONDS = (0.2, 1.0)
    """For how long a runner is stopped, at least and at most."""
    OVERLAP_SECONDS = (0.5, 2.0)
    """How long two runners are at work."""

    def __init__(self, start: Callable[[], Runner], seed: int) -> None:
        self._start = start
        self.random = random.Random(seed)
        self.diary: list[str] = []
        self.runner = start()

    @abstractmethod
    def faults(self) -> list[Fault]:
        """Return what can be broken."""

    @abstractmethod
    def begun(self) -> set[str]:
        """Return the attempts that have begun and left something to see."""

    def kill_the_runner(self) -> None:
        self.runner.kill()
        self.runner.wait()
        self.runner = self._start()

    def pause_the_runner(self) -> None:
        self.runner.send_signal(signal.SIGSTOP)
        time.sleep(self.random.uniform(*self.PAUSE_SECONDS))
        self.runner.send_signal(signal.SIGCONT)

    def start_another_runner(self) -> None:
        """Let a second runner take over from the first, which is killed."""
        first, self.runner = self.runner, self._start()
        time.sleep(self.random.uniform(*self.OVERLAP_SECONDS))
        first.kill()
        first.wait()

    def wreak(self, n_faults: int) -> None:
        """Do a number of faults, each after another attempt has begun since the last."""
        faults = self.faults()
        # Each kind once, in any order, and some again.
        plan = self.random.sample(faults, len(faults))
        plan += self.random.choices(faults, k=n_faults - len(faults))
        for fault in plan:
            if not self._wait_for_news():
                return
            time.sleep(self.random.uniform(0.0, 0.5))
            self.diary.append(fault.__name__)
            fault()

    def _wait_for_news(self) -> bool:
        """Return whether there is still something to break, once another attempt has begun."""
        known, deadline = self.begun(), time.monotonic() + 120
        while not self.begun() - known:
            if self.runner.poll() is not None:
                return False
            assert time.monotonic() < deadline, "no other attempt begins"
            time.sleep(0.02)
        return True
