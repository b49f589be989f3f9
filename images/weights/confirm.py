"""Try the settings that a study found on starting points that it has not seen.

    python images/weights/confirm.py [STUDY] [--starts N]

For every optimiser: its defaults and the best settings among its trials, on the same new starting
points and with the evaluations that the study gave. A study's own best value is too good, because
it is the smallest of many and was chosen on a few starting points.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from studyflow.settings import Settings
from studyflow.storage import open_storage
from studyflow.study import find_study, load_records
from studyflow.trial.record import TrialState

HERE = Path(__file__).parent
FIRST_SEED = 1000
"""Of the new starting points; studies use those from 0."""


def load_training() -> ModuleType:
    """Return `train.py` of this folder, whatever else is called so."""
    spec = importlib.util.spec_from_file_location("weights_train", HERE / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up here
    spec.loader.exec_module(module)
    return module


@click.command()
@click.argument("study", default="weights-settings")
@click.option("--starts", default=20, help="New starting points for each optimiser.")
def main(study: str, starts: int) -> None:
    """Print the losses of default and found settings on new starting points."""
    train = load_training()
    _, records = load_records(find_study(study, open_storage(Settings.resolve().storage_url)))
    done = [record for record in records if record.state is TrialState.COMPLETE]
    print("optimizer   trials  study's best  default: median, worst   found: median, worst")
    for name in train.OPTIMIZERS:
        of_name = [record for record in done if record.params["optimizer"] == name]
        if not of_name:
            continue
        best = min(of_name, key=lambda record: record.metrics["log10_loss"])
        found = train.Hyperparameters(**best.params)
        default = train.Hyperparameters(
            optimizer=name,
            max_iterations=found.max_iterations,
            max_evaluations=found.max_evaluations,
        )
        shown = [summary(train, hp, starts) for hp in (default, replace(found, n_starts=1))]
        print(
            f"{name:10}  {len(of_name):6}  {best.metrics['loss']:<12.3g}  "
            f"{shown[0]:<23}  {shown[1]}"
        )
        for setting, value in best.params.items():
            if setting.startswith(f"{name}_"):
                shown_value = f"{value:.4g}" if isinstance(value, float) else value
                print(f"    {setting}: {shown_value}")


def summary(train: ModuleType, hp: Any, starts: int) -> str:
    """Return the median and the largest loss over the new starting points."""
    seeds = range(FIRST_SEED, FIRST_SEED + starts)
    losses = [train.optimize(replace(hp, seed=seed)).best_loss for seed in seeds]
    return f"{statistics.median(losses):.3g}, {max(losses):.3g}"


if __name__ == "__main__":
    main()
