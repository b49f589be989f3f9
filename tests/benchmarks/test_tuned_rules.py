"""Rules of the sampler that measurement decided, on the tune half (docs/sampler-comparison.md)."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest

from studyflow.samplers.botorch import BoTorchSampler
from studyflow.samplers.models.hyperparameters import lengthscale_prior
from studyflow.samplers.outcome_transforms import diverged


@pytest.mark.parametrize(("dimension", "scale"), [(1, 1.732), (2, 1.732), (4, 1.225), (12, 1.027)])
def test_the_lengthscales_prior_narrows_with_the_dimension_about_the_same_mode(
    dimension: int, scale: float
) -> None:
    location, spread = lengthscale_prior(dimension)

    assert spread == pytest.approx(scale, abs=1e-3)
    assert math.exp(location - spread**2) == pytest.approx(0.2047 * math.sqrt(dimension), rel=1e-3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 2.0, 3.0, 4.0, 1e4, 1e4], [0, 0, 0, 0, 1, 1]),  # a code for failure
        ([1.0, 2.0, 3.0, 4.0, 1e4], [0, 0, 0, 0, 0]),  # may be a measurement: it is alone
        ([1.0, 2.0, 3.0, 4.0, 5.0, 5.0], [0, 0, 0, 0, 0, 0]),  # repeated, but not far
        ([1.0, 2.0, math.inf, math.nan, 1e200], [0, 0, 1, 1, 1]),
        ([1.0, 1.0, 1.0], [0, 0, 0]),
        ([math.nan, math.nan], [1, 1]),
    ],
)
def test_diverged_values_are_told_from_bad_ones(values: list[float], expected: list[int]) -> None:
    assert diverged(np.array(values), maximize=False).tolist() == [bool(e) for e in expected]
    assert diverged(-np.array(values), maximize=True).tolist() == [bool(e) for e in expected]


def test_a_trial_that_diverged_by_chance_near_the_optimum_does_not_fence_it_off() -> None:
    study = optuna.create_study(sampler=BoTorchSampler(seed=0))

    def objective(trial: optuna.Trial) -> float:
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        value = (x - 0.3) ** 2 + (y - 0.6) ** 2
        return 1e4 if trial.number in (5, 9, 12) else value

    study.optimize(objective, n_trials=20)

    assert study.best_value < 1e-3
