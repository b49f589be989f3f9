"""Compare an SEIRD epidemic with reported cases and deaths, under a study or alone.

One trial is one evaluation: seven parameters in, the distance between model and data out. The model
is written once, with plain arithmetic: `gradients.py` runs the same lines on complex numbers and
on torch's tensors. Needs nothing but studyflow.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from studyflow import sdk

POPULATION = 10_000_000.0
FIRST_INFECTED = 200.0
"""On day 0, when none has recovered or died; as many again are in incubation."""

FITTED_DAYS = 20
"""The loss looks at the last so many days, and at the newest most: day i before the last counts
1 / (i + 1)."""

DATA = Path(__file__).with_name("cases.csv")


@dataclass(frozen=True)
class Parameters:
    """What is fitted; the defaults are where fits begin."""

    r0: float = 1.8
    """People that one infects, at first."""
    fatality: float = 0.04
    """Share of the infected that dies."""
    k: float = 2.0
    """How suddenly measures take effect."""
    midpoint: float = 20.0
    """Day by which half of the effect is there: L."""
    r_end: float = 1.0
    """People that one infects in the end."""
    recovery: float = 15.0
    """Days from the onset to recovery or death."""
    incubation: float = 4.9
    """Days from infection to the onset."""


BOUNDS = {
    "r0": (0.0, 6.49),
    "fatality": (0.01, 0.15),
    "k": (0.0, 5.0),
    "midpoint": (0.0, 200.0),
    "r_end": (0.0, 6.49),
    "recovery": (3.48, 18.0),
    "incubation": (4.9, 5.9),
}


class Course(NamedTuple):
    """Numbers by day, from day 0."""

    cases: list[Any]
    """Cumulative: infected, recovered and dead."""
    deaths: list[Any]
    """Cumulative."""


FLOATS = SimpleNamespace(log=math.log, exp=math.exp, log1p=math.log1p)
"""The functions that the model needs; `gradients.py` has those of other kinds of numbers."""

Vector = Sequence[Any]


def transmission(day: float, parameters: Vector, of: Any = FLOATS) -> Any:
    """Return how many people one infects on a day: R0 at first, R_end in the end, k sets how fast.

    Divided by the days that one is infectious.
    """
    r0, _, k, midpoint, r_end, recovery, _ = parameters
    # The bounds include k = 0 and L = 0, and the first day is 0. A moment added to both days leaves
    # the power and its derivatives finite there; elsewhere it is far below the data's rounding.
    moment = 1e-6
    passed = of.exp(k * of.log((day + moment) / (midpoint + moment)))
    return ((r0 - r_end) / (1 + passed) + r_end) / recovery


def simulate(parameters: Vector, n_days: int, of: Any = FLOATS) -> Course:
    """Return the course of an epidemic: SEIRD by the Runge-Kutta method of order 4, a step a day.

    Args:
        parameters: In the order of `Parameters`, of any kind of number.
        n_days: Days, day 0 included.
        of: The functions for this kind of number.
    """
    fatality, recovery, incubation = parameters[1], parameters[5], parameters[6]

    def slope(state: tuple[Any, ...], rate: Any) -> tuple[Any, ...]:
        susceptible, exposed, infected = state[:3]
        infections = rate * infected * (susceptible / POPULATION)
        onsets = exposed / incubation
        ends = infected / recovery
        return (
            -infections,
            infections - onsets,
            onsets - ends,
            (1 - fatality) * ends,
            fatality * ends,
        )

    def step(state: tuple[Any, ...], change: tuple[Any, ...], days: float) -> tuple[Any, ...]:
        return tuple(s + days * c for s, c in zip(state, change, strict=True))

    state: tuple[Any, ...] = (
        POPULATION - 2 * FIRST_INFECTED,
        FIRST_INFECTED,
        FIRST_INFECTED,
        0.0,
        0.0,
    )
    course = Course([], [])
    rate = transmission(0.0, parameters, of)
    for day in range(n_days):
        _, _, infected, recovered, dead = state
        course.cases.append(infected + recovered + dead)
        course.deaths.append(dead)
        half = transmission(day + 0.5, parameters, of)
        whole = transmission(day + 1.0, parameters, of)
        a = slope(state, rate)
        b = slope(step(state, a, 0.5), half)
        c = slope(step(state, b, 0.5), half)
        d = slope(step(state, c, 1.0), whole)
        state = tuple(
            s + (p + 2 * q + 2 * r + t) / 6 for s, p, q, r, t in zip(state, a, b, c, d, strict=True)
        )
        rate = whole
    return course


def loss(parameters: Vector, data: Course, of: Any = FLOATS) -> Any:
    """Return the mean of two mean squared errors of log(1 + n): of the cases and of the deaths."""
    course = simulate(parameters, len(data.cases), of)
    weights = [1 / (i + 1) for i in range(FITTED_DAYS)]

    def error(model: Vector, reported: Vector) -> Any:
        return sum(
            weight * (of.log1p(model[-1 - i]) - math.log1p(reported[-1 - i])) ** 2
            for i, weight in enumerate(weights)
        ) / sum(weights)

    return (error(course.cases, data.cases) + error(course.deaths, data.deaths)) / 2


def load_data(path: Path = DATA) -> Course:
    """Return what was reported, cumulative, by day."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return Course([float(row["cases"]) for row in rows], [float(row["deaths"]) for row in rows])


def main() -> None:
    trial = sdk.current_trial(defaults=asdict(Parameters()))
    params: dict[str, Any] = trial.params
    value = loss(list(asdict(Parameters(**params)).values()), load_data())
    # A study models the logarithm: the loss spans five decades, and near the best it is flat.
    sdk.finish(loss=value, log10_loss=math.log10(value))


if __name__ == "__main__":
    main()
