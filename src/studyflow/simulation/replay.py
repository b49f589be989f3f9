"""A finished study once more, from its stored curves, under another pruner, width or limit.

A replay knows what was measured and nothing else. A trial that was stopped early has no curve
behind its stop, so it ends there again, whatever is replayed; reports have no stored times, so they
lie evenly between the first one and the end. Lost attempts and waiting for room are left out.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from studyflow.errors import SimulationError
from studyflow.ledger import all_rows, rows_of
from studyflow.simulation.cluster import Cluster
from studyflow.simulation.result import Simulation
from studyflow.simulation.run import simulate
from studyflow.simulation.workload import Params, Training
from studyflow.spec import StudySpec
from studyflow.trial import Cause, Consequence
from studyflow.trial.record import TrialRecord, TrialState

_OWN_END: Final = (Consequence.TELL, Consequence.INFEASIBLE, Consequence.FAIL)


@dataclass(frozen=True, slots=True)
class Replay:
    """A study as it was, and as it would have been."""

    spec: StudySpec
    """What was replayed."""
    as_it_was: Simulation
    """Every trial to the end that it had, at the study's own width."""
    changed: Simulation
    n_left_out: int
    """Trials that say nothing: cancelled, given up after losses, imported, or not ended."""
    n_cut: int
    """Trials whose curve ends where they were stopped."""
    n_without_curve: int
    """Trials that reported nothing: no pruner can judge them."""
    lost_seconds: float
    """GPU-seconds, or seconds of places, that the study lost with attempts."""

    @property
    def saved_unit_seconds(self) -> float:
        """GPU-seconds, or seconds of places, that the change would have saved."""
        return self.as_it_was.unit_seconds - self.changed.unit_seconds

    @property
    def n_cut_again(self) -> int:
        """Trials that ended once more where their curve ends, not where the change stops them."""
        cut = {r.number for r in self.as_it_was.records if r.state is TrialState.PRUNED}
        return sum(
            r.number in cut and len(r.intermediate) >= len(old.intermediate)
            for r, old in zip(self.changed.records, self.as_it_was.records, strict=False)
        )


def replay(
    spec: StudySpec,
    records: Sequence[TrialRecord],
    *,
    pruner: Mapping[str, Any] | None = None,
    parallel: int | None = None,
    gpu_hours: float | None = None,
) -> Replay:
    """Return what a study's trials would have come to under other rules, in the same order.

    Args:
        spec: The study, as it is stored.
        records: Its trials.
        pruner: As `pruner` in a study file; `None` replays every trial to the end that it had.
        parallel: Trials that run at once; the study's own width by default.
        gpu_hours: Limit of the GPU-hours, or slot-hours; none by default.

    Raises:
        SpecError: The study would not be one with these.
        SimulationError: No trial says what it did.
    """
    known = [record for record in records if _is_replayable(record)]
    if not known:
        raise SimulationError(
            f"The study {spec.name!r} has no trial that came to an end of its own: nothing can be "
            "replayed.",
            hint="run it first, or simulate its file: studyflow simulate study.yaml.",
        )
    trainings = [_training(spec, record) for record in known]
    width = spec.budget.max_parallel_trials
    longest = max(training.total_seconds for training in trainings)
    base = _document(spec, len(known), longest)
    changes: dict[str, Any] = {} if pruner is None else {"pruner": dict(pruner)}
    budget = {
        **base["budget"],
        "max_parallel_trials": parallel or width,
        **({} if gpu_hours is None else {"gpu_hours": gpu_hours}),
    }
    changed = StudySpec.from_mapping({**base, **changes, "budget": budget})
    as_it_was = StudySpec.from_mapping(base)
    return Replay(
        changed,
        _simulated(as_it_was, known, trainings, width),
        _simulated(changed, known, trainings, parallel or width),
        n_left_out=len(records) - len(known),
        n_cut=sum(record.state is TrialState.PRUNED for record in known),
        n_without_curve=sum(not training.values for training in trainings),
        lost_seconds=sum(
            row.units * row.lost_seconds for row in all_rows(records, spec.trial.resources.gpu)
        ),
    )


def _is_replayable(record: TrialRecord) -> bool:
    cause = record.cause or (Cause.OK if record.state is TrialState.COMPLETE else None)
    if record.state is TrialState.PRUNED:
        cause = Cause.PRUNED
    is_own = cause is not None and cause.consequence in _OWN_END
    return record.state.is_finished and is_own and not record.is_taken_over


def _document(spec: StudySpec, n_trials: int, longest: float) -> dict[str, Any]:
    """Return the study file without limits, with the recorded number of trials and no pruner."""
    document = spec.model_dump(mode="json", exclude_unset=True)
    trial = document["trial"]
    if spec.trial.timeout_seconds is not None:  # a retried trial may have taken longer in all
        trial = {**trial, "timeout_seconds": max(spec.trial.timeout_seconds, 2 * longest)}
    document = {name: part for name, part in document.items() if name not in ("enqueue", "notify")}
    return {
        **document,
        "sampler": {"type": "random"},
        "pruner": {"type": "none"},
        "budget": {
            "n_trials": n_trials,
            "max_parallel_trials": spec.budget.max_parallel_trials,
        },
        "stop": {**document.get("stop", {}), "first_failures": 0},
        "trial": trial,
    }


def _training(spec: StudySpec, record: TrialRecord) -> Training:
    """Return what a trial did, by what is stored of it."""
    rows = rows_of(record, spec.trial.resources.gpu)
    seconds = math.fsum(row.seconds - row.lost_seconds for row in rows)
    if not rows:
        seconds = record.duration_seconds or 0.0
    steps = sorted(record.intermediate)
    values = [record.intermediate[step] for step in steps]
    startups = [row.startup_seconds for row in rows if row.startup_seconds is not None]
    first = min(startups[0] if startups else seconds / max(len(steps), 1), seconds)
    pause = (seconds - first) / (len(steps) - 1) if len(steps) > 1 else 0.0
    names = [objective.metric for objective in spec.objectives]
    final = dict(record.metrics) or dict(zip(names, record.values or (), strict=False))
    cause = Cause.PRUNED if record.state is TrialState.PRUNED else record.cause or Cause.OK
    has_several = len(steps) > 1
    return Training(
        values,
        [first, *[pause] * (len(steps) - 1)] if steps else 0.0,
        final=final if cause is Cause.OK else None,
        steps=steps,
        tail_seconds=0.0 if has_several else seconds - (first if steps else 0.0),
        gpus=rows[-1].gpus if rows else None,
        cause=cause,
    )


def _simulated(
    spec: StudySpec, known: Sequence[TrialRecord], trainings: Sequence[Training], slots: int
) -> Simulation:
    waiting: dict[Hashable, deque[Training]] = defaultdict(deque)
    for record, training in zip(known, trainings, strict=True):
        waiting[_key(spec, record.params)].append(training)

    def workload(params: Params, _seed: int) -> Training:
        return waiting[_key(spec, params)].popleft()

    points = [{n: r.params[n] for n in spec.search_space if n in r.params} for r in known]
    found = simulate(
        spec, workload, Cluster(slots=slots), make_sampler=lambda _seed, _n: _Recorded(points)
    )
    numbers = [record.number for record in known]
    return replace(
        found, records=tuple(replace(r, number=numbers[r.number]) for r in found.records)
    )


def _key(spec: StudySpec, params: Params) -> Hashable:
    return tuple((name, params[name]) for name in spec.search_space if name in params)


class _Recorded(optuna.samplers.BaseSampler):
    """Suggests what a study has tried, in its order."""

    def __init__(self, points: Sequence[Mapping[str, Any]]) -> None:
        self._points = points

    def infer_relative_search_space(
        self,
        study: optuna.Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self,
        study: optuna.Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: optuna.Study,  # noqa: ARG002
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,  # noqa: ARG002
    ) -> Any:
        return self._points[trial.number][param_name]
