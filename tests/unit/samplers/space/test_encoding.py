"""The union space: features, conditional parameters, equal points."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from studyflow.samplers.space.encoding import category_distance, find_same, make_encoding


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
