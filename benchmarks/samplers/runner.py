"""Runs of a sampler on a problem, on a simulated clock, appended to a file as they finish."""

from __future__ import annotations

import heapq
import json
import math
import time
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import optuna
from benchmarks.samplers.peers import make_sampler
from benchmarks.samplers.problems import Problem

DURATION_SPREAD = 0.5
"""Standard deviation of the logarithm of a trial's simulated duration."""


@dataclass(frozen=True)
class Key:
    """What identifies a run: it is never made twice in one file."""

    problem: str
    sampler: str
    seed: int
    workers: int
    n_trials: int


@dataclass(frozen=True)
class Run:
    """One finished run."""

    key: Key
    values: list[float]
    """True value of each trial in the order in which they finished."""
    milliseconds: list[float]
    """CPU time of each suggestion, in the order in which they were asked for."""
    max_running: int
    error: str | None
    """Why the sampler gave up; the trials before that count."""


def simulate(problem: Problem, key: Key) -> Run:
    """Return a run: `key.workers` workers, each with a new trial as soon as it has told the last.

    Durations are heterogeneous and depend on seed and trial number alone, so all samplers meet the
    same ones. Noise and divergence likewise.
    """
    values: list[float] = []
    milliseconds: list[float] = []
    running: list[tuple[float, int, optuna.Trial, float, float]] = []
    asked, clock, most, error = 0, 0.0, 0, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(sampler=make_sampler(key.sampler, key.seed, problem))
        while asked < key.n_trials or running:
            while asked < key.n_trials and len(running) < key.workers:
                began = time.process_time()
                try:
                    trial = study.ask()
                    params = problem.suggest(trial)
                except Exception as failure:  # noqa: BLE001  (a peer that raises has lost, not we)
                    error = f"{type(failure).__name__}: {str(failure)[:100]}"
                    asked = key.n_trials
                    break
                milliseconds.append(round(1e3 * (time.process_time() - began), 3))
                generator = np.random.default_rng([key.seed, asked, 1])
                duration = math.exp(DURATION_SPREAD * float(generator.standard_normal()))
                told, true = problem.measure(params, generator)
                heapq.heappush(running, (clock + duration, asked, trial, told, true))
                asked += 1
                most = max(most, len(running))
            if running:
                clock, _, trial, told, true = heapq.heappop(running)
                study.tell(trial, told)
                values.append(true)
    return Run(key, values, milliseconds, most, error)


def read_runs(paths: Iterable[Path]) -> dict[Key, Run]:
    """Return all runs of the files; of repeated ones the last."""
    runs: dict[Key, Run] = {}
    for path in paths:
        if not path.exists():
            continue
        for line in path.read_text().splitlines():
            fields = json.loads(line)
            key = Key(**fields.pop("key"))
            runs[key] = Run(key, **fields)
    return runs


def run_all(problems: Iterable[Problem], keys: Iterable[Key], to: Path) -> None:
    """Make those of the runs that the file does not hold yet, and append each to it."""
    by_name = {problem.name: problem for problem in problems}
    done = read_runs([to])
    for key in keys:
        if key in done:
            continue
        run = simulate(by_name[key.problem], key)
        with to.open("a") as file:
            file.write(json.dumps(asdict(run)) + "\n")
        best = min(run.values, default=math.inf)
        print(f"{key.problem} {key.sampler} seed={key.seed} workers={key.workers}: {best:.5g}")
