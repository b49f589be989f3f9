"""Which GPUs local trials would get."""

from __future__ import annotations

import pytest

from studyflow.executors.kind import Standing
from studyflow.executors.local.preflight import check_gpus


@pytest.mark.parametrize(
    ("gpus", "wanted", "standing"),
    [
        ((), 0, Standing.OK),
        ((), 1, Standing.WARNING),
        (("0",), 1, Standing.OK),
        (("0",), 2, Standing.PROBLEM),
    ],
)
def test_too_few_gpus_are_a_problem_and_none_means_the_cpu(
    gpus: tuple[str, ...], wanted: int, standing: Standing
) -> None:
    assert check_gpus(wanted, lambda: gpus).standing is standing
