"""Runs a study in virtual time, by the loop that runs it on a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import optuna

from studyflow.ledger import NO_PRICES, Prices, all_rows, spending
from studyflow.ledger.limits import requested
from studyflow.observers.observer import Observer
from studyflow.samplers import make_pruner
from studyflow.samplers import make_sampler as named_sampler
from studyflow.simulation.clock import EPOCH, VirtualClock
from studyflow.simulation.cluster import Cluster
from studyflow.simulation.executor import SimulatedExecutor, SimulatedMachine
from studyflow.simulation.result import Simulation, Told
from studyflow.simulation.workload import Workload
from studyflow.spec import StudySpec
from studyflow.storage import quiet_optuna
from studyflow.study import Study
from studyflow.study.study import SamplerFactory
from studyflow.tracking.logged import LoggedRuns
from studyflow.trial import MetricPoint
from studyflow.trial.record import TrialRecord
from studyflow.tuner import Tuner, TunerSettings

POLL_SECONDS: Final = 600.0
"""Longest virtual pause between two turns: every event makes one, and this is for what is none."""

STOP_POLL_SECONDS: Final = 10.0
"""The same where a limit of the budget stops running trials: it is reached between two events."""

ASK_SECONDS: Final = 86_400.0
"""Real time for one suggestion of our own sampler: a busy machine must not change a result."""


def simulate(
    spec: StudySpec,
    workload: Workload,
    cluster: Cluster | None = None,
    *,
    seed: int = 0,
    make_sampler: SamplerFactory | None = None,
    pruner: optuna.pruners.BasePruner | None = None,
    storage: optuna.storages.BaseStorage | None = None,
    prices: Prices = NO_PRICES,
    starts_at: float = EPOCH,
) -> Simulation:
    """Return how a study goes; the same for the same arguments.

    Args:
        spec: The study. Its `budget.max_parallel_trials` counts beside the cluster's slots.
        workload: What its trials do.
        cluster: Where they run; by default in one slot where starting costs nothing.
        seed: Of the sampler, and of each trial's own number.
        make_sampler: Makes the sampler from a seed and the number of trials so far; by default the
            one that the study file names.
        pruner: In place of the one that it names.
        storage: Where the study is kept; by default in memory, and gone afterwards.
        prices: What an hour costs, for `budget.cost`.
        starts_at: When it begins, in seconds since the epoch, for `budget.finish_by`.

    Raises:
        SimulationError: It never ends.
        StudyflowError: The study cannot be opened, such as for a sampler's missing packages.
    """
    quiet_optuna()
    spec = _repeatable(spec, seed)
    machine = SimulatedMachine(cluster or Cluster(), workload, seed, VirtualClock(starts_at))
    began_at = machine.clock()
    study = Study.open(
        spec,
        storage or optuna.storages.InMemoryStorage(),
        make_sampler=make_sampler or _named_sampler(spec),
        pruner=pruner or make_pruner(spec),
    )
    executor = SimulatedExecutor(
        spec.name,
        machine,
        allocation=requested(spec),
        timeout_seconds=spec.trial.timeout_seconds,
    )
    timeline = _Timeline(machine, began_at)
    is_stopped = spec.budget.is_metered and spec.budget.at_limit == "stop"
    poll_seconds = STOP_POLL_SECONDS if is_stopped else POLL_SECONDS
    tuner = Tuner(
        study,
        executor,
        NoMirror(),
        timeline,
        settings=TunerSettings(poll_seconds=poll_seconds, prices=prices),
        clock=machine.clock,
        wall_clock=machine.clock,
    )
    outcome = tuner.drive()
    records = study.records()
    return Simulation(
        spec,
        outcome,
        machine.clock() - began_at,
        records,
        tuple(timeline.told),
        spending(all_rows(records, spec.trial.resources.gpu)),
        timeline.n_steps,
        tuple(dict.fromkeys(timeline.notes)),
    )


def _repeatable(spec: StudySpec, seed: int) -> StudySpec:
    """Return the study with a seed, and without a limit on the time of a suggestion."""
    changes: dict[str, Any] = {"seed": seed}
    if spec.sampler.type == "botorch":
        changes["ask_seconds"] = ASK_SECONDS
    sampler = spec.sampler.model_validate({**spec.sampler.model_dump(), **changes})
    return spec.model_copy(update={"sampler": sampler, "notify": None})


def _named_sampler(spec: StudySpec) -> SamplerFactory:
    def make(seed: int, n_trials: int) -> optuna.samplers.BaseSampler:
        return named_sampler(spec, seed, n_trials)

    return make


class _Timeline(Observer):
    """Writes down when trials end, and what had been spent by then."""

    def __init__(self, machine: SimulatedMachine, began_at: float) -> None:
        self._machine = machine
        self._began_at = began_at
        self.told: list[Told] = []
        self.notes: list[str] = []
        self.n_steps = 0

    def reported(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:  # noqa: ARG002
        self.n_steps += len(points)

    def recorded(self, record: TrialRecord) -> None:
        elapsed = self._machine.clock() - self._began_at
        self.told.append(Told(elapsed, self._machine.unit_seconds(), record))

    def noted(self, message: str) -> None:
        self.notes.append(message)


class NoMirror:
    """Stands for an MLflow that shows nothing: a simulated study is in no tracker."""

    def open_trial(self, record: TrialRecord) -> None:
        """Return that there is no run."""

    def is_opening(self, record: TrialRecord) -> bool:  # noqa: ARG002
        """Return that none is opened."""
        return False

    def points(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        """Do nothing."""

    def lose_attempt(self, record: TrialRecord) -> None:
        """Do nothing."""

    def finish_trial(self, record: TrialRecord) -> None:
        """Do nothing."""

    def read_points(self, record: TrialRecord, metric: str) -> tuple[MetricPoint, ...]:  # noqa: ARG002
        """Return nothing."""
        return ()

    def read_running(
        self,
        records: Sequence[TrialRecord],  # noqa: ARG002
        metric: str,  # noqa: ARG002
    ) -> Mapping[int, tuple[MetricPoint, ...]]:
        """Return nothing."""
        return {}

    def read_runs(
        self,
        record: TrialRecord,  # noqa: ARG002
        metrics: Sequence[str],  # noqa: ARG002
        began_at: float | None,  # noqa: ARG002
    ) -> LoggedRuns:
        """Return nothing."""
        return LoggedRuns()

    def drop(self, record: TrialRecord) -> None:
        """Do nothing."""

    def seconds_to_answer(self) -> None:
        """Return that no answer is awaited."""
