"""An executor in memory: trials are functions, and hours pass in microseconds.

    clock = FakeClock()
    executor = FakeExecutor(
        "demo",
        objective=lambda params: {"loss": (params["x"] - 2) ** 2},
        duration=lambda params: 60.0,
        curve=lambda params: [{"loss": 9.0}, {"loss": 4.0}],
        clock=clock,
    )

Without an objective, attempts run until a test ends them: `finish`, `lose`. `again()` is what a new
runner after a crash would have: another executor object for the same attempts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from studyflow.errors import ExecutorError, ExecutorUnavailable
from studyflow.executors.protocol import (
    AttemptId,
    AttemptState,
    AttemptStatus,
    ExecutorTraits,
)
from studyflow.executors.without_logs import WithoutLogs
from studyflow.reasons import Code
from studyflow.testing.fake_clock import FakeClock
from studyflow.trial import Cause, MetricPoint, Outcome, ParamValue, Trial
from studyflow.trial.checkpoint_folders import CHECKPOINT_METRIC
from studyflow.trial.cost import Allocation
from studyflow.trial.former_names import FormerProperty, former_arguments

Params = Mapping[str, ParamValue]
Result = float | Mapping[str, float] | Cause | None
"""What a simulated trial ends with: its one metric, its metrics, or a cause without metrics; `None`
for a script that ends in order and says nothing."""

FOREVER: Final = math.inf


@dataclass(slots=True)
class _Running:
    """One attempt on the fake machine."""

    trial: Trial
    started_at: float
    ends_at: float
    outcome: Outcome | None
    """How it ends at `ends_at`."""
    exit_code: int | None
    points: list[tuple[float, MetricPoint]]
    """What it reports, by the time it does."""
    is_stopped: bool = False
    is_forgotten: bool = False

    @property
    def checkpoint_step(self) -> int:
        """The last step of which it has published a checkpoint; -1 without any."""
        published = (p.step for _, p in self.points if p.name == CHECKPOINT_METRIC)
        return max(published, default=-1)


@dataclass(slots=True)
class FakeMachine:
    """Where the attempts of one fake study are; survives its runners."""

    clock: FakeClock
    attempts: dict[AttemptId, _Running] = field(default_factory=dict)
    submitted: list[Trial] = field(default_factory=list)
    """Every attempt that was really started, in order."""
    most_running: int = 0
    """The most attempts that ever ran at once."""
    is_away: bool = False
    damaged: set[int] = field(default_factory=set)
    """Trials whose checkpoints cannot be read any more."""

    def checkpoint_step(self, number: int, attempt: int) -> int:
        """Return the step that an attempt goes on from; -1 for a new beginning."""
        if number in self.damaged:
            return -1
        earlier = sorted((a for a in self.attempts if a.number == number), reverse=True)
        steps = (self.attempts[a].checkpoint_step for a in earlier if a.attempt < attempt)
        return next((step for step in steps if step >= 0), -1)

    def running(self) -> list[AttemptId]:
        """Return the attempts that run now."""
        now = self.clock()
        return [attempt for attempt, r in self.attempts.items() if now < r.ends_at]


@former_arguments(place="site")
class FakeExecutor(WithoutLogs):
    """Runs attempts as functions under a fake clock. Fulfils the executor's contract.

    Args:
        study: Name of the study.
        objective: Parameters to result; `None` to end attempts by hand. An exception becomes
            `user-error`.
        duration: Seconds that an attempt takes, or a function of the parameters.
        curve: Metrics reported while it runs, evenly over the duration; the first at the start.
        clock: Time; `wait` advances it.
        slots: How many attempts can run at once.
        timeout_seconds: Longest time for one attempt.
        stop_seconds: Time between a stop and the end of the attempt.
        machine: Where the attempts are; `None` for a new, empty one.
        site: Name of the machine.
        canary_seconds: How long the first attempt of a study runs before others may begin.
        gpus: GPUs that each attempt holds.
        checkpoint_every: After how many steps of the curve an attempt publishes a checkpoint, just
            before it reports; a later attempt goes on after the last one. `None` for none.
    """

    def __init__(
        self,
        study: str,
        *,
        objective: Callable[[Params], Result] | None = None,
        duration: float | Callable[[Params], float] = 1.0,
        curve: Callable[[Params], Sequence[Mapping[str, float]]] | None = None,
        clock: FakeClock | None = None,
        slots: int | None = None,
        timeout_seconds: float | None = None,
        stop_seconds: float = 0.0,
        machine: FakeMachine | None = None,
        site: str = "here",
        canary_seconds: float = 0.0,
        gpus: int = 0,
        checkpoint_every: int | None = None,
    ) -> None:
        self.machine = machine or FakeMachine(clock or FakeClock())
        self._study = study
        self._objective = objective
        self._duration = duration
        self._curve = curve
        self._slots = slots
        self._timeout_seconds = timeout_seconds
        self._stop_seconds = stop_seconds
        self.site = site
        self.canary_seconds = canary_seconds
        self._checkpoint_every = checkpoint_every
        self._allocation = Allocation(gpus, "gpu" if gpus else None)
        self._points_seen: dict[AttemptId, int] = {}
        self._shown: dict[AttemptId, AttemptStatus] = {}
        """What was last polled of attempts that run and report nothing: it stands."""

    def again(self) -> FakeExecutor:
        """Return another executor object for the same attempts, as a new runner would have."""
        return FakeExecutor(
            self._study,
            objective=self._objective,
            duration=self._duration,
            curve=self._curve,
            slots=self._slots,
            timeout_seconds=self._timeout_seconds,
            stop_seconds=self._stop_seconds,
            machine=self.machine,
            site=self.site,
            canary_seconds=self.canary_seconds,
            gpus=self._allocation.gpus,
            checkpoint_every=self._checkpoint_every,
        )

    # The executor

    @property
    def traits(self) -> ExecutorTraits:
        """As this object was made."""
        return ExecutorTraits(slots=self._slots, canary_seconds=self.canary_seconds)

    place = FormerProperty("site")
    slots = FormerProperty("traits.slots")
    brings_points = FormerProperty("traits.brings_points")

    def submit(self, trial: Trial, *, avoid: Collection[str] = ()) -> AttemptId:  # noqa: ARG002
        """Start an attempt, or adopt the one that exists already; there are no nodes.

        Raises:
            ExecutorUnavailable: The machine was told to be away, or all slots are taken.
            ExecutorError: The trial is another study's, or exists with other parameters.
        """
        self._answer()
        if trial.study != self._study:
            raise ExecutorError(
                f"This executor runs study {self._study!r}; the trial is of {trial.study!r}."
            )
        attempt = AttemptId(trial.number, trial.attempt)
        existing = self.machine.attempts.get(attempt)
        if existing is not None:
            if dict(existing.trial.params) != dict(trial.params):
                raise ExecutorError(f"Attempt {attempt} exists with other parameters.")
            existing.is_forgotten = False
            return attempt
        if self._slots is not None and len(self.machine.running()) >= self._slots:
            raise ExecutorUnavailable(f"All {self._slots} slots are taken.", code=Code.NO_SLOT)
        self.machine.attempts[attempt] = self._simulate(trial)
        self.machine.submitted.append(trial)
        self.machine.most_running = max(self.machine.most_running, len(self.machine.running()))
        return attempt

    def poll(self) -> Mapping[AttemptId, AttemptStatus]:
        """Return every attempt that was submitted and not forgotten.

        Raises:
            ExecutorUnavailable: The machine was told to be away.
        """
        self._answer()
        return {
            attempt: self._status_of(attempt, running)
            for attempt, running in sorted(self.machine.attempts.items())
            if not running.is_forgotten
        }

    def wait(self, timeout_seconds: float) -> None:
        """Advance the clock to the next event, at the most by `timeout_seconds`."""
        now = self.machine.clock()
        events = [
            when
            for attempt, running in self.machine.attempts.items()
            if not running.is_forgotten
            for when in (running.ends_at, *self._unseen_times(attempt, running))
            if now < when
        ]
        self.machine.clock.advance(min([timeout_seconds, *(when - now for when in events)]))

    def stop(self, attempt: AttemptId, cause: Cause, reason: str) -> None:
        """Ask an attempt to end with this cause.

        Raises:
            ExecutorUnavailable: The machine was told to be away.
        """
        self._answer()
        running = self.machine.attempts.get(attempt)
        if running is None or running.is_stopped or self.machine.clock() >= running.ends_at:
            return
        running.is_stopped = True
        self._end(running, _outcome(running.trial, cause, reason), -15, self._stop_seconds)

    def forget(self, attempt: AttemptId) -> None:
        """Let go of an ended attempt.

        Raises:
            ExecutorUnavailable: The machine was told to be away.
            ExecutorError: The attempt has not ended.
        """
        self._answer()
        running = self.machine.attempts.get(attempt)
        if running is None:
            return
        if self.machine.clock() < running.ends_at:
            raise ExecutorError(f"Attempt {attempt} has not ended and cannot be forgotten.")
        running.is_forgotten = True

    def close(self) -> None:
        """Do nothing; attempts go on."""

    # What a test makes happen

    def report(self, attempt: AttemptId, step: int, **metrics: float) -> None:
        """Let an attempt report metrics now."""
        now = self.machine.clock()
        self.machine.attempts[attempt].points.extend(
            (now, MetricPoint(name, step, value, round(now * 1000)))
            for name, value in metrics.items()
        )

    def finish(self, attempt: AttemptId, result: Result | Outcome) -> None:
        """Let an attempt end now."""
        running = self.machine.attempts[attempt]
        outcome = result if isinstance(result, Outcome) else _judge(running.trial, result)
        self._end(running, outcome, _exit_code(outcome))

    def lose(self, attempt: AttemptId, cause: Cause = Cause.LOST) -> None:
        """Let an attempt's machine disappear now; nothing happens to one that has ended."""
        running = self.machine.attempts[attempt]
        if self.machine.clock() < running.ends_at:
            self._end(running, _outcome(running.trial, cause, "Made to disappear by a test."), None)

    def go_away(self) -> None:
        """Let every call raise `ExecutorUnavailable`; attempts go on."""
        self.machine.is_away = True

    def come_back(self) -> None:
        """Let calls succeed again."""
        self.machine.is_away = False

    # How attempts are simulated

    def _answer(self) -> None:
        if self.machine.is_away:
            raise ExecutorUnavailable("The fake executor was told to be away.")

    def _simulate(self, trial: Trial) -> _Running:
        now = self.machine.clock()
        if self._objective is None:
            return self._limited(_Running(trial, now, FOREVER, None, None, []))
        seconds = self._duration if isinstance(self._duration, float | int) else None
        if seconds is None:
            assert callable(self._duration)
            seconds = self._duration(trial.params)
        try:
            outcome = _judge(trial, self._objective(trial.params))
        except Exception as error:  # noqa: BLE001 - it stands for a training script
            outcome = _outcome(trial, Cause.USER_ERROR, f"{type(error).__name__}: {error}")
        steps = [] if self._curve is None else self._curve(trial.params)
        pause = seconds / max(len(steps), 1) if math.isfinite(seconds) else 0.0
        first = self.machine.checkpoint_step(trial.number, trial.attempt) + 1
        seconds -= first * pause
        points = [
            (at, MetricPoint(name, step, value, round(at * 1000)))
            for step, metrics in list(enumerate(steps))[first:]
            for at in (now + (step - first) * pause,)
            for name, value in (*self._published(trial, step), *metrics.items())
        ]
        return self._limited(
            _Running(trial, now, now + seconds, outcome, _exit_code(outcome), points)
        )

    def _published(self, trial: Trial, step: int) -> tuple[tuple[str, float], ...]:
        every = self._checkpoint_every
        is_saved = every is not None and (step + 1) % every == 0
        return ((CHECKPOINT_METRIC, float(trial.attempt)),) if is_saved else ()

    def _limited(self, running: _Running) -> _Running:
        limit = self._timeout_seconds
        if limit is not None and running.ends_at > running.started_at + limit:
            running.ends_at = running.started_at + limit
            running.outcome = _outcome(
                running.trial, Cause.TIMEOUT, f"Reached the time limit of {limit:g} s."
            )
            running.exit_code = -15
        return running

    def _end(
        self, running: _Running, outcome: Outcome, exit_code: int | None, seconds: float = 0.0
    ) -> None:
        running.ends_at = min(running.ends_at, self.machine.clock() + seconds)
        running.outcome = outcome
        running.exit_code = exit_code
        running.points = [point for point in running.points if point[0] <= running.ends_at]

    def _unseen_times(self, attempt: AttemptId, running: _Running) -> list[float]:
        return [at for at, _ in running.points[self._points_seen.get(attempt, 0) :]]

    def _status_of(self, attempt: AttemptId, running: _Running) -> AttemptStatus:
        now = self.machine.clock()
        seen = self._points_seen.get(attempt, 0)
        shown = self._shown.get(attempt)
        if shown is not None and now < running.ends_at and len(running.points) <= seen:
            return shown
        points = tuple(point for at, point in running.points[seen:] if at <= now)
        self._points_seen[attempt] = seen + len(points)
        self._shown.pop(attempt, None)
        if now < running.ends_at:
            status = AttemptStatus(
                AttemptState.RUNNING,
                points=points,
                started_at=running.started_at,
                allocation=self._allocation,
                running_seconds=now - running.started_at,
            )
            if not points:
                self._shown[attempt] = status
            return status
        return AttemptStatus(
            AttemptState.ENDED,
            outcome=running.outcome,
            exit_code=running.exit_code,
            points=points,
            started_at=running.started_at,
            ended_at=running.ends_at,
            allocation=self._allocation,
        )


def _exit_code(outcome: Outcome) -> int:
    return 0 if outcome.cause is Cause.OK or outcome.is_silent else 1


def _judge(trial: Trial, result: Result) -> Outcome:
    if result is None:
        silence = _outcome(trial, Cause.BAD_METRIC, f"Trial {trial.number} ended without a value.")
        return replace(silence, code=Code.OUTCOME_MISSING)
    if isinstance(result, Cause):
        return _outcome(trial, result, f"Simulated {result.value}.")
    if isinstance(result, Mapping):
        return _outcome(trial, Cause.OK, "", result)
    return _outcome(trial, Cause.OK, "", {trial.metrics[0] if trial.metrics else "value": result})


def _outcome(
    trial: Trial, cause: Cause, message: str, metrics: Mapping[str, float] | None = None
) -> Outcome:
    return Outcome(trial.study, trial.number, trial.attempt, cause, dict(metrics or {}), message)
