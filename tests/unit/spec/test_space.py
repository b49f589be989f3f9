"""Trees of parameters: what is active, how many points there are, what breaks a rule."""

from __future__ import annotations

import itertools
from typing import Any

import optuna
import pytest
from tests.unit.spec.spaces import choices, floats, ints

from studyflow.spec.parameters import CategoricalParameter
from studyflow.spec.space import SearchSpace

SPACE = SearchSpace(
    {
        "momentum": floats(0.5, 0.9, when={"opt": "sgd"}),
        "opt": choices("adam", "sgd"),
        "nesterov": choices(True, False, when={"opt": ["sgd"]}),
        "decay": ints(1, 3, when={"nesterov": True}),
    }
)


def brute_force(space: SearchSpace) -> int:
    """Count the points by making every one of them."""
    values = {}
    for name, parameter in space.items():
        if isinstance(parameter, CategoricalParameter):
            values[name] = list(parameter.choices)
        else:
            n = parameter.cardinality or 0
            step = parameter.step or 1
            values[name] = [parameter.low + i * step for i in range(n)]
    points = set()
    for combination in itertools.product(*values.values()):
        point = dict(zip(values, combination, strict=True))
        points.add(tuple((name, repr(point[name])) for name in space.active(point)))
    return len(points)


def test_parents_come_before_children() -> None:
    assert list(SPACE) == ["opt", "momentum", "nesterov", "decay"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"a": ints(1, 3), "b": choices("x", "y")},
        {"a": ints(1, 3), "b": ints(0, 9, step=4, when={"a": [1, 3]})},
        {"a": choices(1, 2, 3), "b": choices("x", "y", when={"a": 2}), "c": ints(0, 4)},
        {
            "a": choices("x", "y"),
            "b": choices("x", "y", when={"a": "x"}),
            "c": ints(1, 5, when={"b": "y"}),
            "d": ints(1, 7, when={"a": "y", "e": 2}),
            "e": ints(1, 3),
        },
        {
            "a": choices(None, "1", 1),
            "b": choices("x", "y", when={"a": [None, 1]}),
            "c": ints(1, 5, when={"b": "y", "a": [None]}),
            "d": floats(0, 1, step=0.25, when={"c": [2, 4]}),
        },
        {"a": ints(5, 5), "b": floats(1.0, 1.0), "c": floats(0.0, 0.3, step=0.1)},
    ],
)
def test_cardinality_is_the_number_of_different_points(parameters: dict[str, Any]) -> None:
    space = SearchSpace(parameters)

    assert space.cardinality == brute_force(space)


def test_cardinality_of_a_continuum_is_unknown() -> None:
    assert SPACE.cardinality is None
    assert SearchSpace({"a": floats(0, 1)}).cardinality is None


def test_cardinality_of_many_conditions_is_counted_at_once() -> None:
    # 40 parents with a child each: (1 + 3)^40 points, and one child of all parents.
    parameters: dict[str, Any] = {f"p{i}": choices("x", "y") for i in range(40)}
    parameters |= {f"c{i}": ints(1, 3, when={f"p{i}": "x"}) for i in range(40)}
    assert SearchSpace(parameters).cardinality == 4**40

    parents: dict[str, Any] = {f"p{i}": choices("x", "y") for i in range(40)}
    child = ints(1, 3, when=dict.fromkeys(parents, "x"))
    assert SearchSpace({**parents, "child": child}).cardinality == 2**40 + 2


def test_inactive_parameters_are_absent() -> None:
    assert SPACE.active({"opt": "adam", "momentum": 0.6}) == ("opt",)
    assert SPACE.active({"opt": "sgd", "nesterov": True}) == (
        "opt",
        "momentum",
        "nesterov",
        "decay",
    )
    assert SPACE.from_unit([0.1, 0.5, 0.5, 0.5]) == {"opt": "adam"}
    assert SPACE.to_unit({"opt": "adam"}) == [0.25, 0.5, 0.5, 0.5]


def test_problems_of_a_point() -> None:
    assert SPACE.problems({"opt": "adam"}) == ()
    assert SPACE.problems({"opt": "sgd", "momentum": 2, "decay": 1, "x": 1}) == (
        "momentum=2 is not in [0.5, 0.9]",
        "nesterov is missing",
        "decay does not exist under these values of nesterov",
        "x is not a parameter of this search space",
    )
    assert SPACE.problems({"opt": True}) == ("opt=true is not in {'adam', 'sgd'}",)


def test_suggest_draws_parents_first_and_nothing_inactive() -> None:
    optuna.logging.disable_default_handler()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    for _ in range(20):
        trial = study.ask()
        params = SPACE.suggest(trial)
        assert SPACE.problems(params) == ()
        assert trial.params == params
        assert SPACE.suggest(trial) == params
