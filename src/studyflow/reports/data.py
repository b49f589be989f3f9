"""What a report is made from, and the results that several parts of it state."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from studyflow.ledger.statement import Statement, statement
from studyflow.reasons import Reason
from studyflow.spec import StudySpec
from studyflow.spec.space import SearchSpace
from studyflow.spec.values import same_scalar
from studyflow.study import is_counted, n_trials_left, n_trials_to_finish, uses_budget, why_spent
from studyflow.study.attributes import kept_finish_at
from studyflow.trial import Cause, Consequence, ParamValue
from studyflow.trial.record import TrialRecord, TrialState, best_records

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Omitted:
    """Stands for a figure that was not drawn."""

    reason: str
    """Why, in one sentence for a human."""


@dataclass(frozen=True)
class FailureGroup:
    """Trials that failed for one cause."""

    cause: str
    """The cause's name; `unknown` where the storage has none."""
    messages: tuple[tuple[str, tuple[int, ...]], ...]
    """Every different message with the numbers of its trials, the most frequent first."""

    @property
    def count(self) -> int:
        """How many trials the group holds."""
        return sum(len(numbers) for _, numbers in self.messages)


@dataclass(frozen=True)
class StudyData:
    """A study as its reports see it: what was asked for, and what came back."""

    spec: StudySpec
    records: tuple[TrialRecord, ...]
    """Trials in any state, in any order."""
    optuna_study: optuna.Study | None = None
    """The stored study, where there is one: its sampler can be asked again."""

    @cached_property
    def space(self) -> SearchSpace:
        """The search space."""
        return self.spec.space

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The objectives' names."""
        return tuple(objective.metric for objective in self.spec.objectives)

    @cached_property
    def is_multi_objective(self) -> bool:
        """Whether there are two or more objectives."""
        return len(self.spec.objectives) > 1

    @cached_property
    def trials(self) -> tuple[TrialRecord, ...]:
        """All trials by number."""
        return tuple(sorted(self.records, key=lambda record: record.number))

    @cached_property
    def complete(self) -> tuple[TrialRecord, ...]:
        """Trials with one finite value for every objective, by number; infeasible ones too."""
        return tuple(
            record
            for record in self.trials
            if record.state is TrialState.COMPLETE
            and record.values is not None
            and len(record.values) == len(self.spec.objectives)
            and all(math.isfinite(value) for value in record.values)
        )

    @cached_property
    def finished(self) -> tuple[TrialRecord, ...]:
        """Trials whose state is final, by number."""
        return tuple(record for record in self.trials if record.state.is_finished)

    @cached_property
    def counted(self) -> tuple[TrialRecord, ...]:
        """Finished trials that cost budget, in the order in which they ended."""
        counted = (record for record in self.records if is_counted(record))
        return tuple(sorted(counted, key=lambda r: (r.finished_at or 0.0, r.number)))

    @cached_property
    def best(self) -> tuple[TrialRecord, ...]:
        """The best feasible trial, or the Pareto front; empty while there is none."""
        return best_records(self.complete, self.spec.directions)

    @cached_property
    def best_numbers(self) -> frozenset[int]:
        """The numbers of the best trials."""
        return frozenset(record.number for record in self.best)

    @cached_property
    def states(self) -> dict[TrialState, int]:
        """How many trials are in each state that occurs, in the order of `TrialState`."""
        counts = Counter(record.state for record in self.records)
        return {state: counts[state] for state in TrialState if counts[state]}

    @cached_property
    def causes(self) -> dict[Cause, int]:
        """How many trials ended with each cause that occurs, in the order of `Cause`."""
        counts = Counter(r.cause for r in self.records if r.cause is not None)
        return {cause: counts[cause] for cause in Cause if counts[cause]}

    @cached_property
    def failures(self) -> tuple[FailureGroup, ...]:
        """Failed trials by cause, the largest group first."""
        groups: dict[str, dict[str, list[int]]] = {}
        for record in self.trials:
            if record.state is TrialState.FAILED:
                cause = "unknown" if record.cause is None else record.cause.value
                of_cause = groups.setdefault(cause, {})
                of_cause.setdefault(str(record.reason), []).append(record.number)
        found = (
            FailureGroup(
                cause,
                tuple(
                    (message, tuple(numbers))
                    for message, numbers in sorted(messages.items(), key=lambda m: -len(m[1]))
                ),
            )
            for cause, messages in groups.items()
        )
        return tuple(sorted(found, key=lambda group: -group.count))

    @cached_property
    def enqueued(self) -> frozenset[int]:
        """Numbers of the trials whose parameters a person gave, in whole or in part."""
        numbers = {record.number for record in self.records if record.is_enqueued}
        waiting = list(self.spec.enqueue)
        for record in self.trials:
            for point in waiting:
                if point and all(
                    name in record.params and same_scalar(record.params[name], value)
                    for name, value in point.items()
                ):
                    numbers.add(record.number)
                    waiting.remove(point)
                    break
        return frozenset(numbers)

    @cached_property
    def started_at(self) -> float | None:
        """Start of the first trial, seconds since the epoch."""
        return min((r.started_at for r in self.records if r.started_at is not None), default=None)

    @cached_property
    def finished_at(self) -> float | None:
        """End of the last finished trial, seconds since the epoch."""
        return max((r.finished_at for r in self.records if r.finished_at is not None), default=None)

    @cached_property
    def duration_seconds(self) -> float | None:
        """Seconds from the first start to the last end."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max(self.finished_at - self.started_at, 0.0)

    @cached_property
    def busy_seconds(self) -> float:
        """Seconds that trials took in all; above `duration_seconds` when several ran at once."""
        return sum(record.duration_seconds or 0.0 for record in self.records)

    @cached_property
    def peak_parallel_trials(self) -> int:
        """Most trials that were under way at one time."""
        events = []
        for record in self.records:
            if record.started_at is not None and record.duration_seconds is not None:
                start = record.started_at
                events += [(start, 1), (start + record.duration_seconds, -1)]
        peak = now = 0
        for _, change in sorted(events):
            now += change
            peak = max(peak, now)
        return peak

    @cached_property
    def statement(self) -> Statement:
        """What the study has spent, and how its budget stands."""
        used = sum(map(uses_budget, self.records))
        left = n_trials_left(n_trials_to_finish(self.spec), used)
        return statement(self.spec, self.records, n_left=left)

    def why_spent(self, now: float) -> Reason | None:
        """Return why no further trial fits into hours, money and time; `None` if one may.

        Args:
            now: Seconds since the epoch.
        """
        stored = self.optuna_study
        finish_at = None if stored is None else kept_finish_at(self.spec, stored)
        return why_spent(self.spec, self.records, finish_at, now)

    @cached_property
    def memo(self) -> dict[str, Any]:
        """Costly results that several figures share, by name."""
        return {}

    def value(self, record: TrialRecord, objective: int) -> float:
        """Return one objective's value of a complete trial.

        Raises:
            ValueError: The trial has no values.
        """
        if record.values is None:
            raise ValueError(f"Trial {record.number} has no values: it is {record.state.value}.")
        return record.values[objective]

    def searched(self, record: TrialRecord) -> dict[str, ParamValue]:
        """Return the searched parameters that exist in a trial and lie within today's space."""
        params = self.space.on_grid(record.params)
        return {
            name: params[name]
            for name, parameter in self.space.items()
            if name in params and parameter.contains(params[name])
        }

    def params(self, record: TrialRecord) -> dict[str, ParamValue]:
        """Return all parameters of a trial: searched ones in the space's order, then the others."""
        first = {name: record.params[name] for name in self.space if name in record.params}
        return {**first, **dict(record.params), **dict(self.spec.fixed)}


def failed_by_parameters(record: TrialRecord) -> bool:
    """Whether a trial failed because of its parameters."""
    return (
        record.state is TrialState.FAILED
        and record.cause is not None
        and record.cause.consequence is Consequence.INFEASIBLE
    )
