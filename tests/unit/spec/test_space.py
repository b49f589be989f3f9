from __future__ import annotations

import itertools
from typing import Any

import optuna
import pytest
from pydantic import ValidationError
from tests.optuna_values import is_accepted

from studyflow.errors import SpaceError
from studyflow.spec.conditions import condition_problems
from studyflow.spec.float_grid import FloatGrid
from studyflow.spec.parameters import CategoricalParameter, FloatParameter, IntParameter, describe
from studyflow.spec.space import SearchSpace
from studyflow.spec.values import plain


def floats(low: float, high: float, **more: Any) -> FloatParameter:
    return FloatParameter(type="float", low=low, high=high, **more)


def ints(low: int, high: int, **more: Any) -> IntParameter:
    return IntParameter(type="int", low=low, high=high, **more)


def choices(*values: Any, **more: Any) -> CategoricalParameter:
    return CategoricalParameter(type="categorical", choices=values, **more)


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


@pytest.mark.parametrize(
    ("parameter", "inside", "outside"),
    [
        (floats(0, 1), [0, 1, 0.5], [-1e-9, 1.1, True, "0.5", None, float("nan"), 10**400]),
        (floats(0, 0.3, step=0.1), [0.1, 0.2, 0.1 + 0.1, 0.3, 3 * 0.1], [0.15, 0.4]),
        (floats(0, 1, step=1 / 3), [0, 1, 1 / 3, 0.999999999999], [0.333, 1.1, True, 10**400]),
        (floats(0, 1, step=0.0909), [0.9999], [1, 1 / 11]),
        (ints(2, 9, step=3), [2, 5, 8], [9, 3, 5.0, True, "5"]),
        (choices(1, "1", None), [1, "1", None], [1.0, True, "", 0]),
    ],
)
def test_contains(parameter: Any, inside: list[Any], outside: list[Any]) -> None:
    assert [value for value in inside if not parameter.contains(value)] == []
    assert [value for value in outside if parameter.contains(value)] == []


@pytest.mark.fault("F73")
@pytest.mark.parametrize(
    ("grid", "n_steps", "last"),
    [
        (FloatGrid(0.0, 1.0, 1 / 11), 11, 1.0),  # eleven steps are a little too long
        (FloatGrid(0.0, 1.0, 1 / 3), 3, 1.0),  # three steps are a little too short
        (FloatGrid(-1.0, 1.0, 2 / 3), 3, 1.0),
        (FloatGrid(1000.0, 1001.0, 1 / 7), 7, 1001.0),
        (FloatGrid(0.0, 3 * 0.1, 0.1), 3, 3 * 0.1),
        (FloatGrid(0.8, 0.9, 0.1), 1, 0.9),  # 0.9 - 0.8 is less than 0.1 in floats
        (FloatGrid(0.0, 1e-16, 1e-17), 10, 1e-16),
        (FloatGrid(0.0, 1.0, 1 / 9999), 9999, 1.0),
        (FloatGrid(0.0, 1.0, 0.3), 3, 0.9),
        (FloatGrid(0.0, 1.0, 0.0909), 11, 0.9999),  # too few digits to be meant as 1/11
        (FloatGrid(0.0, 1.0, 2 / 3), 1, 2 / 3),
        (FloatGrid(5.0, 5.0, 0.1), 0, 5.0),
    ],
)
def test_a_grid_ends_on_its_bound_or_on_its_last_whole_step(
    grid: FloatGrid, n_steps: int, last: float
) -> None:
    assert (grid.n_steps, grid.last) == (n_steps, last)
    assert grid.is_whole == (last == grid.high)
    low, high, step = grid.optuna_range
    distribution = optuna.distributions.FloatDistribution(low, high, step=step)
    assert all(is_accepted(distribution, grid.value(index)) for index in range(grid.size))


def test_a_step_as_printed_divides_its_range_evenly() -> None:
    sevenths = FloatGrid(-1.0, 1.0, 1 / 7)

    assert sevenths.value(7) == 0.0
    assert [sevenths.value(7 + i) for i in range(8)] == [i / 7 for i in range(8)]
    assert sevenths.index(7 * (1 / 7) - 1) == 7


def test_a_grid_has_the_points_that_a_person_would_write() -> None:
    tenths = FloatGrid(0.0, 0.5, 0.1)

    assert [tenths.value(i) for i in range(6)] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert floats(0, 0.5, step=0.1).on_grid(3 * 0.1) == 0.3
    assert floats(0, 0.5, step=0.1).on_grid(0.31) == 0.31
    assert floats(0, 0.5, step=0.1).on_grid(None) is None


def test_a_domain_is_described_with_all_the_digits_that_tell_its_bounds() -> None:
    assert describe(floats(0, 0.1, step=0.05)) == "[0, 0.1] step 0.05"
    assert describe(floats(0, 1, step=1 / 11)) == "[0, 1] step 0.09090909090909091"
    assert describe(ints(1, 2**53)) == "[1, 9007199254740992]"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: floats(2, 1), "low must not be above high, but low=2 and high=1"),
        (lambda: floats(0, 1, log=True), "a log scale needs low above 0, but low=0"),
        (lambda: ints(0, 1, log=True), "a log scale needs low above 0, but low=0"),
        (lambda: ints(1, 9, log=True, step=2), "log and step exclude each other"),
        (lambda: floats(0, 1, step=2), "step must not be above high - low = 1, but step=2"),
        (lambda: floats(0, 1, step=0), "greater than 0"),
        (lambda: floats(0, 1e300, step=1e-300), "is lost in rounding"),
        (lambda: floats(-1e308, 1e308), "high - low must be a finite number"),
        (lambda: floats(0, float("inf")), "finite"),
        (lambda: ints(0, 2**53 + 1), "less than or equal to 9007199254740992"),
        (lambda: ints(True, 3), "valid integer"),
        (lambda: choices(), "at least 1"),
        (lambda: choices("a", "a"), "choices must differ, but 'a' equals 'a'"),
        (lambda: choices(1, 1.0), "choices must differ, but 1.0 equals 1"),
        (lambda: choices(True, 1), "choices must differ, but 1 equals true"),
        (lambda: choices(float("nan")), "choices must be finite, but nan is among them"),
    ],
)
@pytest.mark.fault("F48")
def test_impossible_parameters_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("(", r"\(")):
        make()


@pytest.mark.parametrize(
    ("parameters", "problems"),
    [
        ({"a": ints(0, 1, when={"a": 1})}, [("a", "a")]),
        ({"a": ints(0, 1, when={"b": 1})}, [("a", "b")]),
        ({"a": ints(0, 1, when={"b": 0.5}), "b": floats(0, 1)}, [("a", "b")]),
        ({"a": ints(0, 1, when={"b": 1.0}), "b": ints(0, 1)}, [("a", "b")]),
        ({"a": ints(0, 1, when={"b": []}), "b": ints(0, 1)}, [("a", "b")]),
        ({"a": ints(0, 1, when={"b": 1}), "b": ints(0, 1, when={"a": 1})}, [("a", "b")]),
        (
            {
                "below": ints(0, 1, when={"a": 1}),
                "a": ints(0, 1, when={"b": 1}),
                "b": ints(0, 1, when={"c": 1}),
                "c": ints(0, 1, when={"a": 1}),
            },
            [("a", "b")],
        ),
    ],
)
def test_impossible_conditions_are_named_once(
    parameters: dict[str, Any], problems: list[tuple[str, str]]
) -> None:
    assert [(p.name, p.parent) for p in condition_problems(parameters)] == problems
    with pytest.raises(SpaceError, match=problems[0][0]):
        SearchSpace(parameters)


@pytest.mark.parametrize(
    "parameter",
    [
        floats(0, 1),
        floats(1e-4, 1, log=True),
        floats(0, 1, step=0.3),  # the last step ends at 0.9
        floats(0.1, 0.7, step=0.2),
        ints(1, 10),
        ints(2, 9, step=3),
        ints(1, 1024, log=True),
        choices("a", None, 1, 0.5, False),
    ],
)
def test_optuna_knows_the_same_parameter_and_does_not_warn(parameter: Any) -> None:
    distribution = parameter.distribution()

    for unit in (0.0, 0.2, 0.5, 0.77, 1.0):
        value = parameter.from_unit(unit)
        assert is_accepted(distribution, value)
        assert parameter.contains(value)


def test_a_grid_is_counted_in_decimals() -> None:
    assert floats(0, 0.3, step=0.1).cardinality == 4
    assert floats(0.1, 0.7, step=0.2).cardinality == 4
    assert floats(0, 1, step=0.3).cardinality == 4


def test_suggest_draws_parents_first_and_nothing_inactive() -> None:
    optuna.logging.disable_default_handler()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    for _ in range(20):
        trial = study.ask()
        params = SPACE.suggest(trial)
        assert SPACE.problems(params) == ()
        assert trial.params == params
        assert SPACE.suggest(trial) == params


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        (floats(1e-4, 1e-2, log=True), "[0.0001, 0.01] log"),
        (ints(2, 9, step=3), "[2, 9] step 3"),
        (choices("a", None, True, 2), "{'a', null, true, 2}"),
    ],
)
def test_domains_are_described_in_a_few_characters(parameter: Any, text: str) -> None:
    assert describe(parameter) == text


def test_numpy_scalars_become_plain() -> None:
    numpy = pytest.importorskip("numpy")

    assert type(plain(numpy.float64(1.5))) is float
    assert type(plain(numpy.int64(2))) is int
    assert plain("a") == "a"
