"""A point survives its way into the unit cube and back."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from studyflow.space import CategoricalParameter, FloatParameter, IntParameter, SearchSpace

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

    assert distribution._contains(distribution.to_internal_repr(parameter.from_unit(unit)))


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
