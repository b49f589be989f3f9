"""What records say of a study's best trials."""

from __future__ import annotations

import random

import pytest
from tests.unit.study.studies import record

from studyflow.trial.record import best_records


@pytest.mark.parametrize("n_objectives", [2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_no_other_trial_is_better_than(seed: int, n_objectives: int) -> None:
    generator = random.Random(seed)
    records = [
        record(number, *(float(generator.randrange(6)) for _ in range(n_objectives)))
        for number in range(40)
    ]
    directions = ("minimize", "maximize", "minimize")[:n_objectives]
    signs = (1, -1, 1)[:n_objectives]

    def is_better(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
        costs = [(s * x, s * y) for s, x, y in zip(signs, a, b, strict=True)]
        return a != b and all(x <= y for x, y in costs)

    expected = [
        r.number
        for r in records
        if not any(is_better(other.values or (), r.values or ()) for other in records)
    ]
    assert [r.number for r in best_records(records, directions)] == expected
    assert [r.number for r in best_records(records[::-1], directions)] == expected


def test_infeasible_trials_are_never_best() -> None:
    records = [record(0, 1.0, violation=0.5), record(1, 3.0), record(2, 2.0), record(3, 2.0)]

    assert [r.number for r in best_records(records, ("minimize",))] == [2]
    assert best_records(records[:1], ("minimize",)) == ()
