"""CPU seconds of one suggestion: 12 parameters of every kind, 8 running trials."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import optuna
import psutil
from benchmarks.samplers.peers import SAMPLERS
from benchmarks.samplers.problems import Problem, RandomTrial, analytic
from optuna.trial import TrialState, create_trial

DEFAULT = (
    *("ours:100", "ours:1000", "ours:10000"),
    *("gp:100", "gp:1000", "tpe:100", "tpe:1000", "botorch:100"),
)
N_RUNNING = 8


def make_study(sampler: str, n: int, *, seed: int = 0) -> optuna.Study:
    """Return a study with `n` completed random trials and `N_RUNNING` running ones."""
    problem = analytic()["mixed12-a"]
    study = optuna.create_study(sampler=SAMPLERS[sampler](seed))
    template = study.ask()
    problem.suggest(template)
    distributions = template.distributions
    study.tell(template, 1.0)
    generator = np.random.default_rng(seed)
    draw = RandomTrial(generator)
    finished = []
    for _ in range(n - 1):
        params = problem.suggest(draw)
        value = problem.compute(params) + 0.05 * float(generator.standard_normal())
        finished.append(create_trial(params=params, distributions=distributions, value=value))
    study.add_trials(finished)
    for _ in range(N_RUNNING):
        study.add_trial(
            create_trial(
                params=problem.suggest(draw),
                distributions=distributions,
                state=TrialState.RUNNING,
            )
        )
    return study


def _suggest(problem: Problem, study: optuna.Study) -> None:
    problem.suggest(study.ask())


def measure_latency(only: Sequence[str], repeats: int) -> None:
    """Print a table of CPU seconds per suggestion and growth of memory."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    problem = analytic()["mixed12-a"]
    process = psutil.Process()
    print("| sampler | n | first, s | median of the rest, s | worst, s | peak RSS growth, MB |")
    print("|---|---|---|---|---|---|")
    for name in only or DEFAULT:
        sampler, _, size = name.partition(":")
        small = make_study(sampler, 30)  # imports and warms up what a process needs once
        problem.suggest(small.ask())
        study = make_study(sampler, int(size))
        before = process.memory_info().rss
        seconds = []
        for _ in range(repeats + 1):
            began = time.process_time()
            trial = study.ask()
            params = problem.suggest(trial)
            seconds.append(time.process_time() - began)
            study.tell(trial, problem.compute(params))
        highest = _peak_rss(partial(_suggest, problem, study))
        rest = seconds[1:]
        print(
            f"| {sampler} | {size} | {seconds[0]:.3f} | {np.median(rest):.3f} | {max(rest):.3f} | "
            f"{max(highest - before, 0) / 1e6:.0f} |",
            flush=True,
        )


def _peak_rss(action: Callable[[], object]) -> int:
    """Return the most memory the process held during the action, in bytes, looked at each 2 ms."""
    process, finished = psutil.Process(), threading.Event()
    peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not finished.wait(0.002):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    action()
    finished.set()
    watcher.join()
    return peak
