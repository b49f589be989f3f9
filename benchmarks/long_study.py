"""Memory and pace of a runner over a study of 10,000 trials, and how soon another one goes on.

A real runner (`studyflow run`, random sampler, embedded storage and MLflow) works through trials
that return at once, two at a time. Shortly before the end it is killed and started again: the clock
runs from the kill to the first attempt that the new one launches.

    python benchmarks/long_study.py [--trials 10000] [--storage postgresql://...] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

STUDY = """
name: long
objectives: [{{metric: loss, direction: minimize}}]
search_space:
  x: {{type: float, low: -1, high: 1}}
  y: {{type: float, low: -1, high: 1}}
sampler: {{type: random, seed: 0}}
budget: {{n_trials: {n_trials}, max_parallel_trials: 2}}
trial: {{command: [python, -S, train.py]}}
"""

# Without the SDK: what is measured is the runner.
TRAIN = """
import json, os
trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
names = ("study", "number", "attempt", "key")
with open(trial["outcome_path"], "w") as file:
    json.dump({"version": 1, **{name: trial[name] for name in names}, "cause": "ok",
               "metrics": {"loss": trial["params"]["x"] ** 2}, "message": ""}, file)
"""

N_ROWS = 10
"""How often the runner is looked at."""

BEFORE_END = 20
"""How many trials are left when it is killed."""

MEGA = 1e6


class LongStudy:
    """One study on disk.

    Args:
        folder: Folder for everything.
        n_trials: Its budget.
        storage: Its storage; the embedded one by default.
    """

    def __init__(self, folder: Path, n_trials: int, storage: str | None) -> None:
        self._folder = folder
        self._storage = storage
        (folder / "train.py").write_text(TRAIN)
        (folder / "study.yaml").write_text(STUDY.format(n_trials=n_trials))

    def start(self) -> psutil.Popen:
        """Start a runner."""
        places = ["--home", str(self._folder / "home")]
        if self._storage is not None:
            places += ["--storage", self._storage]
        command = [sys.executable, "-m", "studyflow", "run", "study.yaml", *places]
        with (self._folder / "runner.log").open("ab") as log:
            return psutil.Popen(command, cwd=self._folder, stdout=log, stderr=subprocess.STDOUT)

    def n_launched(self) -> int:
        """Return how many trials have begun."""
        trials = self._folder / "home" / "studies" / "long" / "trials"
        numbers = [int(path.name) for path in trials.iterdir()] if trials.exists() else []
        return max(numbers, default=-1) + 1

    def wait_for(self, n_trials: int, runner: psutil.Popen) -> None:
        """Return once so many trials have begun."""
        while self.n_launched() < n_trials:
            if runner.poll() is not None:
                raise SystemExit((self._folder / "runner.log").read_text()[-3000:])
            time.sleep(0.05)


def report_memory(runner: psutil.Process) -> int:
    """Return the bytes that the process takes that writes the runner's report; 0 without one."""
    reports = (c for c in runner.children() if "studyflow.reports.apart" in c.cmdline())
    return sum(child.memory_info().rss for child in reports)


def measure(folder: Path, n_trials: int, storage: str | None) -> None:
    """Run the study; print what was seen."""
    study = LongStudy(folder, n_trials, storage)
    runner = study.start()
    try:
        print("| trials begun | memory of the runner | a trial |\n|---|---|---|", flush=True)
        begun, before = time.perf_counter(), 0
        rows = (row * n_trials // N_ROWS for row in range(1, N_ROWS + 1))
        for wanted in sorted({min(row, n_trials - BEFORE_END) for row in rows}):
            study.wait_for(wanted, runner)
            now = time.perf_counter()
            memory = runner.memory_info().rss / MEGA
            pace = 1000 * (now - begun) / (wanted - before)
            print(f"| {wanted} | {memory:.0f} MB | {pace:.0f} ms |", flush=True)
            begun, before = now, wanted
        runner.kill()
        killed = time.perf_counter()
        runner.wait()
        n_launched = study.n_launched()
        runner = study.start()
        study.wait_for(n_launched + 1, runner)
        print(f"killed → first attempt of the next runner: {time.perf_counter() - killed:.1f} s")
        most = most_apart = 0
        while runner.poll() is None:
            try:
                most = max(most, runner.memory_info().rss)
                most_apart = max(most_apart, report_memory(runner))
            except psutil.Error:  # one of them has just ended
                continue
            time.sleep(0.05)
        code = runner.wait()
        took = time.perf_counter() - killed
        print(f"most memory of the next runner: {most / MEGA:.0f} MB")
        print(f"most memory of the process that writes the report: {most_apart / MEGA:.0f} MB")
        print(f"killed → study finished and reported: {took:.1f} s, exit code {code}")
    finally:
        if runner.poll() is None:
            runner.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--storage", help="address of the study's storage; embedded by default")
    parser.add_argument("--folder", type=Path, help="where to keep the study, or go on with it")
    given = parser.parse_args()
    if given.folder is not None:
        given.folder.mkdir(parents=True, exist_ok=True)
        measure(given.folder, given.trials, given.storage)
        return
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), given.trials, given.storage)


if __name__ == "__main__":
    main()
