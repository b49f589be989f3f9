"""What one simulated attempt does, and when. Pure."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Final

from studyflow.simulation.cluster import Cluster
from studyflow.simulation.workload import Training
from studyflow.trial import Cause, MetricPoint, Outcome, Trial
from studyflow.trial.checkpoint_folders import CHECKPOINT_METRIC

KILLED: Final = -15
"""Exit code of an attempt that was told to end."""


@dataclass(frozen=True, slots=True)
class Course:
    """One attempt from its launch to its end. Times are in seconds since the epoch."""

    started_at: float
    """Start of its container."""
    ends_at: float
    outcome: Outcome
    exit_code: int | None
    times: tuple[float, ...]
    """When it reports, ascending."""
    points: tuple[tuple[MetricPoint, ...], ...]
    """What it reports then."""
    n_done: tuple[int, ...]
    """How many steps of the training the newest checkpoint holds after each of these reports."""
    n_before: int
    """How many the checkpoint held that it began with."""

    def n_saved(self, now: float) -> int:
        """Return how many steps of the training its newest checkpoint holds at a time."""
        n_reports = bisect_right(self.times, min(now, self.ends_at))
        return self.n_done[n_reports - 1] if n_reports else self.n_before

    def ended(
        self, trial: Trial, when: float, cause: Cause, message: str, exit_code: int | None
    ) -> Course:
        """Return the course that ends otherwise, at a time before its own end.

        Args:
            trial: The attempt.
            when: Its end. What is reported at this very moment still counts.
            cause: Why it ends.
            message: The same in a sentence.
            exit_code: Of its script; `None` if nobody sees that.
        """
        n = bisect_right(self.times, when)
        outcome = Outcome(trial.study, trial.number, trial.attempt, cause, {}, message)
        return replace(
            self,
            started_at=min(self.started_at, when),
            ends_at=when,
            outcome=outcome,
            exit_code=exit_code,
            times=self.times[:n],
            points=self.points[:n],
            n_done=self.n_done[:n],
        )


def course(
    trial: Trial,
    training: Training,
    cluster: Cluster,
    *,
    now: float,
    n_before: int = 0,
    timeout_seconds: float | None = None,
) -> Course:
    """Return what an attempt does that is launched now, unless it is stopped.

    Args:
        trial: The attempt.
        training: Its trial's.
        cluster: Where it runs.
        now: When that is.
        n_before: How many steps of the training a checkpoint holds that it goes on from.
        timeout_seconds: Longest time for one attempt; `None` for no limit.
    """
    waited = cluster.pod_seconds + (cluster.suggestion_seconds if trial.attempt == 1 else 0.0)
    started_at = now + waited
    objective = trial.metrics[0] if trial.metrics else "value"
    at, n_saved = started_at + cluster.startup_seconds, n_before
    times, points, n_done = [], [], []
    step_seconds = training.step_seconds
    for index in range(n_before, len(step_seconds)):
        at += step_seconds[index]
        stamp, step = round(at * 1000), training.step(index)
        reported = [MetricPoint(objective, step, float(training.values[index]), stamp)]
        if cluster.checkpoint_every is not None and (index + 1) % cluster.checkpoint_every == 0:
            # Before the value: whoever stops the attempt for that value finds the step saved.
            reported.insert(0, MetricPoint(CHECKPOINT_METRIC, step, float(trial.attempt), stamp))
            n_saved = index + 1
        times.append(at)
        points.append(tuple(reported))
        n_done.append(n_saved)
    cause = training.cause
    message = "" if cause is Cause.OK else f"Simulated {cause.value}."
    metrics = training.metrics(objective)
    outcome = Outcome(trial.study, trial.number, trial.attempt, cause, metrics, message)
    whole = Course(
        started_at,
        at + training.tail_seconds,
        outcome,
        0 if cause is Cause.OK else 1,
        tuple(times),
        tuple(points),
        tuple(n_done),
        n_before,
    )
    lost_at = started_at + cluster.seconds_until_loss(trial.number, trial.attempt)
    limit_at = float("inf") if timeout_seconds is None else started_at + timeout_seconds
    if limit_at < min(whole.ends_at, lost_at):
        told = f"Reached the time limit of {timeout_seconds:g} s."
        return whole.ended(trial, limit_at, Cause.TIMEOUT, told, KILLED)
    if lost_at < whole.ends_at:
        return whole.ended(trial, lost_at, Cause.EVICTED, "Simulated loss of the attempt.", None)
    return whole
