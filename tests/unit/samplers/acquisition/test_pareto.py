"""Where improvement is measured from: the nadir of the Pareto set, a little further out."""

from __future__ import annotations

import numpy as np
import pytest

from studyflow.samplers.acquisition.pareto import reference_point


def test_it_lies_a_tenth_of_the_sets_range_below_its_nadir() -> None:
    front = np.array([[0.0, 10.0], [1.0, 5.0], [2.0, 0.0]])

    assert reference_point(front) == pytest.approx([-0.2, -1.0])


def test_a_dominated_point_however_bad_does_not_move_it() -> None:
    targets = np.array([[0.0, 10.0], [2.0, 0.0], [-1e6, -1e6]])

    assert reference_point(targets) == pytest.approx([-0.2, -1.0])


def test_a_set_without_a_range_gets_a_tenth_of_a_standard_deviation() -> None:
    targets = np.array([[1.0, 2.0], [0.0, 0.0]])

    assert reference_point(targets) == pytest.approx([0.9, 1.9])
