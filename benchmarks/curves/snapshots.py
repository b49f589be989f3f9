"""Learning curves of a study as it stands at one moment, drawn from families of known shape.

Each family is a formula with parameters of its own; no two share more than the objective of the
asymptotes. The `tune` half is what the model was made on. The `report` half has other formulas and
is looked at to report a number, not to choose one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from studyflow.samplers.arrays import FloatArray, IntArray

Half = Literal["tune", "report"]
DIMENSION: Final = 4
Draw = Callable[[float, Sequence[float], FloatArray, np.random.Generator], FloatArray]
"""(asymptote, x, step / steps, randomness) to one curve, all of one trial; smaller is better."""


@dataclass(frozen=True)
class Snapshot:
    """A study at one moment, and how its trials would have ended."""

    features: FloatArray
    """Parameters in the unit cube, `n x d`."""
    curves: FloatArray
    """What each trial would report, `n x steps`; NaN where its training has diverged."""
    reported: IntArray
    """How many steps of it are known, `n`."""


def draw_objective(generator: np.random.Generator) -> Callable[[FloatArray], FloatArray]:
    """Return a smooth function of the unit cube, about 0 at its best and 1 on average."""
    optimum = 0.2 + 0.6 * generator.random(DIMENSION)
    weights = generator.dirichlet(np.ones(DIMENSION)) * 6.0
    phase, strength = generator.random() * 6.0, 0.15

    def value(x: FloatArray) -> FloatArray:
        bowl = ((x - optimum) ** 2 * weights).sum(axis=-1)
        wave = strength * np.sin(5.0 * x[..., 0] + 3.0 * x[..., 1] + phase)
        return np.asarray(np.sqrt(bowl + 0.01) + wave)

    return value


def _power(a: float, x: Sequence[float], s: FloatArray, g: np.random.Generator) -> FloatArray:
    rate = 0.4 + 1.2 * x[1]
    amount = (0.3 + x[2]) * math.exp(0.2 * g.standard_normal())
    return a + amount * (s * 27) ** -rate + 0.01 * g.standard_normal(s.shape)


def _exponential(a: float, x: Sequence[float], s: FloatArray, g: np.random.Generator) -> FloatArray:
    rate = math.exp(0.5 + 2.0 * x[0] + 0.2 * g.standard_normal())
    return a + 1.5 * np.exp(-rate * s) + 0.01 * g.standard_normal(s.shape)


def _crossing(a: float, _: Sequence[float], s: FloatArray, g: np.random.Generator) -> FloatArray:
    """Fast learners end worse: the rate falls with what the asymptote is good for."""
    rate = 2.0 + 6.0 * min(max(a, 0.0), 1.5)
    return a + 2.0 * np.exp(-rate * s) + 0.01 * g.standard_normal(s.shape)


def _late(a: float, x: Sequence[float], s: FloatArray, g: np.random.Generator) -> FloatArray:
    middle = 0.1 + 0.4 * x[2] + 0.05 * g.standard_normal()
    drop = 1.0 / (1.0 + np.exp((s - middle) / 0.05))
    return a + 1.5 * drop + 0.01 * g.standard_normal(s.shape)


def _noisy(a: float, x: Sequence[float], s: FloatArray, g: np.random.Generator) -> FloatArray:
    return a + (0.2 + x[1]) * np.exp(-4.0 * s) + 0.12 * g.standard_normal(s.shape)


def _diverging(a: float, x: Sequence[float], s: FloatArray, g: np.random.Generator) -> FloatArray:
    curve = a + 0.6 * (s * 27) ** -0.7 + 0.01 * g.standard_normal(s.shape)
    if x[0] + 0.1 * g.standard_normal() > 0.85:
        curve = curve + 0.2 * np.expm1(8.0 * np.clip(s - 0.3 * g.random(), 0.0, None))
    return curve


def _shifted_power(
    a: float, x: Sequence[float], s: FloatArray, g: np.random.Generator
) -> FloatArray:
    shift, rate = 0.5 + 4.0 * x[3], 0.5 + x[0] * 0.8
    level = math.pow(1.0 + shift, rate)
    return a + 0.8 * level * (s * 27 + shift) ** -rate + 0.015 * g.standard_normal(s.shape)


def _two_rates(a: float, x: Sequence[float], s: FloatArray, g: np.random.Generator) -> FloatArray:
    fast, slow = 10.0 + 20.0 * x[1], 1.0 + 3.0 * x[2]
    return a + 1.2 * np.exp(-fast * s) + 0.5 * np.exp(-slow * s) + 0.01 * g.standard_normal(s.shape)


def _crossing_powers(
    a: float, x: Sequence[float], s: FloatArray, g: np.random.Generator
) -> FloatArray:
    rate = 0.3 + 0.9 * x[3]
    return a - 0.5 * rate + 1.2 * (s * 27) ** (-1.2 + rate) + 0.01 * g.standard_normal(s.shape)


def _plateau(a: float, _: Sequence[float], s: FloatArray, g: np.random.Generator) -> FloatArray:
    start = 0.05 + 0.35 * g.random()
    learnt = np.clip(s - start, 0.0, None)
    return a + 1.2 * np.exp(-8.0 * learnt) + 0.01 * g.standard_normal(s.shape)


def _rough(a: float, x: Sequence[float], s: FloatArray, g: np.random.Generator) -> FloatArray:
    """Noise of each trial's own size, half of it carried on from step to step."""
    size = 0.04 + 0.1 * x[2]
    noise = g.standard_normal(s.shape)
    for i in range(1, len(s)):
        noise[i] = 0.5 * noise[i - 1] + math.sqrt(0.75) * noise[i]
    return a + 0.7 * (s * 27) ** -0.8 + size * noise


def _lost(a: float, _: Sequence[float], s: FloatArray, g: np.random.Generator) -> FloatArray:
    """One in eight is lost at a random step, from where it reports NaN or a large number."""
    curve = a + 1.0 * np.exp(-5.0 * s) + 0.01 * g.standard_normal(s.shape)
    if g.random() < 0.125:
        curve[int(len(s) * g.random()) :] = math.nan if g.random() < 0.5 else 50.0
    return curve


FAMILIES: Final[dict[str, tuple[Half, Draw]]] = {
    "power": ("tune", _power),
    "exponential": ("tune", _exponential),
    "crossing": ("tune", _crossing),
    "late": ("tune", _late),
    "noisy": ("tune", _noisy),
    "diverging": ("tune", _diverging),
    "shifted-power": ("report", _shifted_power),
    "two-rates": ("report", _two_rates),
    "crossing-powers": ("report", _crossing_powers),
    "plateau": ("report", _plateau),
    "rough": ("report", _rough),
    "lost": ("report", _lost),
}


def draw_snapshot(
    family: str, seed: int, *, n_trials: int = 40, n_finished: int = 8, steps: int = 50
) -> Snapshot:
    """Return a study in which the better half at each look went on to about twice the steps.

    Args:
        family: A name of `FAMILIES`.
        seed: Decides objective, trials and noise.
        n_trials: All trials.
        n_finished: How many of them have gone to their end, at least 3.
        steps: The steps of a whole training.
    """
    _, draw = FAMILIES[family]
    generator = np.random.default_rng([seed, list(FAMILIES).index(family)])
    quality = draw_objective(generator)
    features = generator.random((n_trials, DIMENSION))
    share = np.arange(1, steps + 1) / steps
    curves = np.stack([draw(float(quality(x)), x.tolist(), share, generator) for x in features])
    reported = np.ones(n_trials, dtype=np.int64)
    # The first few trials of a study go to their end whatever they report.
    reported[:3] = steps
    going = np.arange(3, n_trials)
    step = 1
    while step < steps and len(going):
        scores = np.nan_to_num(curves[going, step - 1], nan=1e9)
        share_kept = ((n_finished - 3) / (n_trials - 3)) ** (1.0 / math.log2(steps))
        n_kept = max(round(len(going) * share_kept), n_finished - 3)
        going = going[np.argsort(scores + 0.1 * generator.random(len(going)))[:n_kept]]
        step = min(max(step + 1, round(step * 2 * (0.8 + 0.4 * generator.random()))), steps)
        reported[going] = step
    reported[going[: n_finished - 3]] = steps
    return Snapshot(features, curves, reported)
