"""Reports as arrays, and their scale."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.unit.samplers.curves.studies import GROUPS, study

from studyflow.samplers.curves.reports import read_curves


def test_a_rung_holds_the_newest_report_since_the_one_before() -> None:
    curves = read_curves(
        np.zeros((1, 3)), GROUPS, [{1: 5.0, 4: 4.0, 6: 3.0}], [None], steps=27, maximize=False
    )

    assert curves.reached.tolist() == [4]
    np.testing.assert_equal(curves.values[0, :5], [-5.0, np.nan, np.nan, -4.0, np.nan])


@pytest.mark.parametrize(("unit", "zero"), [(1e-9, 0.0), (1e12, 0.0), (1.0, -7.0), (-3.0, 4.0)])
def test_neither_unit_nor_zero_nor_direction_changes_the_targets(unit: float, zero: float) -> None:
    np.testing.assert_allclose(study(unit=unit, zero=zero).targets, study().targets, atol=1e-5)


@pytest.mark.parametrize("final", [-3.0, -0.7, -0.2, 0.4, 90.0, -1e6])
def test_a_final_comes_back_from_the_scale(final: float) -> None:
    scale = study().scale

    assert scale.final(scale.target(final)) == pytest.approx(final)


def test_early_values_are_not_compressed_for_being_far_from_all_finals() -> None:
    """Trials differ at the first step as much as at the last, however far that is from it."""
    curves = study(zero=0.0)
    lifted = curves.values.copy()
    lifted[:, 0] -= 1e3
    first = replace(curves, values=lifted).targets[:, 0]

    np.testing.assert_allclose(np.diff(first), np.diff(curves.targets[:, 0]), rtol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_a_curve_whose_newest_value_is_no_measurement_is_lost(value: float) -> None:
    reports = [{1: 1.0, 2: value}, {1: value, 2: 1.0}, {1: 1.0, 2: 0.9}]

    curves = read_curves(
        np.zeros((3, 3)), GROUPS, reports, [None, None, 0.5], steps=8, maximize=False
    )

    assert curves.lost.tolist() == [True, False, False]


def test_a_result_far_worse_than_all_others_is_lost_and_does_not_stretch_the_scale() -> None:
    finals = [0.5, 0.6, 0.7, 0.8, 1e4]
    curves = read_curves(np.zeros((5, 3)), GROUPS, [{}] * 5, finals, steps=8, maximize=False)

    assert curves.lost.tolist() == [False] * 4 + [True]
    assert curves.n_ended == 4
    assert curves.scale.spread < 0.2
