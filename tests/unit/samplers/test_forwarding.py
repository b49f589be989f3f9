"""A forwarding sampler changes nothing, and forwards every method of Optuna's interface."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from studyflow.samplers.forwarding import ForwardingSampler


def suggestions(sampler: optuna.samplers.BaseSampler) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: t.suggest_float("x", 0, 1) * t.suggest_int("n", 1, 9), n_trials=14)
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("make", [optuna.samplers.TPESampler, optuna.samplers.NSGAIISampler])
def test_suggestions_are_those_of_the_other_sampler(make: Any) -> None:
    assert suggestions(ForwardingSampler(make(seed=3))) == suggestions(make(seed=3))


def test_no_method_of_the_interface_is_missing() -> None:
    public = {name for name in vars(optuna.samplers.BaseSampler) if not name.startswith("_")}

    assert public <= set(vars(ForwardingSampler)), "a new method would not reach the sampler"
