"""What a command costs: CPU and modules, beside a bare Python. Its study has 30 finished trials."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.control_plane.measures import Row

STUDY = """
name: commands
objectives: [{metric: loss, direction: minimize}]
search_space:
  x: {type: float, low: 0, high: 1}
  y: {type: float, low: 1.0e-5, high: 0.1, log: true}
  z: {type: int, low: 1, high: 8}
sampler: {type: random, seed: 0}
budget: {n_trials: 30, max_parallel_trials: 2}
trial: {command: [python, -S, train.py]}
"""

TRAIN = """
import json, os
trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
print("trained")
with open(trial["outcome_path"], "w") as file:
    json.dump({"version": 1, "study": trial["study"], "number": trial["number"],
               "attempt": trial["attempt"], "key": trial.get("key"), "cause": "ok",
               "metrics": {"loss": trial["params"]["x"]}, "message": ""}, file)
"""

COUNT = """
import runpy, sys
sys.argv = ["studyflow", *sys.argv[1:]]
try:
    runpy.run_module("studyflow", run_name="__main__")
except SystemExit:
    pass
print(len(sys.modules), file=sys.stderr)
"""


def cpu_of(command: Sequence[str], folder: Path, times: int) -> float:
    """Return the least CPU seconds of a process, of some runs of it."""
    least = float("inf")
    for _ in range(times):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=folder, capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        least = min(least, spent)
    return least


def n_modules(arguments: Sequence[str], folder: Path) -> int:
    command = [sys.executable, "-c", COUNT, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return int(done.stderr.split()[-1])


def rows(*, is_quick: bool) -> Iterator[Row]:
    times = 1 if is_quick else 5
    commands = {
        "--help": ["--help"],
        "--version": ["--version"],
        "check": ["check", "study.yaml"],
        "status": ["status", "study.yaml"],
        "best": ["best", "study.yaml"],
        "logs": ["logs", "study.yaml", "3"],
        "sync (nothing to send)": ["sync", "study.yaml"],
        "report (30 trials)": ["report", "study.yaml"],
    }
    if is_quick:
        commands = {"--help": ["--help"]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "study.yaml").write_text(STUDY)
        (folder / "train.py").write_text(TRAIN)
        if not is_quick:
            program = [sys.executable, "-m", "studyflow"]
            subprocess.run([*program, "run", "study.yaml"], cwd=folder, check=True)
            subprocess.run([*program, "sync", "study.yaml"], cwd=folder, check=True)
        bare = cpu_of([sys.executable, "-c", ""], folder, times)
        for what, arguments in commands.items():
            spent = cpu_of([sys.executable, "-m", "studyflow", *arguments], folder, times)
            yield Row(f"studyflow {what}", spent, "s CPU", bare, "bare Python")
            yield Row(f"studyflow {what}", n_modules(arguments, folder), "modules")
