"""Arguments of `BoTorchSampler` that do not fit together, all named at once."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from studyflow.samplers.arguments import check_device, check_space

SPACE: dict[str, BaseDistribution] = {
    "kind": CategoricalDistribution(("adam", "sgd")),
    "layers": IntDistribution(1, 4),
    "lr": FloatDistribution(1e-4, 1e-1, log=True),
    "dropout": FloatDistribution(0.0, 0.5, step=0.1),
    "fixed": FloatDistribution(0.3, 0.3),
    "momentum": FloatDistribution(0.0, 0.9),
}


@pytest.mark.parametrize(
    ("space", "conditions"),
    [
        (None, None),
        (None, {}),
        ({}, None),
        (SPACE, None),
        (SPACE, {}),
        (SPACE, {"momentum": {"kind": ("sgd",)}}),
        (SPACE, {"momentum": {"kind": ("sgd", "adam"), "layers": (1, 2)}}),
        (SPACE, {"momentum": {"dropout": (0.1, 0.2)}}),
        (SPACE, {"momentum": {"fixed": (0.3,)}}),
        (SPACE, {"momentum": {"kind": ("sgd",)}, "lr": {"layers": (4,)}}),
    ],
)
def test_a_space_and_conditions_that_fit_are_taken(space: Any, conditions: Any) -> None:
    check_space(space, conditions)


@pytest.mark.parametrize(
    ("space", "conditions", "lines"),
    [
        (
            None,
            {"momentum": {"kind": ("sgd",)}},
            ["conditions: need search_space, which declares the parameters they are about."],
        ),
        (
            SPACE,
            {"beta": {"kinds": ("sgd",)}},
            [
                "conditions.beta: 'beta' is not in search_space.",
                "conditions.beta: 'kinds' is not in search_space.",
            ],
        ),
        (
            SPACE,
            {"momentum": {"lr": (0.01,)}},
            [
                (
                    "conditions.momentum: parent 'lr' must have countable values, but is a "
                    "continuous float."
                )
            ],
        ),
        (
            SPACE,
            {"momentum": {"kind": ("sgd", "rmsprop")}, "lr": {"layers": (0, 4)}},
            [
                (
                    "conditions.momentum.kind: each value must be one of ['adam', 'sgd'], but got "
                    "['rmsprop']."
                ),
                "conditions.lr.layers: each value must be in its range, but got [0].",
            ],
        ),
    ],
)
def test_every_problem_is_a_line(space: Any, conditions: Any, lines: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        check_space(space, conditions)
    assert str(caught.value).split("\n") == lines


def test_a_value_that_a_single_valued_parent_never_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"momentum\.fixed: each value must be in its range"):
        check_space(SPACE, {"momentum": {"fixed": (0.3, 0.4)}})


def test_conditions_in_a_circle_are_refused() -> None:
    circle: Any = {"kind": {"layers": (1,)}, "layers": {"kind": ("sgd",)}}
    with pytest.raises(ValueError, match=r"^conditions: "):
        check_space(SPACE, circle)


def test_a_processor_needs_no_torch_and_an_unknown_device_says_why() -> None:
    check_device("cpu")
    with pytest.raises(ValueError, match="device: 'abacus' cannot be used here"):
        check_device("abacus")
