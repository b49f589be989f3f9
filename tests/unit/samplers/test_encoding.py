"""Parameters, codes, features: exact grids, categories, conditional parameters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from studyflow.samplers.conditions import learn_conditions
from studyflow.samplers.dimension import make_dimension
from studyflow.samplers.encoding import SAME_POINT, category_distance, find_same, make_encoding

finite = st.floats(-1e6, 1e6, allow_nan=False)


@st.composite
def distributions(draw: st.DrawFn) -> BaseDistribution:
    kind = draw(st.sampled_from(["float", "log", "step", "int", "int-step", "int-log", "choice"]))
    if kind == "choice":
        scalar = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3)
        return CategoricalDistribution(draw(st.lists(scalar, min_size=1, max_size=6)))
    if kind in {"float", "log"}:
        low = draw(st.floats(1e-9, 1e3) if kind == "log" else finite)
        # Wide enough for doubles to resolve a millionth of the range.
        width = draw(st.floats(1e-6, 1e6)) + 1e-6 * abs(low)
        return FloatDistribution(low, low + width, log=kind == "log")
    if kind == "step":
        low, step = draw(st.integers(-50, 50)), draw(st.sampled_from([0.05, 0.1, 0.25, 3.0]))
        high = round(low + step * draw(st.integers(0, 200)), 10)
        return FloatDistribution(low, high, step=step)
    if kind == "int-log":
        low = draw(st.integers(1, 1000))
        return IntDistribution(low, low + draw(st.integers(0, 10**6)), log=True)
    low, step = draw(st.integers(-(10**6), 10**6)), draw(st.integers(1, 7))
    step = step if kind == "int-step" else 1
    return IntDistribution(low, low + step * draw(st.integers(0, 10**4)), step=step)


@given(distribution=distributions(), unit=st.floats(0.0, 1.0, exclude_max=True))
@settings(deadline=None)
def test_any_position_decodes_to_a_plain_value_that_encodes_to_the_same_point(
    distribution: BaseDistribution, unit: float
) -> None:
    dimension = make_dimension("p", distribution)
    if dimension.kind == "categorical":
        assert dimension.size is not None
        unit = float(math.floor(unit * dimension.size))
    code = float(dimension.snap(np.array([unit]))[0])

    value = dimension.decode(code)

    assert distribution._contains(distribution.to_internal_repr(value))
    if isinstance(distribution, FloatDistribution):
        assert type(value) is float
    if isinstance(distribution, IntDistribution):
        assert type(value) is int
    if isinstance(distribution, CategoricalDistribution):
        assert dimension.decode(dimension.encode(value)) == value
    else:
        again = dimension.decode(dimension.encode(value))
        assert again == pytest.approx(value, rel=1e-9, abs=1e-9)
        assert dimension.encode(value) == pytest.approx(code, abs=SAME_POINT)


@given(distribution=distributions())
@settings(deadline=None)
def test_every_value_of_a_grid_has_its_own_code(distribution: BaseDistribution) -> None:
    dimension = make_dimension("p", distribution)
    if dimension.size is None:
        return
    for index in {0, dimension.size // 3, dimension.size - 1}:
        code = dimension.code_of_index(index)
        assert dimension.index(code) == index
        assert float(dimension.snap(np.array([code]))[0]) == pytest.approx(code, abs=1e-12)


def test_ordered_numbers_keep_their_order_and_booleans_have_none() -> None:
    assert make_dimension("b", CategoricalDistribution([16, 32, 64])).kind == "ordinal"
    assert make_dimension("b", CategoricalDistribution([32, 16, 64])).kind == "categorical"
    assert make_dimension("b", CategoricalDistribution([False, True])).kind == "categorical"
    assert make_dimension("b", CategoricalDistribution([0, 1, None])).kind == "categorical"


@pytest.mark.parametrize("k", [2, 3, 8])
def test_different_choices_are_equally_far_apart_and_nearer_than_the_ends_of_a_range(
    k: int,
) -> None:
    encoding = make_encoding({"c": CategoricalDistribution([f"c{i}" for i in range(k)])})
    features = encoding.features(np.arange(k, dtype=np.float64)[:, None])

    squared = ((features[:, None] - features) ** 2).sum(-1)

    np.testing.assert_allclose(squared, category_distance(k) ** 2 * (1.0 - np.eye(k)), atol=1e-15)
    assert category_distance(k) < 0.5
    assert set(encoding.groups.tolist()) == {0}


@pytest.mark.parametrize("k", [2, 3, 8])
def test_two_random_choices_are_half_as_far_apart_in_the_square_as_two_random_floats(
    k: int,
) -> None:
    mean_square = category_distance(k) ** 2 * (k - 1) / k

    assert mean_square == pytest.approx(0.5 * (1.0 / 6.0))


@pytest.mark.parametrize("k", [2, 3])
def test_an_inactive_category_is_equally_far_from_each_choice(k: int) -> None:
    encoding = make_encoding({"c": CategoricalDistribution([f"c{i}" for i in range(k)])})
    features = encoding.features(np.array([[float(i)] for i in range(k)] + [[np.nan]]))

    squared = ((features[:-1] - features[-1]) ** 2).sum(-1)

    np.testing.assert_allclose(squared, squared[0])
    assert squared[0] < category_distance(k) ** 2


def test_the_widest_range_of_doubles_does_not_overflow() -> None:
    dimension = make_dimension("x", FloatDistribution(-1.7e308, 1.7e308))

    assert dimension.encode(0.0) == pytest.approx(0.5)
    assert dimension.decode(0.5) == pytest.approx(0.0)


def test_values_outside_the_range_have_no_code() -> None:
    assert math.isnan(make_dimension("x", FloatDistribution(0, 1)).encode(1.1))
    assert math.isnan(make_dimension("x", CategoricalDistribution(["a", "b"])).encode("c"))


TREE: dict[str, BaseDistribution] = {
    "optimizer": CategoricalDistribution(["adam", "sgd", "lion"]),
    "momentum": FloatDistribution(0.5, 0.99),
    "nesterov": CategoricalDistribution([True, False]),
    "damping": FloatDistribution(0.0, 1.0),
    "width": IntDistribution(1, 8),
}
TREE_CONDITIONS: dict[str, dict[str, list[Any]]] = {
    "damping": {"nesterov": [False]},
    "nesterov": {"optimizer": ["sgd"]},
    "momentum": {"optimizer": ["sgd", "lion"]},
}


def test_inactive_parameters_are_masked_down_the_tree() -> None:
    encoding = make_encoding(TREE, TREE_CONDITIONS)
    point = {"optimizer": "adam", "momentum": 0.6, "nesterov": False, "damping": 0.2, "width": 3}

    assert set(encoding.decode(encoding.mask(encoding.encode(point)[None])[0])) == {
        "optimizer",
        "width",
    }
    point["optimizer"] = "sgd"
    assert set(encoding.decode(encoding.mask(encoding.encode(point)[None])[0])) == set(TREE)


def test_two_points_without_a_parameter_are_at_no_distance_along_it() -> None:
    encoding = make_encoding(TREE, TREE_CONDITIONS)
    adam = {"optimizer": "adam", "width": 3}
    features = encoding.features(np.stack([encoding.encode(adam), encoding.encode(adam)]))

    assert np.ptp(features, axis=0).max() == 0.0


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


def test_a_conditional_finite_space_is_enumerated_once_per_distinct_point() -> None:
    space: dict[str, BaseDistribution] = {
        "layers": CategoricalDistribution(["one", "two"]),
        "second": IntDistribution(1, 5),
    }
    encoding = make_encoding(space, {"second": {"layers": ["two"]}})

    assert len(encoding.enumerate_points()) == 6


def test_conditions_in_a_circle_are_refused() -> None:
    space: dict[str, BaseDistribution] = {
        "a": CategoricalDistribution(["x", "y"]),
        "b": CategoricalDistribution(["x", "y"]),
    }
    with pytest.raises(ValueError, match="circle"):
        make_encoding(space, {"a": {"b": ["x"]}, "b": {"a": ["x"]}})


def test_points_are_the_same_within_rounding_and_inactive_equals_inactive() -> None:
    others = np.array([[0.5, math.nan], [0.1, 0.2]])
    points = np.array([[0.5 + 1e-12, math.nan], [0.5, 0.2], [0.1, 0.2 + 1e-3]])

    assert find_same(points, others).tolist() == [True, False, False]
    assert find_same(points, np.empty((0, 2))).tolist() == [False, False, False]
