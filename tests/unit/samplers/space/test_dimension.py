"""One parameter as an axis: exact grids, categories, bounds."""

from __future__ import annotations

import math

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
from tests.optuna_values import is_accepted

from studyflow.samplers.space.dimension import make_dimension
from studyflow.samplers.space.encoding import SAME_POINT

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

    assert is_accepted(distribution, value)
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


def test_the_widest_range_of_doubles_does_not_overflow() -> None:
    dimension = make_dimension("x", FloatDistribution(-1.7e308, 1.7e308))

    assert dimension.encode(0.0) == pytest.approx(0.5)
    assert dimension.decode(0.5) == pytest.approx(0.0)


def test_values_outside_the_range_have_no_code() -> None:
    assert math.isnan(make_dimension("x", FloatDistribution(0, 1)).encode(1.1))
    assert math.isnan(make_dimension("x", CategoricalDistribution(["a", "b"])).encode("c"))
