"""Priors: where a study begins, what the search is drawn to, and how that fades."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from scipy.optimize import approx_fprime

from studyflow.samplers.arrays import FloatArray
from studyflow.samplers.botorch import BoTorchSampler
from studyflow.samplers.prior import SpacePrior, WithPrior, power_of, space_prior
from studyflow.samplers.space.encoding import make_encoding
from studyflow.spec.prior import Prior

pytestmark = pytest.mark.usefixtures("one_thread")

optuna.logging.set_verbosity(optuna.logging.ERROR)

SPACE: Final[Mapping[str, BaseDistribution]] = {
    "batch": IntDistribution(8, 512, log=True),
    "depth": IntDistribution(1, 10),
    "drop": FloatDistribution(0.0, 0.5, step=0.1),
    "flag": CategoricalDistribution((False, True)),
    "kind": CategoricalDistribution(("adam", "sgd", "lion")),
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "momentum": FloatDistribution(0.0, 1.0),
    "size": CategoricalDistribution((16, 32, 64)),
}
PRIORS: Final = {
    "batch": Prior(good=(32, 64)),
    "depth": Prior(mean=3, sd=1),
    "drop": Prior(mean=0.1, sd=0.1),
    "flag": Prior(good=(True,)),
    "kind": Prior(good=("sgd", "lion")),
    "lr": Prior(mean=3e-4, sd=0.3),
    "momentum": Prior(good=(0.8, 0.9)),
    "size": Prior(good=(32,)),
}
CONDITIONS: Final = {"momentum": {"kind": ("sgd",)}}


def prior() -> SpacePrior:
    found = space_prior(make_encoding(SPACE, CONDITIONS), PRIORS)
    assert found is not None
    return found


def log_density(params: Mapping[str, Any]) -> float:
    encoding = prior().encoding
    features = encoding.features(encoding.encode_all([params]))
    return float(prior().log_density(features)[0][0])


BELIEVED: Final = {
    "batch": 48,
    "depth": 3,
    "drop": 0.1,
    "flag": True,
    "kind": "sgd",
    "lr": 3e-4,
    "momentum": 0.85,
    "size": 32,
}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("batch", 64, 8),
        ("depth", 4, 9),
        ("drop", 0.2, 0.5),
        ("flag", True, False),
        ("kind", "lion", "adam"),
        ("lr", 6e-4, 1e-2),
        ("momentum", 0.9, 0.2),
        ("size", 32, 64),
    ],
)
def test_a_believed_value_weighs_more_than_another(name: str, good: Any, bad: Any) -> None:
    assert log_density({**BELIEVED, name: good}) > log_density({**BELIEVED, name: bad}) + 0.5


def test_a_density_is_relative_to_the_uniform_one_and_nowhere_zero() -> None:
    unit = np.random.default_rng(0).random((4000, len(SPACE)))
    encoding = prior().encoding

    # Of a uniform draw the mean density is 1, parameter by parameter and, but for chance, of all.
    for i, axis in prior().axes.items():
        codes = encoding.from_unit(unit)[:, i]
        density = np.exp(axis.log_density(codes[~np.isnan(codes)])[0])
        assert density.mean() == pytest.approx(1.0, abs=0.1)
        assert density.min() >= 0.1 - 1e-9


def test_a_parameter_that_does_not_exist_has_no_part_in_the_density() -> None:
    without = {**BELIEVED, "kind": "lion"}
    del without["momentum"]
    momentum = space_prior(make_encoding({"momentum": SPACE["momentum"]}), PRIORS)
    assert momentum is not None
    own = float(momentum.log_density(np.array([[0.85]]))[0][0])

    assert own > 1.0
    assert log_density(BELIEVED) - log_density(without) == pytest.approx(own)
    assert log_density({**without, "momentum": 0.85}) == log_density(without)


def test_the_gradient_is_the_densitys() -> None:
    encoding = prior().encoding
    generator = np.random.default_rng(1)
    for code in encoding.from_unit(generator.random((5, len(SPACE)))):
        features = encoding.features(code[None])
        value, gradient = prior().log_density(features)
        for name in ("lr", "momentum"):
            column = int(encoding.first_columns[encoding.names.index(name)])

            def along(x: FloatArray, at: FloatArray = features, c: int = column) -> float:
                moved = at.copy()
                moved[0, c] = x[0]
                return float(prior().log_density(moved)[0][0])

            numeric = approx_fprime(features[0, [column]], along, 1e-7)
            assert gradient[0, column] == pytest.approx(numeric[0], rel=1e-3, abs=1e-4)
        assert math.isfinite(value[0])


class Flat:
    """An acquisition function that favours nothing."""

    name = "flat"

    def value(self, features: FloatArray) -> FloatArray:
        return np.zeros(len(features))

    def value_and_gradient(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        return np.zeros(len(features)), np.zeros_like(features)


def test_a_prior_multiplies_an_acquisition_function_by_a_power_of_its_density() -> None:
    encoding = prior().encoding
    features = encoding.features(encoding.encode_all([BELIEVED]))
    believed, slope = prior().log_density(features)
    acquisition = WithPrior(Flat(), prior(), 0.1)

    assert acquisition.value(features) == pytest.approx(0.1 * believed)
    value, gradient = acquisition.value_and_gradient(features)
    assert value == pytest.approx(0.1 * believed)
    assert gradient == pytest.approx(0.1 * slope)


def test_the_power_of_a_prior_fades_and_is_none_once_outcomes_speak_against_it() -> None:
    encoding = prior().encoding
    unit = np.random.default_rng(2).random((100, len(SPACE)))
    features = encoding.features(encoding.from_unit(unit))
    believed, _ = prior().log_density(features)

    assert power_of(prior(), features[:10], believed[:10]) == pytest.approx(1.0)
    assert power_of(prior(), features, believed) == pytest.approx(0.1)
    assert power_of(prior(), features, -believed) == 0.0
    assert power_of(prior(), features[:10], np.zeros(10)) == pytest.approx(1.0)  # says nothing


def sampler(**more: Any) -> BoTorchSampler:
    return BoTorchSampler(seed=0, search_space=SPACE, conditions=CONDITIONS, **more)


def run(n_trials: int, own: BoTorchSampler, best_lr: float) -> list[dict[str, Any]]:
    def objective(trial: optuna.Trial) -> float:
        for name, distribution in SPACE.items():
            if name != "momentum":
                trial._suggest(name, distribution)
        if trial.params["kind"] == "sgd":
            trial.suggest_float("momentum", 0.0, 1.0)
        return float(math.log10(trial.params["lr"] / best_lr) ** 2)

    study = optuna.create_study(sampler=own)
    study.optimize(objective, n_trials=n_trials)
    return [trial.params for trial in study.trials]


def without_redrawn(tried: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the parameters without those that the design leaves to chance."""
    return [{n: v for n, v in params.items() if n != "momentum"} for params in tried]


def test_the_start_up_begins_at_the_mode_and_is_else_as_without_a_prior() -> None:
    believed = run(9, sampler(priors=PRIORS), best_lr=3e-4)
    plain = run(9, sampler(), best_lr=3e-4)

    first = believed[0]
    assert first["lr"] == pytest.approx(3e-4, rel=0.03)
    assert first["momentum"] == pytest.approx(0.85, abs=0.01)
    assert 32 <= first["batch"] <= 64
    assert {n: first[n] for n in ("depth", "drop", "flag", "kind", "size")} == {
        n: BELIEVED[n] for n in ("depth", "drop", "flag", "kind", "size")
    }
    # The rest is none of the prior's: it is what can contradict it.
    assert without_redrawn(believed[1:]) == without_redrawn(plain[:-1])


def test_a_wrong_prior_is_outvoted() -> None:
    wrong = {"lr": {"mean": 1e-1, "sd": 0.3}}

    tried = run(24, sampler(priors=wrong), best_lr=1e-5 * 10)

    assert min(abs(math.log10(p["lr"] / 1e-4)) for p in tried) < 0.05
    assert np.median([abs(math.log10(p["lr"] / 1e-4)) for p in tried[-6:]]) < 0.5


def test_no_prior_and_priors_of_other_parameters_change_nothing() -> None:
    plain = run(11, sampler(), best_lr=3e-4)

    assert run(11, sampler(priors={}), best_lr=3e-4) == plain
    assert space_prior(make_encoding(SPACE), {"other": PRIORS["lr"]}) is None


def test_an_undeclared_space_takes_priors_too() -> None:
    def tried(**more: Any) -> list[float]:
        study = optuna.create_study(sampler=BoTorchSampler(seed=0, **more))
        study.optimize(
            lambda t: (t.suggest_float("x", 0, 1) - 0.2) ** 2 + t.suggest_int("y", 1, 9), 9
        )
        return [abs(t.params["x"] - 0.2) for t in study.trials]

    # The model's first suggestion: trial 6, or 7 after one more of the start-up.
    assert tried(priors={"x": {"mean": 0.2, "sd": 0.02}})[7] < 0.03
    assert tried()[6] > 0.1


def test_all_problems_of_priors_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"priors\.") as caught:
        sampler(
            priors={
                "lr": {"mean": 3.0, "sd": 1.0},
                "kind": {"good": ["rmsprop"]},
                "depth": {"mean": 3, "spread": 1},
                "x": {"good": [1, 2]},
            }
        )

    lines = str(caught.value).split("\n")
    assert lines[0].startswith("priors.lr: prior.mean must lie between low=1e-05 and high=0.1")
    assert lines[1].startswith("priors.kind: prior.good must name choices, but 'rmsprop' is none")
    assert [line.partition(":")[0] for line in lines[2:]] == [
        "priors.depth.spread",
        "priors.x",
    ]
