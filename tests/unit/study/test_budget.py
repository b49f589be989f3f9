"""What counts towards a study's budget."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.study.studies import make_spec, record

from studyflow.reasons import Code
from studyflow.study import (
    has_its_trials,
    is_counted,
    n_trials_left,
    n_trials_to_finish,
    why_spent,
)
from studyflow.trial import Cause
from studyflow.trial.cost import AttemptCost
from studyflow.trial.record import TrialRecord, TrialState


@pytest.mark.parametrize(
    ("trial", "counts"),
    [
        (record(0, 1.0), True),
        (record(0, cause=Cause.USER_ERROR), True),
        (record(0, cause=Cause.PRUNED, state=TrialState.PRUNED), True),
        (record(0, cause=Cause.LOST), True),
        (record(0, cause=Cause.CANCELLED), False),
        (record(0, 1.0, is_taken_over=True), False),
        (record(0, state=TrialState.RUNNING), False),
        (record(0, state=TrialState.WAITING), False),
    ],
)
def test_what_counts_towards_the_budget(trial: object, counts: bool) -> None:
    assert is_counted(trial) is counts  # type: ignore[arg-type]


GRID = {"sampler": {"type": "grid"}, "search_space": {"x": {"type": "int", "low": 1, "high": 9}}}


@pytest.mark.parametrize(
    ("changes", "n"),
    [
        ({"budget": {"n_trials": 5}}, 5),
        ({"budget": {"n_trials": 50}, **GRID}, 9),
        ({"budget": {"gpu_hours": 4}}, None),
        ({"budget": {"gpu_hours": 4}, **GRID}, 9),
    ],
)
def test_trials_end_a_study_where_their_number_has_a_limit(
    changes: dict[str, Any], n: int | None
) -> None:
    assert n_trials_to_finish(make_spec(**changes)) == n


def test_a_study_without_a_number_of_trials_never_has_them_all() -> None:
    assert [has_its_trials(5, n) for n in (4, 5, 6)] == [False, True, True]
    assert not has_its_trials(None, 10**9)
    assert [n_trials_left(5, n) for n in (4, 5, 6)] == [1, 0, 0]
    assert n_trials_left(None, 10**9) is None


HOUR = 3600.0
HOURLY = tuple(
    replace(record(n, 0.5), costs=(AttemptCost(1, Cause.OK, HOUR),), finished_at=n * HOUR)
    for n in range(3)
)


@pytest.mark.parametrize(
    ("budget", "records", "finish_at", "code"),
    [
        ({"n_trials": 3}, HOURLY, None, None),  # which the number of trials says
        ({"gpu_hours": 4.0}, HOURLY, None, None),
        ({"gpu_hours": 3.5}, HOURLY, None, Code.GPU_HOURS_SPENT),
        ({"gpu_hours": 3.5}, (*HOURLY, record(3, state=TrialState.RUNNING)), None, None),
        # The last suggestion did not fit; a usual one would.
        (
            {"gpu_hours": 4.5},
            (*HOURLY, replace(record(3, cause=Cause.BUDGET), finished_at=4 * HOUR)),
            None,
            Cause.BUDGET,
        ),
        ({"finish_by": "07:00"}, HOURLY, 10 * HOUR, None),
        ({"finish_by": "07:00"}, HOURLY, 5.5 * HOUR, Code.FINISH_TIME_REACHED),
        ({"finish_by": "07:00"}, HOURLY, None, None),  # no run has asked for it yet
        ({"timeout_seconds": 60}, HOURLY, None, None),  # which counts anew in each run
    ],
)
def test_a_stored_study_is_spent_if_one_more_trial_does_not_fit(
    budget: dict[str, Any],
    records: tuple[TrialRecord, ...],
    finish_at: float | None,
    code: object,
) -> None:
    found = why_spent(make_spec(budget=budget), records, finish_at, now=5 * HOUR)
    assert (found and found.code) == code
