"""Objectives of known optimum, each in one family and one half of the suite.

The sampler was tuned on the half `tune` and is compared on the half `report`; the split is by name
and never changes. All are minimised.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Literal, Protocol

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

Family = Literal["numeric", "mixed", "conditional", "noisy", "diverging", "sklearn", "branches"]
Half = Literal["tune", "report"]
Params = dict[str, Any]

DIVERGED: Final = 1e4
"""What a diverged training reports, when it reports a number at all."""
N_SCALE_POINTS: Final = 400


class Trial(Protocol):
    """The part of `optuna.Trial` that suggests."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return a number of the range."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Return an integer of the range."""
        ...

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Return one of the choices."""
        ...


class RandomTrial:
    """A uniform draw of each parameter, logarithmic where the range is."""

    # ruff: noqa: ARG002  (a random value does not depend on the parameter's name)

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return a number of the range."""
        if log:
            return math.exp(self._generator.uniform(math.log(low), math.log(high)))
        return float(self._generator.uniform(low, high))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Return an integer of the range."""
        if log:
            number = math.exp(self._generator.uniform(math.log(low - 0.5), math.log(high + 0.5)))
            return min(max(round(number), low), high)
        return int(self._generator.integers(low, high + 1))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Return one of the choices."""
        return choices[int(self._generator.integers(len(choices)))]


@dataclass(frozen=True)
class Problem:
    """One objective."""

    name: str
    family: Family
    half: Half
    suggest: Callable[[Trial], Params]
    compute: Callable[[Params], float]
    """The true value; infinite where training crashes."""
    optimum: float
    """The least true value; of a real training the least ever found."""
    best_params: Params | None = None
    """Where the optimum is, if that is known."""
    noise_sd: float = 0.0
    """Deviation of a measurement from the true value."""
    divergence_rate: float = 0.0
    """Share of trials that diverge whatever their parameters."""
    known_scale: float | None = None
    """The scale, where it costs too much to compute each time."""

    def measure(self, params: Params, generator: np.random.Generator) -> tuple[float, float]:
        """Return what the trial reports and the true value it stands for.

        A diverged trial has the true value infinity: it found nothing, however good the parameters.
        """
        diverges = generator.random() < self.divergence_rate
        reports_inf = generator.random() < 0.3
        noise = self.noise_sd * float(generator.standard_normal())
        true = self.compute(params)
        if diverges or math.isinf(true):
            return (math.inf if reports_inf else DIVERGED), math.inf
        return true + noise, true

    @cached_property
    def space(self) -> dict[str, BaseDistribution]:
        """The union of the parameters of many random points."""
        trial = _SpaceTrial(np.random.default_rng(0))
        for _ in range(N_SCALE_POINTS):
            self.suggest(trial)
        return trial.asked

    @cached_property
    def scale(self) -> float:
        """Median regret of a random point: the unit in which regret is negligible or not."""
        if self.known_scale is not None:
            return self.known_scale
        values = np.array(random_values(self, N_SCALE_POINTS, seed=0))
        return float(np.median(values[np.isfinite(values)])) - self.optimum


class _SpaceTrial(RandomTrial):
    """A random draw that remembers what it was asked for."""

    def __init__(self, generator: np.random.Generator) -> None:
        super().__init__(generator)
        self.asked: dict[str, BaseDistribution] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return a number of the range."""
        self.asked[name] = FloatDistribution(low, high, log=log)
        return super().suggest_float(name, low, high, log=log)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Return an integer of the range."""
        self.asked[name] = IntDistribution(low, high, log=log)
        return super().suggest_int(name, low, high, log=log)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Return one of the choices."""
        self.asked[name] = CategoricalDistribution(choices)
        return super().suggest_categorical(name, choices)


def random_values(problem: Problem, count: int, *, seed: int) -> list[float]:
    """Return the true values of random points."""
    trial = RandomTrial(np.random.default_rng(seed))
    return [problem.compute(problem.suggest(trial)) for _ in range(count)]


# ---------------------------------------------------------------------------- numeric


def _box(
    name: str,
    half: Half,
    function: Callable[[np.ndarray[Any, np.dtype[np.float64]]], float],
    ranges: list[tuple[float, float]],
    best: list[float],
    optimum: float,
) -> Problem:
    names = [f"x{i}" for i in range(len(ranges))]

    def suggest(trial: Trial) -> Params:
        return {
            n: trial.suggest_float(n, low, high)
            for n, (low, high) in zip(names, ranges, strict=True)
        }

    def compute(params: Params) -> float:
        return function(np.array([params[n] for n in names]))

    params = dict(zip(names, best, strict=True))
    return Problem(name, "numeric", half, suggest, compute, optimum, params)


def bowl(x: Any) -> float:
    """Return the squared distance to (1, 0): what a newcomer tries first."""
    return float((x[0] - 1) ** 2 + x[1] ** 2)


def branin(x: Any) -> float:
    """Return Branin's function."""
    a, b = x
    curve = b - 5.1 / (4 * math.pi**2) * a**2 + 5 / math.pi * a - 6
    return float(curve**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a) + 10)


_HARTMANN_A: Final = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_HARTMANN_P: Final = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann6(x: Any) -> float:
    """Return Hartmann's function of six parameters."""
    inner = (_HARTMANN_A * (x - _HARTMANN_P) ** 2).sum(axis=1)
    return -float(np.array([1.0, 1.2, 3.0, 3.2]) @ np.exp(-inner))


def rosenbrock(x: Any) -> float:
    """Return Rosenbrock's function."""
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


def ackley(x: Any) -> float:
    """Return Ackley's function, its optimum moved off the centre of the box to 1.5."""
    x = x - 1.5
    bowl = -20 * math.exp(-0.2 * math.sqrt(float((x**2).mean())))
    return bowl - math.exp(float(np.cos(2 * math.pi * x).mean())) + 20 + math.e


def levy(x: Any) -> float:
    """Return Levy's function."""
    w = 1 + (x - 1) / 4
    middle = (w[:-1] - 1) ** 2 * (1 + 10 * np.sin(math.pi * w[:-1] + 1) ** 2)
    last = (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)
    return float(math.sin(math.pi * w[0]) ** 2 + middle.sum() + last)


def styblinski_tang(x: Any) -> float:
    """Return the function of Styblinski and Tang."""
    return float(0.5 * (x**4 - 16 * x**2 + 5 * x).sum())


def camel(x: Any) -> float:
    """Return the six-hump camel function: two best hills of six."""
    a, b = x
    return float((4 - 2.1 * a**2 + a**4 / 3) * a**2 + a * b + 4 * (b**2 - 1) * b**2)


_ST_BEST: Final = -2.903534027771177
_CAMEL_BEST: Final = [0.08984201, -0.71265640]
_HARTMANN_BEST: Final = [0.20168952, 0.15001069, 0.47687398, 0.27533243, 0.31165162, 0.65730054]


def _hills() -> list[Problem]:
    """Return functions of two and three parameters with hills of different height."""
    tang = styblinski_tang
    return [
        _box("camel", "tune", camel, [(-3, 3), (-2, 2)], _CAMEL_BEST, -1.031628453489877),
        _box("levy2", "tune", levy, [(-10, 10)] * 2, [1.0] * 2, 0.0),
        _box("levy3", "tune", levy, [(-10, 10)] * 3, [1.0] * 3, 0.0),
        _box("rosenbrock3", "tune", rosenbrock, [(-2, 3)] * 3, [1.0] * 3, 0.0),
        _box("tang2", "tune", tang, [(-5, 5)] * 2, [_ST_BEST] * 2, 2 * -39.16616570377142),
        _box("tang3", "tune", tang, [(-5, 5)] * 3, [_ST_BEST] * 3, 3 * -39.16616570377142),
    ]


def _numeric() -> list[Problem]:
    return [
        _box("bowl", "tune", bowl, [(-5, 5), (-5, 5)], [1.0, 0.0], 0.0),
        _box("branin", "tune", branin, [(-5, 10), (0, 15)], [math.pi, 2.275], 0.39788735772973816),
        _box("ackley5", "tune", ackley, [(-5, 10)] * 5, [1.5] * 5, 0.0),
        _box("levy6", "tune", levy, [(-10, 10)] * 6, [1.0] * 6, 0.0),
        _box("hartmann6", "report", hartmann6, [(0, 1)] * 6, _HARTMANN_BEST, -3.322368011415511),
        _box("rosenbrock4", "report", rosenbrock, [(-2, 3)] * 4, [1.0] * 4, 0.0),
        _box(
            "styblinski-tang5",
            "report",
            styblinski_tang,
            [(-5, 5)] * 5,
            [_ST_BEST] * 5,
            5 * -39.16616570377142,
        ),
    ]


# ---------------------------------------------------------------------------- mixed


def _mixed12(name: str, half: Half, seed: int) -> Problem:
    """Twelve parameters of every kind, two couplings, a ripple; 0 at a hidden point."""
    draw = np.random.default_rng(seed)
    best = draw.uniform(0.15, 0.85, size=8)
    weight = np.exp(draw.uniform(-1.5, 1.5, size=8))
    penalty = draw.permutation([0.0, 0.2, 0.4, 0.8])
    batch, depth = int(draw.integers(16, 200)), int(draw.integers(2, 8))
    flag = bool(draw.integers(2))

    def suggest(trial: Trial) -> Params:
        params: Params = {f"x{i}": trial.suggest_float(f"x{i}", 0, 1) for i in range(6)}
        params["lr"] = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
        params["decay"] = trial.suggest_float("decay", 1e-6, 1e-2, log=True)
        params["batch"] = trial.suggest_int("batch", 8, 512, log=True)
        params["depth"] = trial.suggest_int("depth", 1, 10)
        params["kind"] = trial.suggest_categorical("kind", ["a", "b", "c", "d"])
        params["flag"] = trial.suggest_categorical("flag", [False, True])
        return params

    def compute(params: Params) -> float:
        z = np.array(
            [params[f"x{i}"] for i in range(6)]
            + [math.log(params["lr"] / 1e-5) / math.log(1e4)]
            + [math.log(params["decay"] / 1e-6) / math.log(1e4)]
        )
        off = z - best
        size = math.log(params["batch"] / batch) / math.log(64)
        deep = (params["depth"] - depth) / 9
        kind = penalty["abcd".index(params["kind"])]
        value = float(weight @ off**2) + 2 * deep**2 + 4 * (off[6] - size) ** 2
        value += 3 * (off[0] + off[1]) ** 2 + 0.05 * float((1 - np.cos(9 * off[:3])).sum())
        return float(value + size**2 + kind * (1 + abs(off[2])) + 0.3 * (params["flag"] != flag))

    found: Params = {f"x{i}": float(best[i]) for i in range(6)}
    found["lr"], found["decay"] = 1e-5 * 1e4 ** best[6], 1e-6 * 1e4 ** best[7]
    found.update(batch=batch, depth=depth, kind="abcd"[int(penalty.argmin())], flag=flag)
    return Problem(name, "mixed", half, suggest, compute, 0.0, found)


def _categorical(name: str, half: Half, seed: int) -> Problem:
    """Six categories of three to five choices: random main effects and pairwise interactions."""
    sizes = [5, 4, 3, 4, 5, 3]
    draw = np.random.default_rng(seed)
    main = [draw.standard_normal(size) for size in sizes]
    pairs = [(i, i + 1) for i in range(0, 5, 2)]
    tables = [0.7 * draw.standard_normal((sizes[i], sizes[j])) for i, j in pairs]

    def value(indices: tuple[int, ...]) -> float:
        total = sum(float(main[i][k]) for i, k in enumerate(indices))
        crossed = zip(pairs, tables, strict=True)
        return total + sum(float(table[indices[i], indices[j]]) for (i, j), table in crossed)

    def suggest(trial: Trial) -> Params:
        return {
            f"c{i}": trial.suggest_categorical(f"c{i}", [f"v{k}" for k in range(size)])
            for i, size in enumerate(sizes)
        }

    def compute(params: Params) -> float:
        return value(tuple(int(params[f"c{i}"][1:]) for i in range(len(sizes))))

    best = min(itertools.product(*map(range, sizes)), key=value)
    params = {f"c{i}": f"v{k}" for i, k in enumerate(best)}
    return Problem(name, "mixed", half, suggest, compute, value(best), params)


def _integers(name: str, half: Half, seed: int) -> Problem:
    """Five integers and three floats on a curved valley."""
    draw = np.random.default_rng(seed)
    target = draw.integers(2, 14, size=5)
    centre = draw.uniform(0.2, 0.8, size=3)

    def suggest(trial: Trial) -> Params:
        params: Params = {f"k{i}": trial.suggest_int(f"k{i}", 0, 15) for i in range(5)}
        return params | {f"x{i}": trial.suggest_float(f"x{i}", 0, 1) for i in range(3)}

    def compute(params: Params) -> float:
        k = np.array([params[f"k{i}"] - target[i] for i in range(5)]) / 15
        x = np.array([params[f"x{i}"] - centre[i] for i in range(3)])
        valley = (k[0] - 1.5 * x[0] ** 2 - k[1]) ** 2 + (x[1] + k[2]) ** 2
        return float(5 * valley + (k**2).sum() + np.abs(x).sum() * 0.5)

    best = {f"k{i}": int(target[i]) for i in range(5)}
    best_params: Params = best | {f"x{i}": float(centre[i]) for i in range(3)}
    return Problem(name, "mixed", half, suggest, compute, 0.0, best_params)


# ---------------------------------------------------------------------------- conditional


def _optimisers(name: str, half: Half, seed: int) -> Problem:
    """Two optimisers with parameters and optima of their own; the worse bottoms out at 0.2."""
    draw = np.random.default_rng(seed)
    best = draw.uniform(0.15, 0.85, size=7)
    good = ("sgd", "adam")[int(draw.integers(2))]

    def suggest(trial: Trial) -> Params:
        params: Params = {f"s{i}": trial.suggest_float(f"s{i}", 0, 1) for i in range(3)}
        params["optimiser"] = trial.suggest_categorical("optimiser", ["sgd", "adam"])
        if params["optimiser"] == "sgd":
            params["sgd_lr"] = trial.suggest_float("sgd_lr", 1e-4, 1.0, log=True)
            params["momentum"] = trial.suggest_float("momentum", 0, 1)
        else:
            params["adam_lr"] = trial.suggest_float("adam_lr", 1e-6, 1e-2, log=True)
            params["beta"] = trial.suggest_float("beta", 0, 1)
        return params

    def compute(params: Params) -> float:
        shared = sum(2 * (params[f"s{i}"] - best[i]) ** 2 for i in range(3))
        kind = params["optimiser"]
        lr, other, at, beside = (
            (params["sgd_lr"] / 1e-4, params["momentum"], best[3], best[4])
            if kind == "sgd"
            else (params["adam_lr"] / 1e-6, params["beta"], best[5], best[6])
        )
        rate = math.log(lr) / math.log(1e4) - at
        own = 6 * rate**2 + (other - beside) ** 2 + 3 * (rate + params["s0"] - best[0]) ** 2
        return float(shared + own + (0.0 if kind == good else 0.2))

    params: Params = {f"s{i}": float(best[i]) for i in range(3)} | {"optimiser": good}
    if good == "sgd":
        params |= {"sgd_lr": 1e-4 * 1e4 ** best[3], "momentum": float(best[4])}
    else:
        params |= {"adam_lr": 1e-6 * 1e4 ** best[5], "beta": float(best[6])}
    return Problem(name, "conditional", half, suggest, compute, 0.0, params)


def _layers(name: str, half: Half, seed: int) -> Problem:
    """One to four layers, each with a width and a dropout that exist only if the layer does."""
    draw = np.random.default_rng(seed)
    depth = int(draw.integers(2, 4))
    width, drop = draw.uniform(0.2, 0.8, size=4), draw.uniform(0.1, 0.7, size=4)
    best_lr = 1e-5 * 1e4 ** float(draw.uniform(0.15, 0.85))

    def suggest(trial: Trial) -> Params:
        n = trial.suggest_int("layers", 1, 4)
        params: Params = {"layers": n, "lr": trial.suggest_float("lr", 1e-5, 1e-1, log=True)}
        for i in range(n):
            params[f"width{i}"] = trial.suggest_int(f"width{i}", 16, 512, log=True)
            params[f"drop{i}"] = trial.suggest_float(f"drop{i}", 0, 0.8)
        return params

    def compute(params: Params) -> float:
        rate = math.log(params["lr"] / best_lr) / math.log(1e4)
        value = 4 * rate**2 + 0.4 * (params["layers"] - depth) ** 2
        for i in range(params["layers"]):
            z = math.log(params[f"width{i}"] / _width(width[i])) / math.log(32)
            value += z**2 + 2 * (params[f"drop{i}"] - drop[i]) ** 2 + (z - rate) ** 2
        return float(value)

    params: Params = {"layers": depth, "lr": best_lr}
    params |= {f"width{i}": _width(width[i]) for i in range(depth)}
    params |= {f"drop{i}": float(drop[i]) for i in range(depth)}
    return Problem(name, "conditional", half, suggest, compute, 0.0, params)


def _width(position: float) -> int:
    width: int = round(16 * 32**position)
    return width


# ---------------------------------------------------------------------------- wrappers


def _noisy(base: Problem, half: Half, *, signal_to_noise: float) -> Problem:
    """Return the problem measured with noise: deviation of random points over that of the noise."""
    spread = float(np.std(random_values(base, N_SCALE_POINTS, seed=0)))
    name = f"noisy-{base.name}-snr{signal_to_noise:g}"
    return replace(base, name=name, family="noisy", half=half, noise_sd=spread / signal_to_noise)


def _diverging(base: Problem, half: Half, parameter: str, beyond: float) -> Problem:
    """Return the problem with one trial in twenty lost, and all of them beyond a bound.

    Values rise exponentially with the distance to the optimum, as losses do.
    """

    def compute(params: Params) -> float:
        if params[parameter] > beyond:
            return math.inf
        return math.exp(3.0 * (base.compute(params) - base.optimum) / base.scale) - 1.0

    return replace(
        base,
        name=f"diverging-{base.name}",
        family="diverging",
        half=half,
        compute=compute,
        optimum=0.0,
        divergence_rate=0.05,
    )


def analytic() -> dict[str, Problem]:
    """Return every problem that needs no training, by name."""
    plain = _numeric() + _hills()
    plain += [
        _mixed12("mixed12-a", "tune", 1),
        _mixed12("mixed12-b", "report", 2),
        _categorical("categorical-a", "tune", 3),
        _categorical("categorical-b", "report", 4),
        _integers("integers-a", "tune", 5),
        _integers("integers-b", "report", 6),
        _optimisers("optimisers-a", "tune", 7),
        _optimisers("optimisers-b", "report", 8),
        _layers("layers-a", "tune", 9),
        _layers("layers-b", "report", 10),
    ]
    by_name = {problem.name: problem for problem in plain}
    wrapped = [
        _diverging(by_name["mixed12-a"], "tune", "lr", 3e-2),
        _diverging(by_name["levy6"], "tune", "x0", 5.0),
        _diverging(by_name["mixed12-b"], "report", "lr", 3e-2),
        _diverging(by_name["rosenbrock4"], "report", "x0", 2.0),
        _noisy(by_name["mixed12-a"], "tune", signal_to_noise=2.0),
        _noisy(by_name["branin"], "tune", signal_to_noise=3.0),
        _noisy(by_name["mixed12-b"], "report", signal_to_noise=2.0),
        _noisy(by_name["hartmann6"], "report", signal_to_noise=1.0),
    ]
    return by_name | {problem.name: problem for problem in wrapped}


def all_problems() -> Mapping[str, Problem]:
    """Return the whole suite by name, real trainings included."""
    from benchmarks.samplers.trainings import trainings

    return analytic() | trainings()
