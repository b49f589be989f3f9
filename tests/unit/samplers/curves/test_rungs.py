"""The steps at which curves are read."""

from __future__ import annotations

import numpy as np
import pytest

from studyflow.samplers.curves.rungs import MAX_RUNGS, progress, rungs


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, (1,)),
        (2, (1, 2)),
        (3, (1, 2, 3)),
        (4, (1, 2, 3, 4)),
        (27, (1, 2, 3, 5, 8, 13, 21, 27)),
        (50, (1, 2, 3, 5, 8, 13, 21, 34, 50)),
    ],
)
def test_rungs_grow_like_fibonacci_numbers_and_end_at_the_last_step(
    steps: int, expected: tuple[int, ...]
) -> None:
    assert rungs(steps) == expected


def test_a_long_training_has_twelve_rungs_from_the_first_step_to_the_last() -> None:
    found = rungs(100_000)

    assert len(found) == MAX_RUNGS
    assert (found[0], found[-1]) == (1, 100_000)
    ratios = np.array(found[1:]) / np.array(found[:-1])
    assert ratios.max() < 5.5


@pytest.mark.parametrize("steps", [2, 27, 100_000])
def test_progress_goes_from_zero_to_one(steps: int) -> None:
    along = progress(steps)

    assert len(along) == len(rungs(steps))
    assert (along[0], along[-1]) == (pytest.approx(0.0), pytest.approx(1.0))
    assert (np.diff(along) > 0.0).all()


def test_a_training_of_one_step_is_at_its_end_at_once() -> None:
    assert progress(1).tolist() == [1.0]
