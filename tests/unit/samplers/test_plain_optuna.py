"""The sampler in plain Optuna, without anything else of studyflow."""

from __future__ import annotations

import optuna
import pytest

import studyflow.samplers
from studyflow.samplers import BoTorchSampler, explanation_of


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", -2, 2)
    kind = trial.suggest_categorical("kind", ["a", "b"])
    extra = trial.suggest_int("n", 1, 5) if kind == "b" else 0
    return x**2 + extra


def test_optimize_with_four_threads_draws_every_point_once_and_explains_it() -> None:
    study = optuna.create_study(sampler=BoTorchSampler(seed=0))
    study.optimize(objective, n_trials=24, n_jobs=4)
    points = [tuple(sorted(trial.params.items(), key=str)) for trial in study.trials]
    assert len(set(points)) == 24
    assert study.best_value < 0.1
    assert explanation_of(study.trials[-1]) is not None


def test_an_unknown_name_is_refused_as_by_any_module() -> None:
    with pytest.raises(AttributeError, match="no attribute 'GridSampler'"):
        _ = studyflow.samplers.GridSampler


@pytest.mark.fault("F76")
def test_it_learns_from_all_trials_under_hyperband() -> None:
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=81)
    study = optuna.create_study(sampler=BoTorchSampler(seed=0), pruner=pruner)
    study.optimize(objective, n_trials=9)

    explained = explanation_of(study.trials[-1])
    assert explained is not None
    assert explained.n_data == 8
