"""Where values, bounds and ticks of a parameter stand on its axis."""

from __future__ import annotations

import pytest

from studyflow.reports.parameter_axis import at_unit, is_log, limits, position, tick_values, ticks
from studyflow.spec.parameters import CategoricalParameter, FloatParameter, IntParameter


def real(low: float, high: float, *, log: bool = False) -> FloatParameter:
    return FloatParameter(type="float", low=low, high=high, log=log)


LR = real(1e-4, 1e-1, log=True)
DEPTH = IntParameter(type="int", low=1, high=5)
OPT = CategoricalParameter(type="categorical", choices=["sgd", "adam", "lion"])
EXTREME = real(1e-300, 1e-200, log=True)
FIXED = real(2.0, 2.0)


def test_numbers_stand_at_their_value_and_categories_at_their_place_in_the_file() -> None:
    assert position(LR, 0.01) == 0.01
    assert position(DEPTH, 3) == 3.0
    assert [position(OPT, choice) for choice in ("sgd", "adam", "lion")] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("value", ["0.1", None])
def test_what_is_no_number_has_no_place_on_the_axis_of_one(value: str | None) -> None:
    with pytest.raises(ValueError, match="is no number"):
        position(LR, value)


def test_a_range_that_matplotlib_cannot_compute_with_is_shown_from_0_to_1() -> None:
    assert position(EXTREME, 1e-250) == pytest.approx(0.5)
    assert limits(EXTREME) == (-0.05, 1.05)
    assert not is_log(EXTREME)
    positions, labels = ticks(EXTREME)
    assert positions == pytest.approx([0.0, 0.5, 1.0])
    assert labels == ["1e-300", "1e-250", "1e-200"]


def test_a_unit_coordinate_is_a_place_on_the_axis_whatever_its_scale() -> None:
    assert at_unit(LR, 2 / 3) == pytest.approx(0.01)
    assert at_unit(DEPTH, 0.25) == 2.0
    assert at_unit(EXTREME, 0.3) == 0.3
    assert [at_unit(OPT, unit) for unit in (0.0, 0.5, 1.0)] == [-0.5, 1.0, 2.5]


@pytest.mark.parametrize("parameter", [LR, DEPTH, OPT, EXTREME, FIXED, real(0.0, 0.0)])
def test_every_value_and_tick_is_within_the_limits(
    parameter: FloatParameter | IntParameter | CategoricalParameter,
) -> None:
    low, high = limits(parameter)
    positions, labels = ticks(parameter)

    assert low < high
    assert len(positions) == len(labels) > 0
    assert all(low < place < high for place in positions)


def test_only_a_range_of_several_values_has_a_logarithmic_axis() -> None:
    assert is_log(LR)
    assert not is_log(real(2.0, 2.0, log=True))
    assert not is_log(DEPTH)
    assert not is_log(OPT)


def test_ticks_of_whole_numbers_are_whole() -> None:
    assert tick_values(DEPTH) == [1, 2, 3, 4, 5]
    assert tick_values(IntParameter(type="int", low=1, high=2)) == [1, 2]
    assert tick_values(FIXED) == [2.0]


def test_of_many_categories_some_are_labelled() -> None:
    many = CategoricalParameter(type="categorical", choices=[f"choice {i}" for i in range(100)])

    positions, labels = ticks(many, 5)

    assert positions == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert labels[1] == "choice 10"
