"""Where values, bounds and ticks stand on an axis."""

from __future__ import annotations

import pytest

from studyflow.reports.axis import ParameterAxis, number_axis, objective_axis, tick_values
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.spec.parameters import CategoricalParameter, FloatParameter, IntParameter


def real(low: float, high: float, *, log: bool = False) -> FloatParameter:
    return FloatParameter(type="float", low=low, high=high, log=log)


LR = real(1e-4, 1e-1, log=True)
DEPTH = IntParameter(type="int", low=1, high=5)
OPT = CategoricalParameter(type="categorical", choices=["sgd", "adam", "lion"])
EXTREME = real(1e-300, 1e-200, log=True)
FIXED = real(2.0, 2.0)


@pytest.mark.parametrize("parameter", [LR, DEPTH, OPT, EXTREME, FIXED, real(0.0, 0.0)])
def test_every_tick_is_on_the_axis_and_has_a_label(
    parameter: FloatParameter | IntParameter | CategoricalParameter,
) -> None:
    ticks = ParameterAxis("p", parameter).axis.ticks
    assert ticks
    assert all(0.0 < place < 1.0 and text for place, text in ticks)


def test_numbers_stand_by_their_scale_and_categories_in_the_order_of_the_file() -> None:
    middle = ParameterAxis("lr", LR).share(10**-2.5)
    assert middle == pytest.approx(0.5)
    opt = ParameterAxis("opt", OPT)
    assert [round(opt.share(choice), 3) for choice in OPT.choices] == [0.167, 0.5, 0.833]
    assert ParameterAxis("fixed", FIXED).share(2.0) == pytest.approx(0.5)


def test_bounds_stand_a_little_inside_the_frame() -> None:
    axis = ParameterAxis("lr", LR)
    assert 0.0 < axis.share(1e-4) < 0.06
    assert axis.share(1e-4) == pytest.approx(axis.share_of_unit(0.0))
    assert 0.94 < axis.share(1e-1) < 1.0


def test_ticks_of_whole_numbers_are_whole() -> None:
    assert tick_values(DEPTH) == [1, 2, 3, 4, 5]
    assert tick_values(IntParameter(type="int", low=1, high=2)) == [1, 2]
    assert tick_values(FIXED) == [2.0]
    assert [text for _, text in number_axis("n", 0, 3, is_whole=True).ticks] == ["0", "1", "2", "3"]


def test_a_range_at_the_ends_of_floats_has_ticks_too() -> None:
    assert [text for _, text in ParameterAxis("x", EXTREME).axis.ticks] == [
        "1e-300",
        "1e-250",
        "1e-200",
    ]


def test_of_many_categories_some_are_labelled() -> None:
    many = CategoricalParameter(type="categorical", choices=[f"choice {i}" for i in range(100)])
    labels = [text for _, text in ParameterAxis("p", many).axis.ticks]
    assert len(labels) <= 12
    assert labels[1] == "choice 9"


def test_what_lies_beyond_an_objective_s_scale_lies_beyond_its_axis() -> None:
    scale = ObjectiveScale([1.0, 2.0, 1.5, 1.2, 1.7, 1e9], "minimize")
    axis = objective_axis("loss", scale)
    assert axis.share(1e9) > 1.0
    assert axis.share(-1e9) < 0.0
    assert 0.0 < axis.share(1.5) < 1.0
