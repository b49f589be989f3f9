"""Does a study take as long as `studyflow simulate` says? Five studies, forecast and really run.

    python benchmarks/forecasts.py

Each study runs its first trials, is forecast, and runs the rest: local processes that sleep, as
their parameters say. Both numbers count as foretold inside the forecast's 90 % interval.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from studyflow.ledger import all_rows, spending
from studyflow.reports.stored import stored_study
from studyflow.settings import Settings

TRAIN: Final = """\
import random, sys, time
from studyflow import sdk
trial = sdk.current_trial()
x = trial.params["x"]
draw = random.Random(f"{trial.number} {x}")
for step in range(5):
    time.sleep(4 * (SECONDS) / 5)
    sdk.report(step, loss=(x - 0.3) ** 2 + 1 / (step + 1))
sdk.finish(loss=(x - 0.3) ** 2)
"""
STUDIES: Final = {
    "constant": "0.8",
    "grows": "0.4 + x",
    "exponential": "0.3 * 4 ** x",
    "noisy": "0.8 * draw.lognormvariate(0, 0.4)",
    "heavy": "(0.3 + x) * draw.lognormvariate(0, 0.3)",
}
"""A quarter of the seconds that a trial sleeps, by study."""
N_FIRST: Final = 12
N_ALL: Final = 36
PARALLEL: Final = 4
HOUR: Final = 3600


def study(name: str, n_trials: int) -> str:
    """Return the study file."""
    return (
        f"name: {name}\n"
        "objectives: [{metric: loss, direction: minimize}]\n"
        "search_space:\n  x: {type: float, low: 0.0, high: 1.0}\n"
        "sampler: {type: random, seed: 1}\n"
        f"budget: {{n_trials: {n_trials}, max_parallel_trials: {PARALLEL}}}\n"
        "trial: {command: [python, train.py]}\n"
    )


def studyflow(folder: Path, *arguments: str) -> str:
    """Return what a command prints."""
    done = subprocess.run(
        [Path(sys.executable).with_name("studyflow"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def measured(folder: Path, name: str) -> tuple[float, float]:
    """Return how long the later trials took together, and the hours of their attempts."""
    data = stored_study(name, Settings.resolve(home=folder / ".studyflow", environment={}))
    later = [record for record in data.trials if record.number >= N_FIRST]
    began = min(record.started_at or 0.0 for record in later)
    ended = max(record.finished_at or 0.0 for record in later)
    return ended - began, spending(all_rows(later)).unit_hours


def main() -> None:
    print("| study | takes (s) | foretold | slot-seconds | foretold |\n|---|---|---|---|---|")
    n_held = 0
    for name, seconds in STUDIES.items():
        with tempfile.TemporaryDirectory() as folder_name:
            folder = Path(folder_name)
            (folder / "train.py").write_text(TRAIN.replace("SECONDS", seconds))
            (folder / "study.yaml").write_text(study(name, N_FIRST))
            studyflow(folder, "run", "study.yaml")
            (folder / "study.yaml").write_text(study(name, N_ALL))
            options = ("--parallel", str(PARALLEL), "--repetitions", "40", "--json")
            found = json.loads(studyflow(folder, "simulate", "study.yaml", *options))["widths"][0]
            studyflow(folder, "run", "study.yaml")
            took, spent = measured(folder, name)
        pairs = ((took, found["seconds"]), (spent, found["hours"]))
        n_held += all(said["low"] <= true <= said["high"] for true, said in pairs)
        times, slots = found["seconds"], found["hours"]
        print(
            f"| {name} | {took:.1f} | {times['low']:.1f} to {times['high']:.1f} "
            f"| {spent * HOUR:.1f} | {slots['low'] * HOUR:.1f} to {slots['high'] * HOUR:.1f} |",
            flush=True,
        )
    print(f"\n{n_held} of {len(STUDIES)} studies as foretold, in both.")


if __name__ == "__main__":
    main()
