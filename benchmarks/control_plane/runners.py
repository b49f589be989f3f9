"""Several runners on one study in PostgreSQL: what a trial costs each, and who gets how many.

Each runner is a process of its own site, with trials that sleep. The peer is Optuna with as many
processes on one study of the same server, whose trials return at once.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from typing import Any

import optuna
import pytest
from benchmarks.control_plane.loop import SPACE, NoMirror, spec_of
from benchmarks.control_plane.measures import Row, Statements
from tests.postgres import create_database, running_postgres

from studyflow.observers.observer import Observer
from studyflow.samplers import make_pruner, make_sampler
from studyflow.spec import StudySpec
from studyflow.storage import PatientStorage, open_storage
from studyflow.study import Study, heartbeat
from studyflow.testing.fake_clock import FakeClock
from studyflow.testing.fake_executor import FakeExecutor
from studyflow.trial.record import TrialRecord
from studyflow.tuner import Tuner, TunerSettings

TRIAL_SECONDS = 0.1
START_SECONDS = 300.0
"""How long runners wait for each other to be ready."""


class RealClock(FakeClock):
    """The time that everybody has."""

    def __call__(self) -> float:
        return time.monotonic()

    def advance(self, seconds: float) -> None:
        time.sleep(max(seconds, 0.0))


@dataclass(frozen=True)
class Work:
    """What the runners share."""

    url: str
    n_trials: int
    n_runners: int
    slots: int
    """How many trials run at once at each site."""

    @property
    def spec(self) -> StudySpec:
        """The study file of all runners."""
        return spec_of(self.n_trials, self.n_runners * self.slots)


def run(work: Work, site: str, ready: Barrier, said: Any) -> None:
    """Be one runner; say the CPU seconds and the statements that it took."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spec = work.spec
    database = open_storage(work.url)
    assert isinstance(database, optuna.storages.RDBStorage)
    storage = PatientStorage(database)
    study = Study.open(
        spec,
        storage,
        make_sampler=lambda seed, n_trials: make_sampler(spec, seed, n_trials),
        pruner=make_pruner(spec),
    )
    executor = FakeExecutor(
        spec.name,
        objective=lambda params: float(str(params["lr"])),
        duration=TRIAL_SECONDS,
        clock=RealClock(),
        slots=work.slots,
        site=site,
    )
    tuner = Tuner(
        study,
        executor,
        NoMirror(),
        Observer(),
        settings=TunerSettings(poll_seconds=0.2),
        clock=time.monotonic,
    )
    sent = Statements(database)
    with heartbeat(study, open_storage(work.url), site):
        ready.wait(START_SECONDS)
        began, before = time.process_time(), sent.n
        result = tuner.drive()
        said.put((site, time.process_time() - began, sent.n - before, str(result.reason)))


def optimize(work: Work, site: str, ready: Barrier, said: Any) -> None:
    """Be one process of Optuna's."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    database = optuna.storages.RDBStorage(work.url.replace("postgresql:", "postgresql+psycopg:"))
    sampler = optuna.samplers.RandomSampler()
    study = optuna.load_study(study_name="peer", storage=database, sampler=sampler)
    sent = Statements(database)
    enough = optuna.study.MaxTrialsCallback(work.n_trials)

    def objective(trial: optuna.Trial) -> float:
        return float(sum(trial._suggest(name, given) for name, given in SPACE.items()))

    ready.wait(START_SECONDS)
    began, before = time.process_time(), sent.n
    study.optimize(objective, n_trials=work.n_trials, callbacks=[enough])
    said.put((site, time.process_time() - began, sent.n - before, ""))


@dataclass(frozen=True)
class Shared:
    """What came of a study that several runners shared."""

    records: tuple[TrialRecord, ...]
    cpu_seconds: Mapping[str, float]
    """By runner."""
    n_statements: Mapping[str, int]
    reasons: frozenset[str]

    @property
    def shares(self) -> Counter[str | None]:
        """How many trials each site ended."""
        return Counter(record.holder for record in self.records if record.cause == "ok")

    def per_trial(self, given: Mapping[str, float]) -> float:
        """Return a sum over all runners for each trial that was finished."""
        return sum(given.values()) / max(self.shares.total(), 1)


def share(work: Work) -> Shared:
    """Let all runners work on one study to its end."""
    said = _all(work, run)
    spec = work.spec
    storage = open_storage(work.url)
    study = Study.open(
        spec,
        storage,
        make_sampler=lambda seed, n_trials: make_sampler(spec, seed, n_trials),
        pruner=make_pruner(spec),
    )
    records = study.records()
    if isinstance(storage, optuna.storages.RDBStorage):
        storage.remove_session()
        storage.engine.dispose()
    return Shared(
        records,
        {site: cpu for site, cpu, _, _ in said},
        {site: n for site, _, n, _ in said},
        frozenset(reason for *_, reason in said),
    )


def _all(work: Work, target: Any) -> list[tuple[str, float, int, str]]:
    """Return what all processes have said.

    Raises:
        queue.Empty: One of them has not come to its end.
    """
    context = multiprocessing.get_context("spawn")
    ready, said = context.Barrier(work.n_runners), context.Queue()
    sites = [f"site-{number}" for number in range(work.n_runners)]
    processes = [context.Process(target=target, args=(work, s, ready, said)) for s in sites]
    try:
        for process in processes:
            process.start()
        return [said.get(timeout=2 * START_SECONDS) for _ in processes]
    finally:
        for process in processes:
            process.join(5.0)
            process.kill()


def rows(*, is_quick: bool) -> Iterator[Row]:
    n_runners, n_trials = (2, 20) if is_quick else (10, 1000)
    try:
        with running_postgres() as postgres:
            yield from measured(postgres.url, n_runners, n_trials)
    except pytest.skip.Exception as reason:
        print(f"(no PostgreSQL: {reason})")


def measured(server: str, n_runners: int, n_trials: int) -> Iterator[Row]:
    ours = Work(create_database(server, "ours"), n_trials, n_runners, slots=4)
    shared = share(ours)
    url = create_database(server, "theirs")
    database = optuna.storages.RDBStorage(url.replace("postgresql:", "postgresql+psycopg:"))
    peer = optuna.create_study(study_name="peer", storage=database)
    said = _all(Work(url, n_trials, n_runners, slots=1), optimize)
    n_theirs = len(peer.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE]))
    what = f"PostgreSQL, {n_runners} runners"
    yield Row(
        f"{what}: trials finished of {n_trials}", shared.shares.total(), "", n_theirs, "Optuna"
    )
    yield Row(
        f"{what}: CPU of a trial",
        1000 * shared.per_trial(shared.cpu_seconds),
        "ms CPU",
        1000 * sum(cpu for _, cpu, _, _ in said) / n_theirs,
        "Optuna",
    )
    yield Row(
        f"{what}: statements of a trial",
        shared.per_trial(shared.n_statements),
        "statements",
        sum(n for _, _, n, _ in said) / n_theirs,
        "Optuna",
    )
    least = min(shared.shares[site] for site in shared.cpu_seconds)
    yield Row(f"{what}: least share of one runner", least * n_runners / n_trials, "of even")
    repeated = sum(record.attempt > 1 for record in shared.records)
    yield Row(f"{what}: trials attempted twice", repeated, "")
    withdrawn = sum(record.cause == "cancelled" for record in shared.records)
    yield Row(f"{what}: trials withdrawn", withdrawn, "")
