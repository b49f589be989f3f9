"""Local trials that return at once, with MLflow, beside Optuna calling the same subprocess."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.control_plane.measures import Row

from benchmarks import overhead


def spent(run: Callable[[Path, int], None], n_trials: int) -> tuple[float, float]:
    """Return CPU and wall-clock seconds of a run, its processes included."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)

    def cpu() -> float:
        return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))

    with tempfile.TemporaryDirectory() as name:
        began, before = time.perf_counter(), cpu()
        run(Path(name), n_trials)
        return cpu() - before, time.perf_counter() - began


def rows(*, is_quick: bool) -> Iterator[Row]:
    n_trials = 2 if is_quick else 120
    peer_cpu, peer_wall = spent(overhead.optuna_with_subprocess, n_trials)
    runs = {"without MLflow": overhead.studyflow_alone}
    if not is_quick:
        runs["with MLflow"] = overhead.studyflow_with_mlflow
    for what, run in runs.items():
        cpu, wall = spent(run, n_trials)
        yield Row(f"{n_trials} trials {what}", cpu, "s CPU", peer_cpu, "Optuna")
        yield Row(f"{n_trials} trials {what}", wall, "s wall clock", peer_wall, "Optuna")
