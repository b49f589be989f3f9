"""What the repeats say: means, intervals, and what may be luck."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from studyflow.errors import TrackingError
from studyflow.retrain.plan import Configuration, RetrainPlan, sign_of, value_of
from studyflow.runner import StudyResult
from studyflow.trial import Cause, ParamValue
from studyflow.trial.record import TrialRecord

CONFIDENCE: Final = 0.95


@dataclass(frozen=True)
class Repeats:
    """The trainings of one configuration."""

    configuration: Configuration
    records: tuple[TrialRecord, ...]
    """Finished ones, by number; cancelled ones are left out."""
    seed_parameter: str

    @cached_property
    def values(self) -> Mapping[int, float]:
        """The objective by seed, of the repeats that ended with a feasible value."""
        return {
            _whole(record.params[self.seed_parameter]): value_of(record)
            for record in self.records
            if record.is_feasible
        }

    @property
    def n_failed(self) -> int:
        """How many ended without a feasible value."""
        return len(self.records) - len(self.values)

    @property
    def mean(self) -> float | None:
        """Mean of the values; `None` without any."""
        return statistics.fmean(self.values.values()) if self.values else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where the mean of ever more repeats would lie, with 95 % confidence (Student's t).

        `None` for fewer than two values.
        """
        return confidence_interval(tuple(self.values.values()))

    @property
    def typical(self) -> TrialRecord:
        """The repeat whose value is the (lower) median: what the configuration usually gives.

        The best one would be chosen by its luck again. There is none without values.
        """
        good = sorted((value_of(r), r.number, r) for r in self.records if r.is_feasible)
        return good[(len(good) - 1) // 2][2]


@dataclass(frozen=True)
class Champion:
    """The model that was registered."""

    name: str
    version: str
    alias: str
    run_id: str
    artifact: str

    @property
    def uri(self) -> str:
        """Address by which MLflow loads the model."""
        return f"models:/{self.name}@{self.alias}"


@dataclass(frozen=True)
class RetrainResult:
    """What the repeats say."""

    plan: RetrainPlan
    ranking: tuple[Repeats, ...]
    """The best mean first; configurations of which repeats failed come after the others."""
    run: StudyResult
    champion: Champion | None = None
    notes: tuple[str, ...] = ()
    """What a person should know before believing the numbers, one sentence each."""
    problem: TrackingError | None = None
    """Why MLflow does not have the means or the model; the same command tries again."""

    @property
    def best(self) -> Repeats | None:
        """The configuration of the best mean; `None` when no repeat returned a value."""
        first = self.ranking[0] if self.ranking else None
        return first if first is not None and first.values else None

    @property
    def is_complete(self) -> bool:
        """Whether every configuration was trained with every seed; else no model is registered."""
        return all(len(repeats.records) >= len(self.plan.seeds) for repeats in self.ranking)


def rank_repeats(plan: RetrainPlan, records: Sequence[TrialRecord]) -> tuple[Repeats, ...]:
    """Return the repeats of every planned configuration, the best mean first.

    A configuration that sometimes fails comes after those that never do, whatever its mean.
    """
    searched = set(plan.spec.search_space)
    groups = []
    for configuration in plan.configurations:
        found = [
            record
            for record in records
            if record.state.is_finished
            and record.cause not in (Cause.CANCELLED, Cause.BUDGET)
            and configuration.holds(
                {n: v for n, v in record.params.items() if n in searched}, plan.seed_parameter
            )
        ]
        groups.append(Repeats(configuration, tuple(found), plan.seed_parameter))
    sign = sign_of(plan.spec)

    def rank(repeats: Repeats) -> tuple[bool, float, float]:
        mean = repeats.mean
        return (mean is None, repeats.n_failed, math.inf if mean is None else sign * mean)

    return tuple(sorted(groups, key=rank))


def confidence_interval(
    values: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """Return Student's interval of the mean; `None` for fewer than two values."""
    if len(values) < 2:
        return None
    from scipy.stats import t  # takes a second to import

    mean = statistics.fmean(values)
    error = statistics.stdev(values) / math.sqrt(len(values))
    reach = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * error
    return mean - reach, mean + reach


def describe_luck(plan: RetrainPlan, ranking: Sequence[Repeats]) -> list[str]:
    """Return what a person should know before believing the means."""
    notes = []
    if any(len(r.values) > 1 for r in ranking) and all(
        len(set(r.values.values())) <= 1 for r in ranking
    ):
        notes.append(
            "The repeats of each configuration returned exactly the same value: either nothing in "
            f"the training is random, or the script does not use {plan.seed_parameter!r}."
        )
    elif len(ranking) > 1 and ranking[0].values and ranking[1].values:
        first, second = ranking[0], ranking[1]
        common = [seed for seed in first.values if seed in second.values]
        gaps = confidence_interval([first.values[s] - second.values[s] for s in common])
        if gaps is not None and gaps[0] <= 0 <= gaps[1]:
            notes.append(
                f"The difference between {first.configuration.label} and "
                f"{second.configuration.label} may be luck: with the same {len(common)} seeds, its "
                f"95 % interval {gaps[0]:.3g} to {gaps[1]:.3g} holds 0."
            )
    return notes


def results_table(result: RetrainResult) -> list[dict[str, object]]:
    """Return one row of JSON values for each configuration, the best first."""
    return [
        {
            "trials": [record.number for record in r.configuration.trials],
            "params": dict(r.configuration.params),
            "value_in_study": r.configuration.value,
            "mean": r.mean,
            "interval": None if r.interval is None else list(r.interval),
            "values": {str(seed): value for seed, value in r.values.items()},
            "n_failed": r.n_failed,
        }
        for r in result.ranking
    ]


def results_markdown(result: RetrainResult) -> str:
    """Return the results as MLflow shows them beside the run."""
    metric = result.plan.source.metrics[0]
    name, n_seeds = result.plan.source.spec.name, len(result.plan.seeds)
    lines = [
        f"The best configurations of **{name}**, trained again with {n_seeds} other seeds.",
        "",
        f"| configuration | {metric} in the study | mean | 95 % interval | repeats | failed |",
        "|---|---|---|---|---|---|",
    ]
    for r in result.ranking:
        mean = "" if r.mean is None else f"{r.mean:.6g}"
        interval = "" if r.interval is None else f"{r.interval[0]:.6g} to {r.interval[1]:.6g}"
        lines.append(
            f"| {r.configuration.label} | {r.configuration.value:.6g} | {mean} | {interval} | "
            f"{len(r.values)} | {r.n_failed} |"
        )
    return "\n".join([*lines, *(f"\n{note}" for note in result.notes)])


def _whole(value: ParamValue) -> int:
    assert isinstance(value, int), "a seed is a whole number"
    return value
