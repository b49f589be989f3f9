"""The benchmarks of the control plane run, in small."""

from __future__ import annotations

import pytest
from benchmarks.control_plane import (
    cluster_scale,
    commands,
    flow,
    kubernetes,
    loop,
    resume,
    startup,
    storages,
    trials,
)
from benchmarks.control_plane.measures import Row, number


@pytest.mark.parametrize("part", [loop, kubernetes, storages, resume])
def test_a_part_gives_rows_with_numbers(part: object) -> None:
    rows = list(part.rows(is_quick=True))  # type: ignore[attr-defined]
    assert len(rows) >= 3
    assert all(row.value > 0 or row.unit.endswith("CPU") for row in rows)
    assert len({row.what for row in rows}) == len(rows)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "part",
    [
        trials,
        commands,
        cluster_scale,
        pytest.param(startup, marks=pytest.mark.long),
        pytest.param(flow, marks=pytest.mark.long),
    ],
)
def test_a_part_that_starts_processes_gives_rows_beside_its_peer(part: object) -> None:
    rows = list(part.rows(is_quick=True))  # type: ignore[attr-defined]
    assert {row.peer_name for row in rows if row.peer is not None}
    assert all(row.value > 0 for row in rows)


def test_a_row_shows_the_ratio_to_its_peer() -> None:
    assert str(Row("a turn", 3, "statements")) == "| a turn | 3 statements | | |"
    shown = str(Row("a trial", 41.0, "statements", 20.5, "Optuna"))
    assert shown == "| a trial | 41 statements | Optuna: 20.5 statements | 2.00 × |"


def test_numbers_have_three_digits() -> None:
    assert [number(value) for value in (0.01234, 1.5, 12.0, 123.4)] == [
        "0.0123",
        "1.5",
        "12",
        "123",
    ]
