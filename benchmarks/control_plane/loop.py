"""One turn of the loop: idle, and when a trial has ended, after n finished trials.

The peer asks for a trial and tells it by plain Optuna, on the same kind of storage with the same
trials; the loop does that too, and all that lets a study survive its runner.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median_high

import optuna
from benchmarks.control_plane.measures import Row, cpu_ms
from optuna.distributions import distribution_to_json

from studyflow.observers.observer import Observer
from studyflow.samplers import make_pruner, make_sampler
from studyflow.spec import StudySpec
from studyflow.storage import open_storage
from studyflow.study import Study
from studyflow.testing.fake_clock import FakeClock
from studyflow.testing.fake_executor import FakeExecutor
from studyflow.tracking.logged import LoggedRuns
from studyflow.trial import MetricPoint, TrackingRef
from studyflow.trial.record import TrialRecord
from studyflow.tuner import Tuner

SPACE = {
    name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in ("lr", "decay", "dropout")
}


class NoMirror:
    """MLflow that takes everything at once."""

    # ruff: noqa: ARG002  (the interface is the mirror's)

    def open_trial(self, record: TrialRecord) -> TrackingRef | None:
        return TrackingRef("memory:", f"run-{record.number}")

    def is_opening(self, record: TrialRecord) -> bool:
        return False

    def points(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        pass

    def lose_attempt(self, record: TrialRecord) -> None:
        pass

    def finish_trial(self, record: TrialRecord) -> None:
        pass

    def read_points(self, record: TrialRecord, metric: str) -> tuple[MetricPoint, ...]:
        return ()

    def read_running(
        self, records: Sequence[TrialRecord], metric: str
    ) -> dict[int, tuple[MetricPoint, ...]]:
        return {}

    def drop(self, record: TrialRecord) -> None:
        pass

    def seconds_to_answer(self) -> float | None:
        return None

    def read_runs(
        self, record: TrialRecord, metrics: Sequence[str], began_at: float | None
    ) -> LoggedRuns:
        return LoggedRuns()


def spec_of(n_trials: int, n_parallel: int, pruner: str = "none") -> StudySpec:
    return StudySpec.from_mapping(
        {
            "name": "loop",
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "search_space": {name: {"type": "float", "low": 0.0, "high": 1.0} for name in SPACE},
            "sampler": {"type": "random", "seed": 0},
            "pruner": {"type": pruner},
            "budget": {"n_trials": n_trials, "max_parallel_trials": n_parallel},
            "trial": {"command": ["python", "train.py"]},
        }
    )


def finished(number: int, n: int, n_steps: int = 0) -> optuna.trial.FrozenTrial:
    """Return a trial as a study leaves it."""
    return optuna.trial.create_trial(
        params={name: (number * step % n) / n for step, name in enumerate(SPACE, start=1)},
        distributions=dict(SPACE),
        value=1.0 + number % 97,
        intermediate_values={step: 1.0 + number % 97 + step for step in range(n_steps)},
        user_attrs={"attempt": 1, "cause": "ok", "holder": "here", "mlflow_run_id": str(number)},
    )


def filled(
    storage: optuna.storages.BaseStorage, n: int, n_steps: int = 0
) -> optuna.storages.BaseStorage:
    """Return a storage with a study of n finished trials, each with values of some steps."""
    study = optuna.create_study(study_name="loop", storage=storage)
    trials = [finished(number, n, n_steps) for number in range(n)]
    if isinstance(storage, optuna.storages.RDBStorage):
        insert(storage, study._study_id, trials)
    else:
        study.add_trials(trials)
    return storage


def insert(
    storage: optuna.storages.RDBStorage, study_id: int, trials: Sequence[optuna.trial.FrozenTrial]
) -> None:
    """Write trials in one transaction, where Optuna takes one for each: minutes for thousands."""
    from optuna.storages._rdb import models as m

    with storage.engine.begin() as connection:
        for number, trial in enumerate(trials):
            at = {"trial_id": number + 1}
            row = {"number": number, "study_id": study_id, "state": trial.state}
            connection.execute(m.TrialModel.__table__.insert(), {**at, **row})
            params = [
                {
                    **at,
                    "param_name": name,
                    "param_value": value,
                    "distribution_json": distribution_to_json(trial.distributions[name]),
                }
                for name, value in trial.params.items()
            ]
            connection.execute(m.TrialParamModel.__table__.insert(), params)
            value = {"objective": 0, "value": trial.value, "value_type": "FINITE"}
            connection.execute(m.TrialValueModel.__table__.insert(), {**at, **value})
            attrs = [
                {**at, "key": key, "value_json": json.dumps(attr)}
                for key, attr in trial.user_attrs.items()
            ]
            connection.execute(m.TrialUserAttributeModel.__table__.insert(), attrs)


class Loop:
    """A runner over a storage, with trials that run until they are ended by hand."""

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        n: int,
        n_parallel: int,
        pruner: str = "none",
    ) -> None:
        spec = spec_of(n + 100_000, n_parallel, pruner)
        clock = FakeClock()
        self.executor = FakeExecutor("loop", clock=clock)
        study = Study.open(
            spec,
            storage,
            make_sampler=lambda seed, n_trials: make_sampler(spec, seed, n_trials),
            pruner=make_pruner(spec),
        )
        self.tuner = Tuner(study, self.executor, NoMirror(), Observer(), clock=clock)

    def turn(self) -> None:
        assert self.tuner.turn() is None
        self.executor.wait(1.0)

    def end_one(self) -> float:
        """Return the CPU milliseconds of the turn in which one trial ends and another begins."""
        self.executor.finish(self.executor.machine.running()[0], 0.5)
        return cpu_ms(self.turn)


def plain_optuna(storage: optuna.storages.BaseStorage) -> float:
    """Return the CPU milliseconds in which plain Optuna asks for a trial and tells it."""
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.load_study(study_name="loop", storage=storage, sampler=sampler)

    def one() -> None:
        study.tell(study.ask(dict(SPACE)), 0.5)

    return median_high([cpu_ms(one) for _ in range(10)])


def measure(kind: str, n: int, n_parallel: int, folder: Path) -> Iterator[Row]:
    url = f"sqlite:///{folder / f'{n}-{n_parallel}.db'}"
    made = optuna.storages.InMemoryStorage() if kind == "memory" else open_storage(url)
    loop = Loop(filled(made, n), n, n_parallel)
    what = f"{kind}, n = {n:,}, {n_parallel} running"
    if n_parallel > 100:
        yield Row(f"{what}: slots filled", cpu_ms(loop.turn) / 1000, "s CPU")
    loop.turn()
    loop.turn()
    yield Row(f"{what}: idle turn", cpu_ms(loop.turn, times=10), "ms CPU")
    ended = median_high([loop.end_one() for _ in range(10)])
    yield Row(f"{what}: one trial's end", ended, "ms CPU", plain_optuna(made), "Optuna")


def measure_pruned(n: int, n_parallel: int) -> Iterator[Row]:
    """Yield what turns cost where a pruner judges trials that have reported."""
    made = filled(optuna.storages.InMemoryStorage(), n, n_steps=10)
    loop = Loop(made, n, n_parallel, pruner="median")
    loop.turn()
    loop.turn()
    for attempt in loop.executor.machine.running():
        for step in range(3):
            loop.executor.report(attempt, step, loss=0.5)
    loop.turn()
    loop.turn()
    what = f"memory, n = {n:,}, {n_parallel} running, median pruner"
    yield Row(f"{what}: idle turn", cpu_ms(loop.turn, times=10), "ms CPU")
    ended = median_high([loop.end_one() for _ in range(10)])
    yield Row(f"{what}: one trial's end", ended, "ms CPU")


def rows(*, is_quick: bool) -> Iterator[Row]:
    yield from measure_pruned(*((20, 3) if is_quick else (1_000, 100)))
    sizes = [("memory", 100, 3), ("sqlite", 20, 3)]
    if not is_quick:
        sizes = [("memory", n, 10) for n in (0, 1_000, 5_000, 10_000)]
        sizes += [("memory", 10_000, 1_000)]
        sizes += [("sqlite", n, 10) for n in (0, 1_000, 10_000)]
    with tempfile.TemporaryDirectory() as name:
        for kind, n, n_parallel in sizes:
            yield from measure(kind, n, n_parallel, Path(name))
