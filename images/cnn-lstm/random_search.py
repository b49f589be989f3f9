"""Train random configurations of a study, one after another: what the study has to beat.

No sampler, no pruner and no runner take part: each configuration is one `python train.py`, started
with the same environment variable that a study would set.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import click

from studyflow.spec import StudySpec
from studyflow.spec.parameters import IntParameter, Parameter
from studyflow.trial import TRIAL_VARIABLE, Outcome, ParamValue, Trial

HERE = Path(__file__).parent


def draw(parameter: Parameter, rng: random.Random) -> ParamValue:
    if isinstance(parameter, IntParameter):  # every grid point alike, also the first and the last
        return rng.choice(range(parameter.low, parameter.high + 1, parameter.step))
    return parameter.from_unit(rng.random())


def run_trial(trial: Trial) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "outcome.json")
        text = replace(trial, outcome_path=str(path)).to_json()
        subprocess.run(
            [sys.executable, HERE / "train.py"],
            env={**os.environ, TRIAL_VARIABLE: text},
            cwd=folder,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return Outcome.from_json(path.read_text())


@click.command()
@click.argument("study", default=HERE / "study.yaml", type=click.Path(path_type=Path))
@click.option("--seed", default=0, help="Draws other configurations.")
def main(study: Path, seed: int) -> None:
    spec = StudySpec.from_yaml(study)
    rng = random.Random(seed)
    results = []
    for number in range(spec.budget.n_trials):
        params = {name: draw(parameter, rng) for name, parameter in spec.search_space.items()}
        started = time.monotonic()
        outcome = run_trial(Trial(spec.name, number, params, metrics=spec.metrics))
        seconds = time.monotonic() - started
        loss = outcome.metrics["val_loss"]
        results.append(loss)
        shown = " ".join(
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in params.items()
        )
        print(f"trial {number} val_loss={loss:.5f} seconds={seconds:.1f} {shown}", flush=True)
    print(f"best {min(results):.5f} of {len(results)}, median {statistics.median(results):.5f}")


if __name__ == "__main__":
    main()
