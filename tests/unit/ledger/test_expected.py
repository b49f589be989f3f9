"""How many trials a budget without a number of them is expected to make."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.study.studies import make_spec

from studyflow.ledger.expected import expected_trials
from studyflow.ledger.statement import Statement, statement
from studyflow.trial import Cause
from studyflow.trial.cost import AttemptCost
from studyflow.trial.record import TrialRecord, TrialState

HOUR = 3600.0


def stand(
    n_ended: int,
    timeout_seconds: float | None = None,
    finish_at: float | None = None,
    **budget: Any,
) -> Statement:
    """Return how a study stands after some trials of an hour each."""
    trial = {"command": ["true"], "timeout_seconds": timeout_seconds}
    spec = make_spec(budget={"max_parallel_trials": 2, **budget}, trial=trial)
    records = [
        TrialRecord(
            number,
            TrialState.COMPLETE,
            {"x": 0.5},
            values=(0.5,),
            cause=Cause.OK,
            costs=(AttemptCost(1, Cause.OK, HOUR, recorded_at=HOUR),),
        )
        for number in range(n_ended)
    ]
    return statement(spec, records, n_left=None, now=HOUR, finish_at=finish_at)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (stand(0, gpu_hours=40), None),
        (stand(0, 1800, gpu_hours=40), "at least 80, if each takes trial.timeout_seconds"),
        (stand(1, gpu_hours=40), "about 39, by what one that has ended took"),
        (stand(4, 1800, gpu_hours=40), "about 36, by what 4 that have ended took"),
        (stand(4, gpu_hours=3), "about 0, by what 4 that have ended took"),
        # Two at once: by 3.5 hours from now three of each can end.
        (
            stand(4, finish_at=4.5 * HOUR, finish_by="07:00"),
            "about 6, by what 4 that have ended took",
        ),
        # After 2.5 hours no further one starts: the third of each does.
        (
            stand(4, timeout_seconds=None, gpu_hours=5.5),
            "about 1, by what 4 that have ended took",
        ),
    ],
)
def test_what_is_known_says_how_many_trials_to_expect(found: Statement, text: str | None) -> None:
    expected = expected_trials(found, slots=2)
    assert (expected and str(expected)) == text


def test_a_runs_own_time_lets_trials_start_until_it_is_up() -> None:
    spec = make_spec(budget={"timeout_seconds": 2.5 * HOUR})
    ended = stand(3, gpu_hours=1e6)
    expected = expected_trials(Statement(spec, ended.total, ended.account), slots=2)
    assert expected is not None
    assert expected.number == 6
