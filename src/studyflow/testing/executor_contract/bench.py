"""Where the attempts of a suite run, and what its tests do with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

import pytest

from studyflow.executors.protocol import (
    AttemptId,
    AttemptState,
    AttemptStatus,
    Executor,
    ExecutorWithLogs,
)
from studyflow.testing.executor_contract.scripts import METRIC, STUDY, Script
from studyflow.trial import MetricPoint, Trial


class ExecutorPlace(Protocol):
    """Where a suite's attempts run, and a side door to it."""

    patience_seconds: float
    """How long anything may take here."""

    script_seconds: float
    """Enough for a script to start, to import the SDK and to finish, when the place is busy."""

    def executor(
        self,
        script: Script,
        *,
        timeout_seconds: float | None = None,
        stop_grace_seconds: float = 0.2,
    ) -> ExecutorWithLogs:
        """Return a new executor object for the study `STUDY` whose attempts run the script.

        All objects of one place see the same attempts, as runners in several processes would.
        """

    def kill_behind_its_back(self, attempt: AttemptId) -> None:
        """Kill an attempt with all that watches over it, without the code under test."""

    def starts(self, attempt: AttemptId) -> int:
        """Return how often the attempt's script was really started."""


class Watch:
    """Polls an executor again and again, and keeps what it saw."""

    def __init__(self, executor: Executor, patience_seconds: float) -> None:
        self._executor = executor
        self._patience_seconds = patience_seconds
        self.points: dict[AttemptId, list[MetricPoint]] = {}

    def until(
        self, condition: Callable[[Mapping[AttemptId, AttemptStatus]], bool]
    ) -> Mapping[AttemptId, AttemptStatus]:
        """Return the first poll that fulfils the condition; fail when none does in time."""
        deadline = time.monotonic() + self._patience_seconds
        while True:
            statuses = self._executor.poll()
            for attempt, status in statuses.items():
                self.points.setdefault(attempt, []).extend(status.points)
                assert (status.outcome is not None) == (status.state is AttemptState.ENDED)
            if condition(statuses):
                return statuses
            if time.monotonic() > deadline:
                pytest.fail(f"not within {self._patience_seconds} s; last seen: {statuses}")
            self._executor.wait(0.5)

    def until_ended(self, attempt: AttemptId) -> AttemptStatus:
        """Return the status of the attempt's end."""
        return self.until(lambda statuses: statuses[attempt].state is AttemptState.ENDED)[attempt]

    def until_reported(self, attempt: AttemptId) -> None:
        """Return when the attempt's script runs and has reported something."""
        self.until(lambda _: bool(self.points.get(attempt)))


def a_trial(number: int = 0, attempt: int = 1, budget: int | None = None, **params: float) -> Trial:
    """Return an attempt of the contract's study."""
    return Trial(
        STUDY, number, params or {"x": 1.5}, attempt=attempt, budget=budget, metrics=(METRIC,)
    )
