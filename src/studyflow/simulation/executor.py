"""An executor in virtual time: attempts are courses, and waiting moves the clock."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from studyflow.errors import ExecutorError, ExecutorUnavailable, SimulationError
from studyflow.executors import (
    AttemptId,
    AttemptState,
    AttemptStatus,
    ExecutorTraits,
)
from studyflow.executors.without_logs import WithoutLogs
from studyflow.reasons import Code
from studyflow.simulation.clock import VirtualClock
from studyflow.simulation.cluster import Cluster
from studyflow.simulation.course import KILLED, Course, course
from studyflow.simulation.workload import Training, Workload
from studyflow.trial import Cause, Consequence, Trial
from studyflow.trial.cost import Allocation

RETRY_SECONDS: Final = 5.0
"""Longest wait while a lost attempt may be followed by another: the first pause before one."""

RETRIED_SECONDS: Final = 301.0
"""For how long after a loss that is so: until the longest pause is over."""

MAX_IDLE: Final = 1000
"""How often a runner may wait while nothing runs and nothing comes, before that is an error."""


@dataclass(slots=True)
class _Attempt:
    trial: Trial
    course: Course
    allocation: Allocation
    is_stopped: bool = False


@dataclass(slots=True)
class SimulatedMachine:
    """Where the attempts of one simulated study are; survives its runners."""

    cluster: Cluster
    workload: Workload
    seed: int = 0
    clock: VirtualClock = field(default_factory=VirtualClock)
    attempts: dict[AttemptId, _Attempt] = field(default_factory=dict)
    """Submitted and not forgotten."""
    forgotten: dict[AttemptId, _Attempt] = field(default_factory=dict)
    submitted: list[Trial] = field(default_factory=list)
    """Every attempt that was really started, in order."""
    trainings: dict[int, Training] = field(default_factory=dict)
    """By trial: all of its attempts are parts of one training."""
    n_saved: dict[int, int] = field(default_factory=dict)
    """By trial, how many steps the checkpoints of forgotten attempts hold."""
    ended_unit_seconds: float = 0.0
    """GPU-seconds, or seconds of places, of forgotten attempts."""
    lost_at: dict[int, float] = field(default_factory=dict)
    """By trial whose newest attempt was lost, when."""

    def training(self, trial: Trial) -> Training:
        """Return what a trial does, made when it is first asked for."""
        found = self.trainings.get(trial.number)
        if found is None:
            seed = int(np.random.SeedSequence([self.seed, trial.number]).generate_state(1)[0])
            found = self.trainings[trial.number] = self.workload(trial.params, seed)
        return found

    def n_before(self, number: int) -> int:
        """Return how many steps of a trial's training its published checkpoints hold now."""
        now = self.clock()
        saved = [a.course.n_saved(now) for i, a in self.attempts.items() if i.number == number]
        return max([self.n_saved.get(number, 0), *saved])

    def live(self) -> list[_Attempt]:
        """Return the attempts that have not ended."""
        now = self.clock()
        return [attempt for attempt in self.attempts.values() if now < attempt.course.ends_at]

    def unit_seconds(self) -> float:
        """Return the GPU-seconds spent so far, those of running attempts included."""
        now = self.clock()
        running = (_unit_seconds(attempt, now) for attempt in self.attempts.values())
        return self.ended_unit_seconds + math.fsum(running)

    def lose(self, attempt: AttemptId, cause: Cause = Cause.LOST) -> None:
        """Let an attempt's node disappear now; nothing happens to one that has ended."""
        running, now = self.attempts[attempt], self.clock()
        if now < running.course.ends_at:
            running.course = running.course.ended(
                running.trial, now, cause, "Made to vanish.", None
            )


class SimulatedExecutor(WithoutLogs):
    """Runs attempts on a simulated machine. Fulfils the executor's contract.

    Args:
        study: Name of the study.
        machine: Where the attempts are; executors of one machine see the same ones.
        allocation: What an attempt holds whose training says nothing of GPUs; by default none.
        timeout_seconds: Longest time for one attempt; `None` for no limit.
    """

    def __init__(
        self,
        study: str,
        machine: SimulatedMachine,
        *,
        allocation: Allocation | None = None,
        timeout_seconds: float | None = None,
    ) -> None:
        self.machine = machine
        self._study = study
        self._allocation = allocation or Allocation()
        self._timeout_seconds = timeout_seconds
        self._n_seen: dict[AttemptId, int] = {}
        """Reports of each attempt that `poll` has passed on."""
        self._shown: dict[AttemptId, AttemptStatus] = {}
        """What was last polled of attempts that do not change until their next event."""
        self._n_idle = 0

    @property
    def traits(self) -> ExecutorTraits:
        """The machine's slots."""
        return ExecutorTraits(slots=self.machine.cluster.slots)

    @property
    def site(self) -> str:
        """Always the same: a simulated study has one machine."""
        return "simulated"

    def submit(self, trial: Trial, *, avoid: Collection[str] = ()) -> AttemptId:  # noqa: ARG002
        """Start an attempt, or adopt the one that exists already; there are no nodes.

        Raises:
            ExecutorUnavailable: All slots are taken.
            ExecutorError: The trial is another study's, or exists with other parameters.
        """
        if trial.study != self._study:
            raise ExecutorError(
                f"This executor runs study {self._study!r}; the trial is of {trial.study!r}."
            )
        machine, attempt = self.machine, AttemptId(trial.number, trial.attempt)
        known = machine.attempts.get(attempt) or machine.forgotten.get(attempt)
        if known is not None:
            if dict(known.trial.params) != dict(trial.params):
                raise ExecutorError(f"Attempt {attempt} exists with other parameters.")
            return attempt
        if len(machine.live()) >= machine.cluster.slots:
            slots = machine.cluster.slots
            raise ExecutorUnavailable(f"All {slots} slots are taken.", code=Code.NO_SLOT)
        training = machine.training(trial)
        planned = course(
            trial,
            training,
            machine.cluster,
            now=machine.clock(),
            n_before=machine.n_before(trial.number),
            timeout_seconds=self._timeout_seconds,
        )
        machine.attempts[attempt] = _Attempt(trial, planned, self._holds(training))
        machine.submitted.append(trial)
        machine.lost_at.pop(trial.number, None)
        self._n_idle = 0
        return attempt

    def poll(self) -> Mapping[AttemptId, AttemptStatus]:
        """Return every attempt that was submitted and not forgotten."""
        now = self.machine.clock()
        return {id_: self._status(id_, a, now) for id_, a in self.machine.attempts.items()}

    def wait(self, timeout_seconds: float) -> None:
        """Let time pass until the next event, at the most `timeout_seconds`.

        Raises:
            SimulationError: Nothing runs, and nothing has started for so many waits that nothing
                ever will; or no end of the wait is known.
        """
        now = self.machine.clock()
        self._check_life()
        events = (self._next_event(id_, a, now) for id_, a in self.machine.attempts.items())
        until = min(now + timeout_seconds, *events, math.inf)
        if any(now < lost_at + RETRIED_SECONDS for lost_at in self.machine.lost_at.values()):
            until = min(until, now + RETRY_SECONDS)
        if math.isinf(until):
            raise SimulationError(
                "The simulation waits for ever: what runs never ends.",
                hint="give the trials a limit, trial.timeout_seconds, or trainings that end.",
            )
        self.machine.clock.advance_to(until)

    def stop(self, attempt: AttemptId, cause: Cause, reason: str) -> None:
        """Ask an attempt to end with this cause."""
        running, now = self.machine.attempts.get(attempt), self.machine.clock()
        if running is None or running.is_stopped or now >= running.course.ends_at:
            return
        running.is_stopped = True
        ends_at = now + self.machine.cluster.stop_seconds
        # A training that would have come to its end meanwhile was stopped before it did.
        ends_at = min(ends_at, running.course.ends_at)
        running.course = running.course.ended(running.trial, ends_at, cause, reason, KILLED)

    def forget(self, attempt: AttemptId) -> None:
        """Let go of an ended attempt.

        Raises:
            ExecutorError: The attempt has not ended.
        """
        machine, now = self.machine, self.machine.clock()
        ended = machine.attempts.get(attempt)
        if ended is None:
            return
        if now < ended.course.ends_at:
            raise ExecutorError(f"Attempt {attempt} has not ended and cannot be forgotten.")
        machine.n_saved[attempt.number] = machine.n_before(attempt.number)
        machine.ended_unit_seconds += _unit_seconds(ended, now)
        if ended.course.outcome.cause.consequence is Consequence.RETRY:
            machine.lost_at[attempt.number] = now
        machine.forgotten[attempt] = machine.attempts.pop(attempt)
        self._shown.pop(attempt, None)
        self._n_seen.pop(attempt, None)

    def close(self) -> None:
        """Do nothing; attempts go on."""

    def _holds(self, training: Training) -> Allocation:
        gpus = training.gpus
        if gpus is None:
            return self._allocation
        return Allocation(gpus, (self._allocation.resource or "gpu") if gpus else None)

    def _check_life(self) -> None:
        if self.machine.attempts:
            return
        self._n_idle += 1
        if self._n_idle > MAX_IDLE:
            raise SimulationError(
                "The simulation stands still: nothing runs, and nothing starts any more.",
                hint="is the study paused, or is there no room for a single trial?",
            )

    def _next_event(self, attempt: AttemptId, running: _Attempt, now: float) -> float:
        """Return when an attempt changes next; infinite for one that has ended."""
        path = running.course
        if now >= path.ends_at:
            return math.inf
        if now < path.started_at:
            return path.started_at
        n_seen = self._n_seen.get(attempt, 0)
        return path.times[n_seen] if n_seen < len(path.times) else path.ends_at

    def _status(self, attempt: AttemptId, running: _Attempt, now: float) -> AttemptStatus:
        path, n_seen = running.course, self._n_seen.get(attempt, 0)
        n_times, shown = len(path.times), self._shown.get(attempt)
        if shown is not None and now < (path.times[n_seen] if n_seen < n_times else path.ends_at):
            return shown
        if now < path.started_at:
            return AttemptStatus(AttemptState.PENDING, allocation=running.allocation)
        n = n_seen
        while n < n_times and path.times[n] <= now:
            n += 1
        points = tuple(point for batch in path.points[n_seen:n] for point in batch)
        self._n_seen[attempt] = n
        self._shown.pop(attempt, None)
        if now >= path.ends_at:
            return AttemptStatus(
                AttemptState.ENDED,
                outcome=path.outcome,
                exit_code=path.exit_code,
                points=points,
                started_at=path.started_at,
                ended_at=path.ends_at,
                allocation=running.allocation,
            )
        status = AttemptStatus(
            AttemptState.RUNNING,
            points=points,
            started_at=path.started_at,
            allocation=running.allocation,
            running_seconds=now - path.started_at,
        )
        if not points:
            self._shown[attempt] = status
        return status


def _unit_seconds(attempt: _Attempt, now: float) -> float:
    path = attempt.course
    seconds = max(min(now, path.ends_at) - path.started_at, 0.0)
    return max(attempt.allocation.gpus, 1) * seconds
