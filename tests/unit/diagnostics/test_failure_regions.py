"""Which bound tells failed trials from the others."""

from __future__ import annotations

from typing import Any

import pytest

from studyflow.diagnostics.failure_regions import FailureRegion, common_region


@pytest.mark.parametrize(
    ("failed", "others", "region"),
    [
        ([{"b": 96}, {"b": 128}], [{"b": 16}, {"b": 64}], FailureRegion("b ≥ 96", 2, 0)),
        ([{"lr": 0.5}, {"lr": 0.1}], [{"lr": 0.7}, {"lr": 1.0}], FailureRegion("lr ≤ 0.5", 2, 0)),
        ([{"o": "sgd"}, {"o": "sgd"}], [{"o": "adam"}], FailureRegion("o = sgd", 2, 0)),
        ([{"o": True}, {"o": True}], [{"o": 1}], FailureRegion("o = true", 2, 0)),
        ([{"b": 1}, {"b": 9}], [{"b": 1}, {"b": 9}], None),
        ([{"b": 9}], [{"b": 1}], None),
        ([{"b": 9}, {"b": 8}], [], None),
    ],
)
def test_a_region_is_told_when_one_bound_tells_the_trials_apart(
    failed: list[Any], others: list[Any], region: FailureRegion | None
) -> None:
    assert common_region(failed, others) == region
