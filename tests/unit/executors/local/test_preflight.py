"""Which GPUs local trials would get."""

from __future__ import annotations

import pytest

from studyflow.executors.local.preflight import check_gpus
from studyflow.reasons import Level


@pytest.mark.parametrize(
    ("gpus", "wanted", "level"),
    [
        ((), 0, Level.OK),
        ((), 1, Level.WARNING),
        (("0",), 1, Level.OK),
        (("0",), 2, Level.PROBLEM),
    ],
)
def test_too_few_gpus_are_a_problem_and_none_means_the_cpu(
    gpus: tuple[str, ...], wanted: int, level: Level
) -> None:
    assert check_gpus(wanted, lambda: gpus).level is level
