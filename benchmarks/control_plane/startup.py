"""What `studyflow run` costs around its trials, beside Optuna and MLflow called by hand.

In a home that was used before, so that the databases are there.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.control_plane.measures import Row, spent_by

STUDY = """
name: {name}
objectives: [{{metric: loss, direction: minimize}}]
search_space: {{x: {{type: float, low: -1, high: 1}}}}
sampler: {{type: random, seed: 0}}
budget: {{n_trials: {n_trials}, max_parallel_trials: 2}}
trial: {{command: [python, train.py]}}
"""

SCRIPT = """
from studyflow import sdk
params = sdk.current_trial().params
sdk.finish(loss=params["x"] ** 2)
"""

PEER = """
import json, subprocess, sys
import mlflow, optuna
from optuna.storages.journal import JournalFileBackend

optuna.logging.set_verbosity(optuna.logging.WARNING)
storage = optuna.storages.JournalStorage(JournalFileBackend("peer.journal"))
study = optuna.create_study(study_name="peer", storage=storage, load_if_exists=True)
mlflow.set_tracking_uri("sqlite:///peer.db")

def objective(trial):
    x = trial.suggest_float("x", -1, 1)
    with mlflow.start_run(nested=True):
        mlflow.log_params(trial.params)
        script = "import json, sys; print(json.loads(sys.argv[1]) ** 2)"
        done = subprocess.run([sys.executable, "-c", script, json.dumps(x)], capture_output=True)
        mlflow.log_metric("loss", float(done.stdout))
    return float(done.stdout)

with mlflow.start_run(run_name="peer"):
    study.optimize(objective, n_trials=int(sys.argv[1]))
"""


def write_study(folder: Path, name: str, n_trials: int) -> Path:
    """Return the path of a study file whose trials return at once."""
    (folder / "train.py").write_text(SCRIPT)
    file = folder / f"{name}.yaml"
    file.write_text(STUDY.format(name=name, n_trials=n_trials))
    return file


def run_study(folder: Path, file: Path) -> list[str]:
    """Return the command that runs a study in the folder's home."""
    return [
        *(sys.executable, "-m", "studyflow", "run", str(file)),
        *("--home", str(folder / "home")),
    ]


def rows(*, is_quick: bool) -> Iterator[Row]:
    times = 1 if is_quick else 3
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def least(commands: Sequence[Sequence[str]]) -> float:
            return min(spent_by(command, folder).cpu_seconds for command in commands)

        def by_hand(n_trials: int) -> list[str]:
            return [sys.executable, "-c", PEER, str(n_trials)]

        finished = run_study(folder, write_study(folder, "finished", 3))
        for command in (finished, by_hand(3)):
            spent_by(command, folder)
        again, nothing = least([finished] * times), least([by_hand(0)] * times)
        yield Row("run of a finished study", again, "s CPU", nothing, "by hand")
        new = [run_study(folder, write_study(folder, f"new-{i}", 1)) for i in range(times)]
        yield Row("run of 1 trial", least(new), "s CPU", least([by_hand(1)] * times), "by hand")
