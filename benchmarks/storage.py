"""Embedded storage: SQLite beside Optuna's journal, for one writer and thousands of trials.

Each trial is what a study writes for it: ask with 7 parameters, 3 attributes, 5 reports, tell.
Then a fresh process-like reader opens the storage and lists all trials, as a restarted runner does.

    python benchmarks/storage.py [--trials 2000]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import optuna

DISTRIBUTIONS: dict[str, optuna.distributions.BaseDistribution] = {
    f"x{i}": optuna.distributions.FloatDistribution(0.0, 1.0) for i in range(7)
}


def journal(folder: Path) -> optuna.storages.BaseStorage:
    from studyflow.storage import open_storage

    return open_storage(f"journal:///{folder / 'study.journal'}")


def sqlite(folder: Path) -> optuna.storages.BaseStorage:
    return optuna.storages.RDBStorage(f"sqlite:///{folder / 'study.db'}")


def measure(make: Callable[[Path], optuna.storages.BaseStorage], n_trials: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sampler = optuna.samplers.RandomSampler(seed=0)
        study = optuna.create_study(study_name="benchmark", storage=make(folder), sampler=sampler)
        begin = time.perf_counter()
        for _ in range(n_trials):
            trial = study.ask(DISTRIBUTIONS)
            for key in ("attempt", "cause", "run_id"):
                trial.set_user_attr(key, "value")
            for step in range(5):
                trial.report(0.5, step)
            study.tell(trial, 0.5)
        writing = time.perf_counter() - begin
        begin = time.perf_counter()
        reader = optuna.load_study(
            study_name=study.study_name, storage=make(folder), sampler=sampler
        )
        n_read = len(reader.get_trials(deepcopy=False))
        reading = time.perf_counter() - begin
        assert n_read == n_trials
        size = sum(f.stat().st_size for f in folder.iterdir()) / 2**20
        print(
            f"{make.__name__:8} {1000 * writing / n_trials:7.1f} ms a trial   "
            f"reopened in {reading:5.2f} s   {size:6.1f} MiB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000)
    n_trials = parser.parse_args().trials
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(f"{n_trials} trials")
    for make in (journal, sqlite):
        measure(make, n_trials)


if __name__ == "__main__":
    main()
