"""Cleaning, warping and standardising of objective values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studyflow.samplers.outcome_transforms import (
    clean,
    diverged,
    half_rank,
    impute_pruned,
    standardise_constraint,
    transform_objective,
)

anything = st.lists(
    st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1.0, 1e300]),
    min_size=1,
    max_size=20,
)


def test_what_is_not_finite_takes_the_worst_measured_value() -> None:
    values = np.array([1.0, math.inf, -math.inf, math.nan, 1e300, 3.0])

    minimised, measured = clean(values, maximize=False)

    assert minimised.tolist() == [-1.0, -3.0, -3.0, -3.0, -3.0, -3.0]
    assert measured.tolist() == [True, False, False, False, False, True]


@given(values=anything, maximize=st.booleans())
@settings(deadline=None)
def test_any_values_become_finite_targets_of_bounded_spread(
    values: list[float], maximize: bool
) -> None:
    outcome = transform_objective(np.array(values), maximize=maximize)

    assert np.isfinite(outcome.targets).all()
    assert outcome.targets.std() <= 1.0 + 1e-6


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
@settings(deadline=None)
def test_the_warp_keeps_the_order(values: list[float]) -> None:
    raw = np.array(values)
    warped = half_rank(raw)

    assert np.all(np.diff(warped[np.argsort(raw, kind="stable")]) >= -1e-9)


def test_a_heavy_bad_tail_is_warped_and_a_light_one_is_not() -> None:
    light = np.linspace(0.0, 1.0, 20)
    heavy = np.concatenate([light, [1e4, 1e4]])

    assert transform_objective(light, maximize=False).warp == "none"
    assert transform_objective(heavy, maximize=False).warp == "half-rank"


def test_a_handful_of_points_of_a_parabola_is_not_taken_for_a_heavy_tail() -> None:
    assert (
        transform_objective(np.array([-2.4, -17.6, -1.0, -4.1, -1.3]), maximize=True).warp == "none"
    )


@pytest.mark.parametrize("worst", [[], [2e4], [2e4, 3e4]])
def test_a_repeated_code_for_failure_is_known_beside_honest_values_that_are_worse(
    worst: list[float],
) -> None:
    honest = [0.1, 0.2, 0.3, 0.4, 0.5, 7.0]

    lost = diverged(np.array([*honest, 1e4, 1e4, *worst]), maximize=False)

    assert lost.tolist() == [False] * 6 + [True, True] + [False] * len(worst)


@pytest.mark.parametrize("values", [[0.1, 0.2, 0.3, 0.4, 1e4, 2e4], [0.1, 0.2, 0.3, 0.9, 0.9]])
def test_far_values_that_differ_and_equal_ones_nearby_are_measurements(
    values: list[float],
) -> None:
    assert not diverged(np.array(values), maximize=False).any()


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_predictions_come_back_in_the_objectives_units(maximize: bool, scale: float) -> None:
    values = scale * np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    outcome = transform_objective(values, maximize=maximize)

    mean, sd = outcome.to_objective_units(float(outcome.targets[1]), 0.1)

    assert mean == pytest.approx(2.0 * scale)
    assert sd == pytest.approx(0.1 * math.sqrt(2.0) * scale)


def test_warped_predictions_come_back_too() -> None:
    values = np.concatenate([np.linspace(0.0, 1.0, 20), [1e4, 2e4]])
    outcome = transform_objective(values, maximize=False)

    restored = [outcome.to_objective_units(float(z), 0.0)[0] for z in outcome.targets]

    assert restored == pytest.approx(values.tolist())


def test_a_constant_objective_has_no_spread_to_divide_by() -> None:
    assert transform_objective(np.full(7, 0.1), maximize=True).targets == pytest.approx(np.zeros(7))


def test_a_constraints_bound_stays_where_zero_was() -> None:
    values = np.array([-5.0, 0.0, 1.0, 1e9, math.inf])

    targets, bound = standardise_constraint(values)

    assert targets[1] == pytest.approx(bound)
    assert (targets <= bound + 1e-12).tolist() == [True, True, False, False, False]


def test_a_pruned_trial_is_imputed_by_its_rank_and_never_above_the_median() -> None:
    completed = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    peers = (np.array([10.0, 20.0, 30.0, 40.0, 50.0]), completed)
    nothing = (np.empty(0), np.empty(0))

    imputed = impute_pruned(np.array([25.0, 99.0, math.nan]), [peers, peers, nothing], completed)

    assert imputed == pytest.approx([2.6, 3.0, 2.0])
