"""Make `cases.csv`: an epidemic with known parameters, reported with noise.

python images/epidemic/make_data.py
"""

from __future__ import annotations

import csv
import importlib.util
import math
import random
import sys
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
N_DAYS = 60
SEED = 0
NOISE = 0.1
"""Standard deviation of the logarithm of a day's reports: about 10 % too many or too few."""

TRUTH = {
    "r0": 3.2,
    "fatality": 0.03,
    "k": 2.5,
    "midpoint": 30.0,
    "r_end": 0.8,
    "recovery": 9.0,
    "incubation": 5.4,
}


def load_model() -> ModuleType:
    """Return `train.py` of this folder, whatever else is called so."""
    if "epidemic_model" not in sys.modules:
        spec = importlib.util.spec_from_file_location("epidemic_model", HERE / "train.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up here
        spec.loader.exec_module(module)
    return sys.modules["epidemic_model"]


def report(numbers: list[float], rng: random.Random) -> list[int]:
    """Return the cumulative numbers as they are reported: each day's own with noise, and whole."""
    reported = [round(numbers[0])]
    for before, now in pairwise(numbers):
        new = (now - before) * math.exp(rng.gauss(-(NOISE**2) / 2, NOISE))
        reported.append(reported[-1] + round(new))
    return reported


def main() -> None:
    """Write `cases.csv`."""
    model = load_model()
    course = model.simulate(list(asdict(model.Parameters(**TRUTH)).values()), N_DAYS)
    rng = random.Random(SEED)
    cases, deaths = report(course.cases, rng), report(course.deaths, rng)
    with (HERE / "cases.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["day", "cases", "deaths"])
        writer.writerows(zip(range(N_DAYS), cases, deaths, strict=True))


if __name__ == "__main__":
    main()
