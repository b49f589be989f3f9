"""Slots that wait for a sampler: eight of them, trials of a second, at n = 60 and n = 1,000.

Trials are simulated, but their seconds are real: this part alone reads a clock. On a busy machine
compare the ratio to the peers, which ran in the same minutes, and the CPU of a suggestion.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import optuna
from benchmarks.control_plane.loop import NoMirror
from benchmarks.control_plane.measures import Row

from studyflow.observers.observer import Observer
from studyflow.samplers import make_pruner
from studyflow.samplers.ahead.opening import suggestions_ahead
from studyflow.spec import StudySpec
from studyflow.study import Study
from studyflow.testing.fake_clock import FakeClock
from studyflow.testing.fake_executor import FakeExecutor
from studyflow.tuner import Tuner

N_SLOTS = 8
N_TRIALS = 60
"""How many trials are run and measured."""
SPACE: Mapping[str, Any] = {
    "lr": {"type": "float", "low": 1e-5, "high": 1.0, "log": True},
    "decay": {"type": "float", "low": 1e-6, "high": 0.1, "log": True},
    "dropout": {"type": "float", "low": 0.0, "high": 0.5},
    "momentum": {"type": "float", "low": 0.0, "high": 1.0},
    "warmup": {"type": "float", "low": 0.0, "high": 1.0},
    "smoothing": {"type": "float", "low": 0.0, "high": 1.0},
    "width": {"type": "int", "low": 16, "high": 1024, "log": True},
    "depth": {"type": "int", "low": 1, "high": 8},
    "optimizer": {"type": "categorical", "choices": ["sgd", "adam", "lion"]},
    "norm": {"type": "categorical", "choices": ["batch", "layer"]},
}


class WallClock(FakeClock):
    """The real one, for the fake executor."""

    def __call__(self) -> float:
        return time.monotonic()

    def advance(self, seconds: float) -> None:
        time.sleep(max(seconds, 0.0))


def loss(params: Mapping[str, Any]) -> float:
    """Return the result of a trial, with a little noise that its parameters decide."""
    x = math.log10(params["lr"]) + 2.5 + (0.8 if params["optimizer"] == "adam" else 0.0)
    y = math.log10(params["decay"]) + 4.0
    size = math.log2(params["width"]) / 10 - 0.7 + 0.1 * (params["depth"] - 4)
    rest = (params["dropout"] - 0.2) ** 2 + (params["momentum"] - 0.9) ** 2
    rest += (params["warmup"] - 0.3) ** 2 + (params["smoothing"] - 0.1) ** 2
    noise = 0.05 * math.sin(1e4 * params["warmup"])
    return float(0.5 * x**2 + 0.1 * y**2 + size**2 + rest + noise)


def seconds_of(params: Mapping[str, Any]) -> float:
    """Return how long a trial takes: a second, a quarter more or less."""
    return 1.0 + 0.25 * math.sin(1e4 * params["dropout"])


def spec_of(sampler: str, n_trials: int) -> StudySpec:
    return StudySpec.from_mapping(
        {
            "name": "slots",
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "search_space": dict(SPACE),
            "sampler": {"type": sampler, "seed": 0},
            "budget": {"n_trials": n_trials, "max_parallel_trials": N_SLOTS},
            "trial": {"command": ["python", "train.py"]},
        }
    )


def history(spec: StudySpec, n: int) -> list[optuna.trial.FrozenTrial]:
    """Return `n` finished trials at random points."""
    generator = np.random.default_rng(0)
    sampler = optuna.samplers.RandomSampler(seed=int(generator.integers(2**31)))
    drawn = optuna.create_study(sampler=sampler)
    trials = []
    for _ in range(n):
        trial = drawn.ask(spec.space.distributions())
        finished = optuna.trial.create_trial(
            params=trial.params,
            distributions=trial.distributions,
            value=loss(trial.params),
            user_attrs={"attempt": 1, "cause": "ok", "holder": "here"},
        )
        assert finished.datetime_complete is not None
        finished.datetime_start = finished.datetime_complete - timedelta(seconds=1)
        trials.append(finished)
    return trials


@dataclass(frozen=True)
class Measured:
    """What one study took."""

    idle_share: float
    """Share of the slots' time in which they waited for their next trial."""
    median_wait_seconds: float
    """Between a slot that is free and its next trial."""
    cpu_seconds: float
    """Of a trial, all processes together."""


def measure(sampler: str, n_before: int, n_trials: int = N_TRIALS) -> Measured:
    """Run `n_trials` trials after `n_before` that were there already."""
    spec = spec_of(sampler, n_before + n_trials)
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(study_name=spec.name, storage=storage)
    study.add_trials(history(spec, n_before))
    clock = WallClock()
    executor = FakeExecutor(
        spec.name, objective=loss, duration=seconds_of, clock=clock, slots=N_SLOTS
    )
    before = cpu_seconds()
    with suggestions_ahead(spec) as (make_sampler, ahead):
        opened = Study.open(
            spec, storage, make_sampler=make_sampler, pruner=make_pruner(spec), ahead=ahead
        )
        Tuner(opened, executor, NoMirror(), Observer(), clock=clock).drive()
    spent = cpu_seconds() - before
    return Measured(*waits(executor), spent / n_trials)


def cpu_seconds() -> float:
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def waits(executor: FakeExecutor) -> tuple[float, float]:
    """Return the idle share of the slots, and the median wait of a free one for its next trial.

    From when all slots have had a trial until the last trial starts: at a study's beginning they
    wait for the process' imports, and at its end for nothing.
    """
    ran = sorted((r.started_at, r.ends_at) for r in executor.machine.attempts.values())
    begin, end = ran[N_SLOTS - 1][0], ran[-1][0]
    busy = sum(max(min(ended, end) - max(began, begin), 0.0) for began, ended in ran)
    starts = [began for began, _ in ran[N_SLOTS:]]
    ends = sorted(ended for _, ended in ran)
    # The k-th start after all slots were taken is in the slot that was the k-th to be free.
    waited = sorted(began - ended for began, ended in zip(starts, ends, strict=False))
    return 1.0 - busy / (N_SLOTS * (end - begin)), waited[len(waited) // 2]


def rows(*, is_quick: bool) -> Iterator[Row]:
    n_trials = 12 if is_quick else N_TRIALS
    for n_before, samplers in ((0, ("botorch", "gp", "tpe")), (940, ("botorch", "tpe"))):
        measured = {name: measure(name, n_before, n_trials) for name in samplers}
        ours = measured.pop("botorch")
        what = f"n = {n_before + n_trials:,}"
        for name, peer in measured.items():
            idle = (100 * ours.idle_share, 100 * peer.idle_share)
            yield Row(f"{what}: idle share", idle[0], "%", idle[1], name)
            wait = (1000 * ours.median_wait_seconds, 1000 * peer.median_wait_seconds)
            yield Row(f"{what}: wait of a free slot, median", wait[0], "ms", wait[1], name)
            cpu = (1000 * ours.cpu_seconds, 1000 * peer.cpu_seconds)
            yield Row(f"{what}: a trial", cpu[0], "ms CPU", cpu[1], name)
        if is_quick:
            return
