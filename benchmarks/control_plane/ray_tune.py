"""Trials that return at once under Ray Tune, two at a time: a peer, in an environment of its own.

    python -m venv ray && ray/bin/pip install "ray[tune]"
    ray/bin/python benchmarks/control_plane/ray_tune.py [--trials 120]

It imports nothing of studyflow's. CPU times are of Ray's processes and their children.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

N_PARALLEL = 2
OURS = str(os.getpid())


def cpu_seconds() -> float:
    """Return the CPU seconds so far of this process and Ray's, and of their ended children."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            command = (stat.parent / "cmdline").read_bytes()
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if command.startswith(b"ray::") or b"/ray/" in command or stat.parent.name == OURS:
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=120)
    n_trials = parser.parse_args().trials

    import ray  # type: ignore[import-not-found]
    from ray import tune

    def train(config: dict[str, float]) -> None:
        tune.report({"loss": (config["x"] - 0.5) ** 2})

    with tempfile.TemporaryDirectory() as folder:
        ray.init(num_cpus=N_PARALLEL, include_dashboard=False, log_to_driver=False)
        began, cpu = time.monotonic(), cpu_seconds()
        results = tune.Tuner(
            train,
            param_space={"x": tune.uniform(0.0, 1.0)},
            tune_config=tune.TuneConfig(num_samples=n_trials, metric="loss", mode="min"),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()
        taken, used = time.monotonic() - began, cpu_seconds() - cpu
        assert len(results) == n_trials
        ray.shutdown()
    print(f"Ray Tune, {n_trials} trials, {N_PARALLEL} at a time:")
    print(f"{1000 * used / n_trials:.0f} ms CPU a trial, {n_trials / taken:.2f} trials a second")


if __name__ == "__main__":
    main()
