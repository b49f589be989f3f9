"""What a study knows about its trials, free of Optuna, Kubernetes and MLflow.

`Study.records()` makes these from the storage; trackers, reports and terminals read them.
"""

from __future__ import annotations

import enum
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from studyflow.reasons import Cause, Reason, ReasonCode
from studyflow.trial.causes import code_of
from studyflow.trial.cost import AttemptCost, Begin
from studyflow.trial.fields import ParamValue


class TrialState(enum.StrEnum):
    """Where a trial stands. The last three are final."""

    WAITING = "waiting"
    """Enqueued, not yet asked for."""
    RUNNING = "running"
    """Asked for, and not told: between attempts too."""
    COMPLETE = "complete"
    """Told with values."""
    PRUNED = "pruned"
    """Stopped early; the values reported so far are known."""
    FAILED = "failed"
    """Ended without values; `cause` says why."""

    @property
    def is_finished(self) -> bool:
        """Whether the state is final."""
        return self in _FINISHED


_FINISHED: Final = frozenset({TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED})


@dataclass(frozen=True, slots=True)
class AttemptSteps:
    """How far an attempt came, by what it told; `None` for what it did not tell."""

    checkpoint: int | None = None
    """Highest step of a checkpoint that it published."""
    first: int | None = None
    """Lowest step that it reported."""
    last: int | None = None
    """Highest step that it reported."""


NO_STEPS: Final = AttemptSteps()


@dataclass(frozen=True, slots=True)
class LostAttempt:
    """An attempt that was lost to the infrastructure, and followed by another."""

    attempt: int
    """Number of the attempt, from 1."""
    cause: Cause
    message: str = ""
    """The cause in a sentence for a human."""
    hint: str | None = None
    """The way out; `None` when there is nothing to do."""
    trained_seconds: float | None = None
    """How long its script ran, for nothing; `None` while unknown."""
    node: str | None = None
    """Node that ran it, or was to; `None` where there is only one machine, or none is known."""
    ended_at: float | None = None
    """When it ended, in seconds since the epoch; `None` while unknown."""
    checkpoint_step: int | None = None
    """Highest step of a checkpoint that it published; `None` if it told of none."""
    first_step: int | None = None
    """Lowest step that it reported; `None` if none is known."""
    last_step: int | None = None
    """Highest step that it reported; `None` if none is known."""

    @property
    def reason(self) -> Reason:
        """Why it was lost: code, message and way out."""
        return Reason(code_of(self.cause), self.message, self.hint)


@dataclass(frozen=True, slots=True)
class PausedAttempt:
    """An attempt that was stopped to free its slot; its trial may go on from its checkpoint."""

    attempt: int
    """Number of the attempt, from 1."""
    message: str = ""
    """Why it was paused, in a sentence for a human."""
    trained_seconds: float | None = None
    """How long its script ran; `None` while unknown."""
    node: str | None = None
    """Node that ran it; `None` where there is only one machine, or none is known."""
    ended_at: float | None = None
    """When it ended, in seconds since the epoch; `None` while unknown."""
    checkpoint_step: int | None = None
    """Highest step of a checkpoint that it published: where the trial goes on."""
    first_step: int | None = None
    """Lowest step that it reported; `None` if none is known."""
    last_step: int | None = None
    """Highest step that it reported; `None` if none is known."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """What the policy decided by, by name; empty if the runner that decided has died since."""

    @property
    def cause(self) -> Cause:
        """Why it ended."""
        return Cause.PAUSED


@dataclass(frozen=True, slots=True)
class Resumption:
    """Why a paused trial was taken up again."""

    attempt: int
    """Number of the attempt that took it up."""
    message: str = ""
    """Why, in a sentence for a human."""
    at: float | None = None
    """When, in seconds since the epoch, by the clock of the site that did."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """What the policy decided by, by name."""


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial as the storage has it."""

    number: int
    state: TrialState
    params: Mapping[str, ParamValue]
    """Searched parameters, conditional ones only when active, and fixed ones."""
    values: tuple[float, ...] | None = None
    """One value per objective, in the study's order; `None` unless complete."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Every metric that `finish` was given."""
    constraints: Mapping[str, float] = field(default_factory=dict)
    """Violation of each bound by name, such as `latency_ms <= 20`; at most 0 is feasible."""
    intermediate: Mapping[int, float] = field(default_factory=dict)
    """First objective by step, as reported while the trial ran."""
    cause: Cause | None = None
    """Why the last attempt ended; `None` while there is none."""
    message: str = ""
    """The cause in a sentence for a human; empty when all went well."""
    hint: str | None = None
    """The way out; `None` when there is nothing to do, or none is stored beside the message."""
    code: ReasonCode | None = None
    """The cause more exactly, where a runner knew it."""
    attempt: int = 0
    """Number of the newest attempt, from 1; 0 before the first."""
    holder: str | None = None
    """Site that looks after the newest attempt; see `studyflow.study.leases`."""
    lost_attempts: tuple[LostAttempt, ...] = ()
    """Earlier attempts, and maybe the newest, that were lost to the infrastructure; in order."""
    pauses: tuple[PausedAttempt, ...] = ()
    """Earlier attempts, and maybe the newest, that were stopped to free their slot; in order."""
    resumptions: tuple[Resumption, ...] = ()
    """Why the trial was taken up again after pauses, by attempt."""
    costs: tuple[AttemptCost, ...] = ()
    """What its ended attempts cost, in order; those that an earlier version recorded are
    missing, see `studyflow.ledger.rows_of`."""
    begin: Begin | None = None
    """What was known when the newest attempt was begun; `None` before, and of an earlier version's.
    """
    node: str | None = None
    """Node that the last attempt ran on; `None` where there is only one machine."""
    started_at: float | None = None
    """Start in seconds since the epoch, UTC."""
    finished_at: float | None = None
    """End in seconds since the epoch, UTC."""
    trained_seconds: float | None = None
    """How long the script of the last attempt ran; `None` while unknown."""
    run_id: str | None = None
    """The trial's MLflow run, once it exists."""
    suggestion: Mapping[str, Any] | None = None
    """What the sampler said about its choice; see `studyflow.samplers`."""

    is_enqueued: bool = False
    """Whether a person gave its parameters, in whole or in part."""
    is_taken_over: bool = False
    """Whether the trial was copied from another study; it teaches the sampler and costs no
    budget."""
    is_first_failure: bool = False
    """Whether it failed before any trial had succeeded; it costs no budget."""
    is_given_back: bool = False
    """Whether it failed and a person had its budget given back."""
    leftovers: tuple[str, ...] = ()
    """Names of what other attempts have left beside the record's own; nobody reads it as its."""

    @property
    def reason(self) -> Reason:
        """Why the last attempt ended: code, message and way out; without words when all is well."""
        return Reason(self.code or code_of(self.cause), self.message, self.hint)

    @property
    def has_attempt(self) -> bool:
        """Whether the newest attempt was begun, and is neither lost nor paused."""
        if self.pauses and self.pauses[-1].attempt == self.attempt:
            return False
        return self.attempt > 0 and not self.is_lost

    @property
    def is_paused(self) -> bool:
        """Whether the trial waits without an attempt until it is taken up again."""
        return (
            self.state is TrialState.RUNNING
            and bool(self.pauses)
            and self.pauses[-1].attempt == self.attempt
        )

    @property
    def followed_attempts(self) -> tuple[LostAttempt | PausedAttempt, ...]:
        """The attempts that were lost or paused, in order: another follows each, or may."""
        if not self.pauses:
            return self.lost_attempts
        both: list[LostAttempt | PausedAttempt] = [*self.lost_attempts, *self.pauses]
        return tuple(sorted(both, key=lambda one: one.attempt))

    @property
    def is_lost(self) -> bool:
        """Whether the newest attempt was lost to the infrastructure."""
        lost = self.lost_attempts  # mostly empty, and asked for all running trials
        return bool(lost) and any(one.attempt == self.attempt for one in lost)

    @property
    def lost_seconds(self) -> float:
        """Seconds that the scripts of lost attempts ran for nothing, as far as that is known."""
        return sum(lost.trained_seconds or 0.0 for lost in self.lost_attempts)

    @property
    def is_feasible(self) -> bool:
        """Whether the trial is complete and keeps every bound."""
        return self.state is TrialState.COMPLETE and all(v <= 0 for v in self.constraints.values())

    @property
    def duration_seconds(self) -> float | None:
        """Seconds that the last attempt ran, else from asking to telling; `None` until finished."""
        if self.trained_seconds is not None:
            return self.trained_seconds
        if self.started_at is None or self.finished_at is None:
            return None
        return max(self.finished_at - self.started_at, 0.0)


def best_records(
    records: tuple[TrialRecord, ...] | list[TrialRecord], directions: tuple[str, ...]
) -> tuple[TrialRecord, ...]:
    """Return the best feasible trials: one for one objective, else the Pareto front.

    Of equally good trials the earliest stands. Ordered by number.

    Args:
        records: Trials in any state.
        directions: `minimize` or `maximize` for each objective.
    """
    signs = [1.0 if direction == "minimize" else -1.0 for direction in directions]
    costs = {
        record.number: tuple(s * v for s, v in zip(signs, record.values, strict=True))
        for record in records
        if record.is_feasible and record.values is not None
    }
    if len(signs) == 1:
        best = min(costs, key=lambda number: (costs[number], number), default=None)
        return tuple(record for record in records if record.number == best)
    front: list[tuple[float, ...]] = []
    for cost in sorted(set(costs.values())):  # whatever dominates a cost comes before it
        if not any(all(map(operator.le, other, cost)) for other in front):
            front.append(cost)
    on_front = frozenset(front)
    return tuple(
        sorted((r for r in records if costs.get(r.number) in on_front), key=lambda r: r.number)
    )
