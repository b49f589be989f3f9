"""Conditions learnt from which points have which parameters."""

from __future__ import annotations

from typing import Any

from optuna.distributions import (
    BaseDistribution,
    FloatDistribution,
    IntDistribution,
)

from studyflow.samplers.space.conditions import learn_conditions

from .test_encoding import TREE, TREE_CONDITIONS


def test_conditions_are_learnt_from_which_points_have_which_parameters() -> None:
    observed: list[dict[str, Any]] = [
        {"optimizer": "adam", "width": 1},
        {"optimizer": "sgd", "width": 2, "momentum": 0.9, "nesterov": True},
        {"optimizer": "sgd", "width": 2, "momentum": 0.9, "nesterov": False, "damping": 0.1},
        {"optimizer": "lion", "width": 2, "momentum": 0.9},
    ]

    assert learn_conditions(TREE, observed) == TREE_CONDITIONS


LAYERS: dict[str, BaseDistribution] = {
    "layers": IntDistribution(1, 5),
    "lr": FloatDistribution(0.0, 1.0),
    "heads": IntDistribution(1, 8),
    **{f"width{i}": IntDistribution(1, 512) for i in range(4)},
}


def layered(*layers: int) -> list[dict[str, Any]]:
    return [
        {"layers": n, "lr": 0.1, "heads": 1 + 5 * k % 8} | {f"width{i}": 7 for i in range(n)}
        for k, n in enumerate(layers)
    ]


def test_parameters_that_exist_from_a_number_of_layers_on_are_recognised() -> None:
    assert learn_conditions(LAYERS, layered(1, 2, 4, 2, 1, 4, 1, 4)) == {
        "width1": {"layers": [2, 3, 4, 5]},
        # Whether the third layer's width exists with three layers nobody has seen yet.
        "width2": {"layers": [3, 4, 5]},
        "width3": {"layers": [3, 4, 5]},
    }


def test_a_threshold_that_chance_may_have_made_is_not_believed() -> None:
    assert learn_conditions(LAYERS, layered(1, 1, 1, 1, 2)) == {}


def test_a_parameter_absent_for_no_visible_reason_is_taken_as_always_there() -> None:
    observed: list[dict[str, Any]] = [{"width": 1}, {"width": 1, "momentum": 0.9}]

    assert learn_conditions(TREE, observed) == {}
