"""Points before there is a model: the same for everyone, well spread, and new as long as any is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from studyflow.samplers.space.encoding import Encoding, make_encoding
from studyflow.samplers.startup import startup_point

SMALL: dict[str, BaseDistribution] = {
    "kind": CategoricalDistribution(("adam", "sgd")),
    "n": IntDistribution(1, 3),
}
PLANE: dict[str, BaseDistribution] = {
    "x": FloatDistribution(0.0, 1.0),
    "y": FloatDistribution(-1.0, 1.0),
}


def point(
    encoding: Encoding, number: int, tried: Any = (), fixed: dict[int, float] | None = None
) -> dict[str, Any]:
    d = len(encoding.dimensions)
    codes = startup_point(
        encoding,
        number,
        seed=7,
        tried=np.array(tried, dtype=float).reshape(-1, d),
        fixed=fixed or {},
        generator=np.random.default_rng(number),
    )
    return encoding.decode(codes)


def test_the_first_trial_gets_the_centre_and_the_first_choice() -> None:
    assert point(make_encoding(PLANE), 0) == {"x": 0.5, "y": 0.0}
    assert point(make_encoding(SMALL), 0) == {"kind": "adam", "n": 2}


def test_a_point_depends_on_seed_and_number_alone() -> None:
    encoding = make_encoding(PLANE)
    assert point(encoding, 5) == point(encoding, 5, tried=[[0.1, 0.1]])
    assert point(encoding, 5) != point(encoding, 6)


@pytest.mark.parametrize("n", [4, 8, 16])
def test_the_first_points_of_the_sequence_are_spread_evenly(n: int) -> None:
    encoding = make_encoding({"x": PLANE["x"]})
    cells = {int(point(encoding, number)["x"] * n) for number in range(n, 2 * n)}
    assert cells == set(range(n))


def test_a_small_space_is_used_up_before_any_point_comes_again() -> None:
    encoding = make_encoding(SMALL)
    tried: list[Any] = []
    for number in range(6):
        found = point(encoding, number, tried)
        tried.append(encoding.encode(found))
    assert len({tuple(codes) for codes in tried}) == encoding.cardinality == 6

    assert point(encoding, 6, tried) in [encoding.decode(codes) for codes in tried]


def test_what_is_set_already_stays() -> None:
    encoding = make_encoding(SMALL)
    sgd = encoding.encode({"kind": "sgd", "n": 1})[0]
    tried = [encoding.encode({"kind": "sgd", "n": n}) for n in (1, 2)]

    assert point(encoding, 0, fixed={0: sgd}) == {"kind": "sgd", "n": 2}
    assert point(encoding, 0, tried, fixed={0: sgd}) == {"kind": "sgd", "n": 3}


def test_a_conditional_parameter_is_there_only_where_it_exists() -> None:
    space = {**SMALL, "momentum": FloatDistribution(0.0, 0.9)}
    encoding = make_encoding(space, {"momentum": {"kind": ("sgd",)}})
    for number in range(12):
        found = point(encoding, number)
        assert ("momentum" in found) is (found["kind"] == "sgd")
