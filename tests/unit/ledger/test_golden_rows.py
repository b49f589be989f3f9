"""What studies recorded before there was a ledger cost: rows estimated from what they kept.

The studies are those of `tests/golden`, as earlier versions left them in the middle. Two of their
trials ran when everything was killed: nobody has recorded their end, so there is no row of it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from studyflow.ledger import all_rows, spending
from studyflow.ledger.statement import statement
from studyflow.spec import StudySpec
from studyflow.storage import open_storage
from studyflow.study import find_study, load_records
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord

GOLDEN = Path(__file__).parents[2] / "golden"

ROWS = {
    "study-format-1": [
        (0, 1, Cause.OK, 0.233, 0.0, 1795658395.478),
        (1, 1, Cause.OK, 0.230, 0.0, 1795658395.546),
        (2, 1, Cause.OK, 0.229, 0.0, 1795658395.817),
    ],
    "study-format-1-lost": [
        (0, 1, Cause.OK, 4.081, 0.0, 1796047568.262),
        (1, 1, Cause.LOST, 1.498, 1.498, 1796047565.813),
        (1, 2, Cause.OK, 0.419, 0.0, 1796047567.045),
        (2, 1, Cause.OK, 0.347, 0.0, 1796047566.327),
    ],
}
"""By study: trial, attempt, cause, its seconds, of these lost, and when it ended."""

SUMS = {"study-format-1": (3, 0.693, 0.0), "study-format-1-lost": (4, 6.345, 1.498)}
"""By study: attempts, their seconds, and of these lost."""


def load(kept: str, folder: Path) -> tuple[StudySpec | None, tuple[TrialRecord, ...]]:
    """Return the file and the trials of a golden study, read from a copy."""
    journal = shutil.copy(GOLDEN / kept / "studies.journal", folder)
    return load_records(find_study("kill", open_storage(f"journal:///{journal}", create=False)))


def read(kept: str, folder: Path) -> tuple[TrialRecord, ...]:
    return load(kept, folder)[1]


@pytest.mark.parametrize("kept", ROWS)
def test_attempts_from_before_the_ledger_have_estimated_rows(kept: str, tmp_path: Path) -> None:
    records = read(kept, tmp_path)
    found = [(record.number, row) for record in records for row in all_rows([record])]
    assert [
        (number, row.attempt, row.cause, *(round(x, 3) for x in (row.seconds, row.lost_seconds)))
        for number, row in found
    ] == [row[:5] for row in ROWS[kept]]
    assert [round(row.recorded_at or 0.0, 3) for _, row in found] == [row[5] for row in ROWS[kept]]
    assert all(row.is_estimate for _, row in found)
    assert all((row.gpus, row.price, row.startup_seconds) == (0, None, None) for _, row in found)


@pytest.mark.parametrize("kept", SUMS)
def test_their_sums_are_marked_as_estimates(kept: str, tmp_path: Path) -> None:
    n, seconds, lost = SUMS[kept]
    total = spending(all_rows(read(kept, tmp_path)))
    assert (total.n_attempts, total.n_estimates, total.n_unpriced) == (n, n, n)
    assert (total.gpu_seconds, total.money) == (0.0, 0.0)
    assert total.place_seconds == pytest.approx(seconds, abs=5e-4)
    assert total.lost_seconds == pytest.approx(lost, abs=5e-4)


@pytest.mark.parametrize("kept", SUMS)
def test_a_plan_says_how_many_attempts_are_estimated(kept: str, tmp_path: Path) -> None:
    spec, records = load(kept, tmp_path)
    assert spec is not None
    n = SUMS[kept][0]
    spent = dict(statement(spec, records, n_left=3).rows())["spent"]
    assert spent.endswith(f"{n} of {n} attempts estimated")


@pytest.mark.parametrize("kept", ROWS)
def test_attempts_are_taken_to_hold_the_gpus_that_the_study_asks_for_now(
    kept: str, tmp_path: Path
) -> None:
    rows = all_rows(read(kept, tmp_path), gpus=2)
    assert {row.gpus for row in rows} == {2}
    assert spending(rows).gpu_seconds == pytest.approx(2 * SUMS[kept][1], abs=1e-3)
