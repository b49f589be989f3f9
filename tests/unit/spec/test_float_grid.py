"""The points of a float with a step."""

from __future__ import annotations

import optuna
import pytest
from tests.optuna_values import is_accepted
from tests.unit.spec.spaces import floats

from studyflow.spec.float_grid import FloatGrid


@pytest.mark.fault("F73")
@pytest.mark.parametrize(
    ("grid", "n_steps", "last"),
    [
        (FloatGrid(0.0, 1.0, 1 / 11), 11, 1.0),  # eleven steps are a little too long
        (FloatGrid(0.0, 1.0, 1 / 3), 3, 1.0),  # three steps are a little too short
        (FloatGrid(-1.0, 1.0, 2 / 3), 3, 1.0),
        (FloatGrid(1000.0, 1001.0, 1 / 7), 7, 1001.0),
        (FloatGrid(0.0, 3 * 0.1, 0.1), 3, 3 * 0.1),
        (FloatGrid(0.8, 0.9, 0.1), 1, 0.9),  # 0.9 - 0.8 is less than 0.1 in floats
        (FloatGrid(0.0, 1e-16, 1e-17), 10, 1e-16),
        (FloatGrid(0.0, 1.0, 1 / 9999), 9999, 1.0),
        (FloatGrid(0.0, 1.0, 0.3), 3, 0.9),
        (FloatGrid(0.0, 1.0, 0.0909), 11, 0.9999),  # too few digits to be meant as 1/11
        (FloatGrid(0.0, 1.0, 2 / 3), 1, 2 / 3),
        (FloatGrid(5.0, 5.0, 0.1), 0, 5.0),
    ],
)
def test_a_grid_ends_on_its_bound_or_on_its_last_whole_step(
    grid: FloatGrid, n_steps: int, last: float
) -> None:
    assert (grid.n_steps, grid.last) == (n_steps, last)
    assert grid.is_whole == (last == grid.high)
    low, high, step = grid.optuna_range
    distribution = optuna.distributions.FloatDistribution(low, high, step=step)
    assert all(is_accepted(distribution, grid.value(index)) for index in range(grid.size))


def test_a_step_as_printed_divides_its_range_evenly() -> None:
    sevenths = FloatGrid(-1.0, 1.0, 1 / 7)

    assert sevenths.value(7) == 0.0
    assert [sevenths.value(7 + i) for i in range(8)] == [i / 7 for i in range(8)]
    assert sevenths.index(7 * (1 / 7) - 1) == 7


def test_a_grid_has_the_points_that_a_person_would_write() -> None:
    tenths = FloatGrid(0.0, 0.5, 0.1)

    assert [tenths.value(i) for i in range(6)] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert floats(0, 0.5, step=0.1).on_grid(3 * 0.1) == 0.3
    assert floats(0, 0.5, step=0.1).on_grid(0.31) == 0.31
    assert floats(0, 0.5, step=0.1).on_grid(None) is None
