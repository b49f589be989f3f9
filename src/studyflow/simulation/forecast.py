"""How long a study will take and what it will cost, before it runs: simulated many times.

Durations come from a median that a person gives, from the study's own trials by the ledger's model,
or from the limit of a trial. Quality comes from a model of earlier results only; without one, it is
not known, and parameters are drawn at random.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from studyflow.errors import SimulationError
from studyflow.ledger import NO_PRICES, Prices, all_rows, restart_seconds
from studyflow.ledger.durations import MIN_SPREAD, Durations, Sample, learn, sample_of
from studyflow.simulation.clock import EPOCH
from studyflow.simulation.cluster import Cluster
from studyflow.simulation.result import Simulation
from studyflow.simulation.run import simulate
from studyflow.simulation.workload import Params, Training
from studyflow.spec import StudySpec
from studyflow.trial.record import TrialRecord, TrialState

LEVEL: Final = 0.9
"""Share of the repetitions inside an interval."""

MIN_SAMPLES: Final = 4
"""Trials below which their times are taken for lognormal, with the ledger's spread."""

PRIOR_LOSSES: Final = 0.1
PRIOR_HOURS: Final = 1.0
"""What is known of losses before any was seen, as if so many had been in so many hours."""

Quality = Callable[[Params], float]
"""What a trial with these parameters is taken to finish with."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What a forecast takes for granted, and where each number comes from."""

    durations: Durations
    """What a trial takes, its start-up included."""
    source: str
    """Where that comes from, for people."""
    samples: tuple[Sample, ...] = ()
    """The trials that it was learned from: each repetition learns it anew from some of them, as
    what few trials say is an estimate. Empty for a time that was given."""
    is_bound: bool = False
    """Whether it is the longest time of a trial, and so the forecast a bound."""
    pod_seconds: float = 0.0
    startup_seconds: float = 0.0
    losses_per_hour: float = 0.0
    seen_losses: tuple[int, float] | None = None
    """Losses that the study has seen and the hours of its attempts; `None` for a rate that is
    certain."""
    n_checkpoints: int = 0
    """Checkpoints that a trial publishes, evenly over its time; 0 if a lost one begins anew."""
    quality: Quality | None = None

    def with_given(
        self,
        *,
        pod_seconds: float | None = None,
        startup_seconds: float | None = None,
        losses_per_hour: float | None = None,
        n_checkpoints: int | None = None,
    ) -> Assumptions:
        """Return them with what a person gave; `None` keeps what is there."""
        return replace(
            self,
            pod_seconds=self.pod_seconds if pod_seconds is None else pod_seconds,
            startup_seconds=self.startup_seconds if startup_seconds is None else startup_seconds,
            losses_per_hour=self.losses_per_hour if losses_per_hour is None else losses_per_hour,
            seen_losses=self.seen_losses if losses_per_hour is None else None,
            n_checkpoints=self.n_checkpoints if n_checkpoints is None else n_checkpoints,
        )

    def with_quality(self, quality: Quality) -> Assumptions:
        """Return them with what trials are taken to finish with."""
        return replace(self, quality=quality)


@dataclass(frozen=True, slots=True)
class Interval:
    """One number over all repetitions."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """A study at one width."""

    parallel: int
    seconds: Interval
    unit_hours: Interval
    """GPU-hours, or slot-hours."""
    n_trials: Interval
    """Trials that finish: fewer than `n_trials` if another limit comes first, and what the limits
    make without it."""
    lost_hours: Interval
    """Of these, lost with attempts."""
    best_value: Interval | None
    """`None` where quality is not known."""
    n_repetitions: int = 0
    endings: tuple[str, ...] = field(default=())
    """Why repetitions ended before `n_trials`, each reason's code once."""


def assume(
    spec: StudySpec,
    records: Sequence[TrialRecord],
    *,
    trial_seconds: float | None = None,
    spread: float | None = None,
) -> Assumptions:
    """Return what the study's own trials say, with a duration from wherever there is one.

    Args:
        spec: The study.
        records: Its trials so far; empty for a new one.
        trial_seconds: Median of a trial's time, in place of what they say.
        spread: Standard deviation of its logarithm, in place of what they say.

    Raises:
        SimulationError: Nothing says how long a trial takes.
    """
    samples = [sample for record in records if (sample := sample_of(record)) is not None]
    rows = all_rows(records, spec.trial.resources.gpu)
    held = math.fsum(row.seconds for row in rows) / 3600
    n_lost = sum(row.cause.is_infrastructure and row.seconds > 0 for row in rows)
    limit, is_bound = spec.trial.timeout_seconds, False
    if trial_seconds is not None:
        wide = MIN_SPREAD if spread is None else spread
        durations = Durations(math.log(trial_seconds), wide)
        source = f"{trial_seconds:g} s, as given"
    elif samples:
        durations = learn(spec, samples)
        source = f"{len(samples)} trials of this study"
    elif limit is not None:
        durations, is_bound = Durations(math.log(limit), 0.0), True
        source = f"trial.timeout_seconds, {limit:g} s: no trial takes longer"
    else:
        raise SimulationError(
            f"Nothing says how long a trial of {spec.name!r} takes: it has none that ended, and no "
            "trial.timeout_seconds.",
            hint="give the median in seconds: --trial-seconds 1200.",
        )
    if spread is not None and not is_bound:
        durations = replace(durations, spread=spread)
    return Assumptions(
        durations,
        source,
        tuple(samples) if trial_seconds is None and spread is None else (),
        is_bound,
        pod_seconds=_pod_seconds(records),
        startup_seconds=min(restart_seconds(rows) or 0.0, durations.typical_seconds),
        losses_per_hour=n_lost / held if held else 0.0,
        seen_losses=(n_lost, held) if held else None,
    )


def _pod_seconds(records: Sequence[TrialRecord]) -> float:
    """Return the mean of what an attempt waits unpaid: before its start, and after its end.

    The mean, as all waits together make a study's time.
    """
    waits = []
    for record in records:
        row = record.costs[-1] if record.costs else None
        begin = record.begin
        if row is None or begin is None or row.attempt != begin.attempt or row.is_estimate:
            continue
        if begin.at is not None and row.recorded_at is not None:
            waits.append(max(row.recorded_at - begin.at - row.seconds, 0.0))
    return statistics.mean(waits) if waits else 0.0


def forecast(
    spec: StudySpec,
    assumptions: Assumptions,
    parallel: int,
    *,
    n_repetitions: int = 20,
    seed: int = 0,
    starts_at: float = EPOCH,
    prices: Prices = NO_PRICES,
) -> Forecast:
    """Return how a study goes at one width, over seeded repetitions.

    Args:
        spec: What is still to be run: its trials, limits and sampler.
        assumptions: What trials take, and where they run.
        parallel: Trials that run at once.
        n_repetitions: How often it is simulated.
        seed: Of the first repetition.
        starts_at: When it begins, in seconds since the epoch, for `budget.finish_by`.
        prices: What an hour costs.

    Raises:
        StudyflowError: It cannot be simulated.
    """
    found = [
        _once(spec, assumptions, parallel, seed + n, starts_at, prices)
        for n in range(n_repetitions)
    ]
    values = [one.best_value for one in found if one.best_value is not None]
    is_known = assumptions.quality is not None and bool(values)
    n_wanted = spec.budget.n_trials
    early = [
        one.outcome.reason.code
        for one in found
        if n_wanted is not None and _n_ended(one) < n_wanted
    ]
    return Forecast(
        parallel,
        _interval([one.seconds for one in found]),
        _interval([one.unit_seconds / 3600 for one in found]),
        _interval([_n_ended(one) for one in found]),
        _interval([one.spending.lost_seconds / 3600 for one in found]),
        _interval(values) if is_known else None,
        n_repetitions,
        tuple(dict.fromkeys(str(code) for code in early)),
    )


def _once(
    spec: StudySpec,
    assumptions: Assumptions,
    parallel: int,
    seed: int,
    starts_at: float,
    prices: Prices,
) -> Simulation:
    draws = np.random.default_rng([seed, 1])
    durations, residuals = _learned(spec, assumptions, draws)

    def workload(params: Params, own_seed: int) -> Training:
        own = np.random.default_rng(own_seed)
        noise = float(own.choice(residuals)) if residuals else durations.spread * own.normal()
        seconds = durations.expected_seconds(params) * math.exp(noise)
        limit = spec.trial.timeout_seconds
        if limit is not None:
            seconds = min(seconds, limit)
        left = max(seconds - assumptions.startup_seconds, 0.0)
        value = 0.0 if assumptions.quality is None else assumptions.quality(params)
        n = assumptions.n_checkpoints
        return Training(
            [0.0] * n,
            left / (n + 1),
            final={**dict.fromkeys(spec.metrics, 0.0), spec.objectives[0].metric: value},
            tail_seconds=left / (n + 1) if n else left,
        )

    cluster = Cluster(
        slots=parallel,
        pod_seconds=assumptions.pod_seconds,
        startup_seconds=assumptions.startup_seconds,
        checkpoint_every=1 if assumptions.n_checkpoints else None,
        losses_per_hour=_losses_per_hour(assumptions, draws),
        seed=seed,
    )
    document = _document(spec, parallel, is_random=assumptions.quality is None)
    return simulate(
        StudySpec.from_mapping(document),
        workload,
        cluster,
        seed=seed,
        starts_at=starts_at,
        prices=prices,
    )


def _learned(
    spec: StudySpec, assumptions: Assumptions, draws: np.random.Generator
) -> tuple[Durations, list[float]]:
    """Return what trials take by a bootstrap of those that were seen, and how far these were off.

    The logarithms by which single trials were off are drawn again as they are: a few that took very
    long make the hours of a study, whatever a robust fit thinks of them.
    """
    known, samples = assumptions.durations, assumptions.samples
    if len(samples) < MIN_SAMPLES:
        return known, []
    rows = draws.integers(len(samples), size=len(samples))
    free = max(len(samples) - len(known.slopes) - 1, 1)
    scale = math.sqrt(len(samples) / free)  # fitted to these very trials, it is off by too little
    off = [math.log(seconds / known.expected_seconds(params)) for params, seconds in samples]
    return learn(spec, [samples[row] for row in rows]), [scale * each for each in off]


def _losses_per_hour(assumptions: Assumptions, draws: np.random.Generator) -> float:
    """Return a rate that fits what was seen: few losses in few hours leave it open."""
    if assumptions.seen_losses is None:
        return assumptions.losses_per_hour
    n_lost, hours = assumptions.seen_losses
    return float(draws.gamma(n_lost + PRIOR_LOSSES, 1 / (hours + PRIOR_HOURS)))


def _document(spec: StudySpec, parallel: int, *, is_random: bool) -> dict[str, Any]:
    """Return the study file as it is simulated: without a pruner, for there are no curves."""
    document = spec.model_dump(mode="json", exclude_unset=True)
    for name in ("pruner", "notify", "constraints"):
        document.pop(name, None)
    if is_random:
        document["sampler"] = {"type": "random"}
        # Values are not known, so neither are the rules that go by them.
        stop = {"target": None, "no_improvement_trials": None}
        document["stop"] = {**document.get("stop", {}), **stop}
    trial = document["trial"]
    if spec.trial.timeout_seconds is not None:  # drawn times end before it, whatever they round to
        trial = {**trial, "timeout_seconds": spec.trial.timeout_seconds * 1.001 + 1.0}
    budget = {**document["budget"], "max_parallel_trials": parallel}
    return {**document, "trial": trial, "budget": budget}


def _n_ended(found: Simulation) -> int:
    return sum(found.n_in(state) for state in (TrialState.COMPLETE, TrialState.PRUNED))


def _interval(values: Sequence[float]) -> Interval:
    tail = (1 - LEVEL) / 2
    # Of few repetitions the plain quantiles hold less than their share of the next one.
    low, high = np.quantile(values, [tail, 1 - tail], method="weibull")
    return Interval(statistics.median(values), float(low), float(high))
