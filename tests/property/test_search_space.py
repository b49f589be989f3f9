"""A point survives its way into the unit cube and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from optuna.distributions import distribution_to_json, json_to_distribution
from pydantic import ValidationError
from tests.optuna_values import is_accepted

from studyflow.samplers.space.dimension import make_dimension
from studyflow.spec.float_grid import MOST_STEPS, FloatGrid
from studyflow.spec.parameters import CategoricalParameter, FloatParameter, IntParameter
from studyflow.spec.space import SearchSpace

quick = settings(derandomize=True, deadline=None, max_examples=200)
units = st.floats(0, 1)
bounds = st.floats(-1e6, 1e6)


@st.composite
def float_parameters(draw: st.DrawFn) -> FloatParameter:
    log = draw(st.booleans())
    low, high = sorted((draw(bounds), draw(bounds)))
    if log:
        low, high = sorted((abs(low) + 1e-6, abs(high) + 1e-6))
    step = None if log else draw(st.none() | st.floats(1e-3, 10))
    try:
        return FloatParameter(type="float", low=low, high=high, log=log, step=step)
    except ValidationError:
        assume(False)
        raise


@st.composite
def int_parameters(draw: st.DrawFn) -> IntParameter:
    low, high = sorted((draw(st.integers(1, 10**6)), draw(st.integers(1, 10**6))))
    log = draw(st.booleans())
    step = 1 if log else draw(st.integers(1, max(high - low, 1)))
    return IntParameter(type="int", low=low, high=high, log=log, step=step)


categorical_parameters = st.builds(
    lambda values: CategoricalParameter(type="categorical", choices=tuple(values)),
    st.lists(st.none() | st.booleans() | st.integers() | st.text(), min_size=1, unique=True),
)
parameters = float_parameters() | int_parameters() | categorical_parameters


@quick
@given(parameters, units)
def test_every_place_is_a_value_of_the_parameter(parameter: Any, unit: float) -> None:
    value = parameter.from_unit(unit)

    assert parameter.contains(value)
    assert 0 <= parameter.to_unit(value) <= 1 + 1e-9


@quick
@given(parameters, units)
def test_a_value_survives(parameter: Any, unit: float) -> None:
    value = parameter.from_unit(unit)

    again = parameter.from_unit(parameter.to_unit(value))

    if isinstance(parameter, FloatParameter):
        assert math.isclose(again, value, rel_tol=1e-9, abs_tol=1e-7)
    else:
        assert again == value
        assert type(again) is type(value)


@quick
@given(parameters, units)
def test_optuna_accepts_every_value_and_never_warns(parameter: Any, unit: float) -> None:
    distribution = parameter.distribution()

    assert is_accepted(distribution, parameter.from_unit(unit))


@pytest.mark.fault("F73")
@quick
@given(
    st.floats(-1e3, 1e3) | st.sampled_from([0.0, -1.0, 1e-5, 0.1]),
    st.floats(1e-3, 1e3) | st.sampled_from([1.0, 2.0, 0.3]),
    st.integers(1, 1000),
)
def test_a_step_as_python_prints_it_keeps_both_bounds(
    low: float, width: float, n_steps: int
) -> None:
    high = low + width
    step = (high - low) / n_steps
    assume(max(abs(low), abs(high)) <= MOST_STEPS * step)
    parameter = FloatParameter(type="float", low=low, high=high, step=step)
    assert parameter.grid is not None

    distribution = parameter.distribution()
    stored = json_to_distribution(distribution_to_json(distribution))
    dimension = make_dimension("x", stored, parameter.grid)

    assert parameter.cardinality == n_steps + 1
    assert stored == distribution
    for index in {0, 1, n_steps // 3, n_steps - 1, n_steps}:
        value = parameter.grid.value(index)
        assert parameter.grid.index(value) == index
        assert parameter.on_grid(low + index * step) == value
        assert parameter.from_unit(index / n_steps) == value
        assert is_accepted(stored, value)
        code = dimension.encode(value)
        assert dimension.decode(code) == value
        assert dimension.snap(np.array([code]))[0] == code == dimension.code_of_index(index)
    assert (parameter.grid.value(0), parameter.last) == (low, high)


@pytest.mark.fault("F73")
@quick
@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_any_grid_has_its_points_in_order_and_gives_them_all_to_optuna(
    low: float, width: float, step: float
) -> None:
    grid = FloatGrid(low, low + width, step)
    assume(0 < grid.n_steps < 5000)
    parameter = FloatParameter(type="float", low=low, high=low + width, step=step)
    distribution = parameter.distribution()
    indices = sorted({0, 1, grid.n_steps // 2, grid.n_steps - 1, grid.n_steps})

    values = [grid.value(index) for index in indices]

    assert values == sorted(set(values))
    assert [grid.index(value) for value in values] == indices
    assert all(parameter.contains(value) for value in values)
    assert all(is_accepted(distribution, value) for value in values)
    assert not parameter.contains(grid.value(0) + 0.5 * step)


@quick
@given(st.lists(units, min_size=4, max_size=4))
def test_a_point_of_a_conditional_space_is_complete_and_survives(place: list[float]) -> None:
    space = SearchSpace(
        {
            "child": IntParameter(type="int", low=1, high=9, when={"opt": ["b", "c"]}),
            "opt": CategoricalParameter(type="categorical", choices=("a", "b", "c")),
            "grandchild": CategoricalParameter(
                type="categorical", choices=(1, "1", None), when={"child": 5}
            ),
            "alone": IntParameter(type="int", low=1, high=64, log=True),
        }
    )

    point = space.from_unit(place)

    assert space.problems(point) == ()
    assert space.from_unit(space.to_unit(point)) == point
