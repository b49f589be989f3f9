"""What studyflow adds to a trial, beside `optuna.study.optimize` calling a subprocess, in one run.

Every trial returns at once; random sampler, two at a time, embedded journal storage. Both sides
start one Python per trial that gets two parameters and gives one value back. The difference is what
supervision, records, MLflow and reports cost.

    python benchmarks/overhead.py [--trials 1000]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend

from studyflow.context import StudyContext
from studyflow.observers.observer import Observer
from studyflow.runner import RunOptions, run_study
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.tracking import Tracker
from studyflow.tracking.memory import MemoryTracker

OURS = """
from studyflow import sdk
params = sdk.current_trial().params
sdk.finish(loss=params["x"] ** 2 + params["y"] ** 2)
"""

THEIRS = """
import json, sys
params = json.loads(sys.argv[1])
print(params["x"] ** 2 + params["y"] ** 2)
"""


def studyflow_with_mlflow(folder: Path, n_trials: int, tracker: Tracker | None = None) -> None:
    (folder / "train.py").write_text(OURS)
    spec = StudySpec.from_mapping(
        {
            "name": "overhead",
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "search_space": {
                "x": {"type": "float", "low": -1, "high": 1},
                "y": {"type": "float", "low": -1, "high": 1},
            },
            "sampler": {"type": "random", "seed": 0},
            "budget": {"n_trials": n_trials, "max_parallel_trials": 2},
            "trial": {"command": ["python", "train.py"]},
        }
    )
    settings = Settings.resolve(home=folder / "home", environment={})
    context = StudyContext(spec, settings, tracker=tracker)
    result = run_study(context, Observer(), RunOptions(folder))
    assert len(result.data.complete) == n_trials


def studyflow_alone(folder: Path, n_trials: int) -> None:
    studyflow_with_mlflow(folder, n_trials, MemoryTracker())


def optuna_with_subprocess(folder: Path, n_trials: int) -> None:
    script = folder / "train.py"
    script.write_text(THEIRS)

    def objective(trial: optuna.Trial) -> float:
        params = {name: trial.suggest_float(name, -1, 1) for name in ("x", "y")}
        command = [sys.executable, str(script), json.dumps(params)]
        return float(subprocess.run(command, check=True, capture_output=True).stdout)

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=n_trials, n_jobs=2)


def measure(run: Callable[[Path, int], None], n_trials: int) -> float:
    """Return milliseconds per trial, wall clock."""
    with tempfile.TemporaryDirectory() as name:
        begin = time.perf_counter()
        run(Path(name), n_trials)
        return 1000 * (time.perf_counter() - begin) / n_trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    n_trials = parser.parse_args().trials
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(f"{n_trials} trials that return at once, two at a time")
    peer = measure(optuna_with_subprocess, n_trials)
    print(f"{'optuna_with_subprocess':24} {peer:7.1f} ms a trial")
    for run in (studyflow_alone, studyflow_with_mlflow):
        ours = measure(run, n_trials)
        print(
            f"{run.__name__:24} {ours:7.1f} ms a trial  {ours / peer:5.2f} ×  "
            f"{ours - peer:+7.1f} ms"
        )


if __name__ == "__main__":
    main()
