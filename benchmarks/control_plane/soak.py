"""20,000 trials that return at once: what a runner holds afterwards that it did not hold before.

The peer is plain Optuna, which asks for as many trials and tells them, in a process of its own: a
study's trials stay in memory, and what they take there is Optuna's.
"""

from __future__ import annotations

import gc
import multiprocessing
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import optuna
from benchmarks.control_plane.loop import SPACE, NoMirror, spec_of
from benchmarks.control_plane.measures import Row, rss_mib

from studyflow.executors import AttemptId, AttemptState, AttemptStatus, ExecutorTraits
from studyflow.observers.observer import Observer
from studyflow.samplers import make_pruner, make_sampler
from studyflow.spec import StudySpec
from studyflow.study import Study
from studyflow.trial import Cause, Outcome, Trial
from studyflow.trial.record import TrialRecord
from studyflow.tuner import Tuner

N_PARALLEL = 50


class ReturnsAtOnce:
    """An executor whose attempts have ended when they are first looked at; it keeps no other."""

    # ruff: noqa: ARG002  (the interface is the executor's)

    traits = ExecutorTraits()
    site = "here"

    def __init__(self) -> None:
        self._ended: dict[AttemptId, AttemptStatus] = {}

    def submit(self, trial: Trial, *, avoid: Collection[str] = ()) -> AttemptId:
        attempt = AttemptId(trial.number, trial.attempt)
        metrics = {"loss": float(trial.number % 97)}
        outcome = Outcome(trial.study, trial.number, trial.attempt, Cause.OK, metrics)
        self._ended[attempt] = AttemptStatus(AttemptState.ENDED, outcome)
        return attempt

    def poll(self) -> Mapping[AttemptId, AttemptStatus]:
        return dict(self._ended)

    def wait(self, timeout_seconds: float) -> None:
        pass

    def stop(self, attempt: AttemptId, cause: Cause, reason: str) -> None:
        pass

    def forget(self, attempt: AttemptId) -> None:
        self._ended.pop(attempt, None)

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Held:
    """What this process holds."""

    mib: float
    n_descriptors: int
    n_threads: int

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        return cls(rss_mib(), len(list(Path("/proc/self/fd").iterdir())), threading.active_count())


@dataclass
class Diary(Observer):
    """Notes what is held, at ten moments of the study."""

    step: int
    n: int = 0
    held: list[Held] = field(default_factory=list)

    def recorded(self, record: TrialRecord) -> None:
        self.n += 1
        if self.n % self.step == 0:
            self.held.append(Held.now())


def open_study(spec: StudySpec, storage: optuna.storages.BaseStorage) -> Study:
    return Study.open(
        spec,
        storage,
        make_sampler=lambda seed, n: make_sampler(spec, seed, n),
        pruner=make_pruner(spec),
    )


def soak(n_trials: int) -> list[Held]:
    """Run a study and return what was held after each tenth of it."""
    study = open_study(spec_of(n_trials, N_PARALLEL), optuna.storages.InMemoryStorage())
    diary = Diary(n_trials // 10)
    result = Tuner(study, ReturnsAtOnce(), NoMirror(), diary).drive()
    assert result.is_finished, result
    return diary.held


def take_turns(n_trials: int) -> Iterator[None]:
    """Run a study by two runners of one site, each of which ends what the other has launched.

    Yields after each turn of both.
    """
    spec, storage, executor = (
        spec_of(n_trials, N_PARALLEL),
        optuna.storages.InMemoryStorage(),
        ReturnsAtOnce(),
    )
    runners = [Tuner(open_study(spec, storage), executor, NoMirror(), Observer()) for _ in "ab"]
    while None in [runner.turn() for runner in runners]:
        yield


def plain_optuna(pipe: Connection, n_trials: int) -> None:
    """Send by how many MiB this process grows with the last nine tenths of plain Optuna's trials.

    They hold the same attributes.
    """
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    held = []
    for number in range(1, n_trials + 1):
        trial = study.ask(dict(SPACE))
        attributes = {"attempt": 1, "holder": "here", "mlflow_run_id": f"run-{number}"}
        for key, value in attributes.items():
            trial.set_user_attr(key, value)
        study.tell(trial, float(number % 97))
        if number % (n_trials // 10) == 0:
            held.append(Held.now().mib)
    pipe.send(held[-1] - held[0])


def of_plain_optuna(n_trials: int) -> float:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=plain_optuna, args=(theirs, n_trials), daemon=True)
    process.start()
    grown: float = ours.recv()
    process.join(10)
    return grown


def rows(*, is_quick: bool) -> Iterator[Row]:
    n_trials = 300 if is_quick else 20_000
    held = soak(n_trials)
    first, last = held[0], held[-1]
    what = f"{n_trials:,} trials"
    n_last = n_trials - n_trials // 10
    grown, theirs = 1024 * (last.mib - first.mib), 1024 * of_plain_optuna(n_trials)
    yield Row(f"{what}: memory of a further one", grown / n_last, "KiB", theirs / n_last, "Optuna")
    yield Row(f"{what}: descriptors", last.n_descriptors, "", first.n_descriptors, "first tenth")
    yield Row(f"{what}: threads", last.n_threads, "", first.n_threads, "first tenth")
