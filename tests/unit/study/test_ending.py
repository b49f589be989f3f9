"""What a study whose budget is spent says of its trials."""

from __future__ import annotations

import pytest
from tests.unit.study.studies import make_spec, record

from studyflow.cli.exits import exit_code_of_run
from studyflow.reasons import Code, Reason
from studyflow.study import describe_finished, stop_reason
from studyflow.study.ending import numbers_text
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState


def broken(number: int, message: str = "KeyError: 'lr'") -> TrialRecord:
    return record(number, cause=Cause.USER_ERROR, message=message, state=TrialState.FAILED)


def test_without_failures_only_the_number_is_said() -> None:
    assert describe_finished(make_spec(), [record(0, 1.0), record(1, 2.0)]) == Reason(
        Code.BUDGET_SPENT, "All 2 trials are finished."
    )


def test_most_trials_failing_is_said_with_the_cause_and_the_log_to_read() -> None:
    trials = [record(0, 1.0), record(1, 2.0), *(broken(i) for i in range(2, 6))]

    assert describe_finished(make_spec(), trials) == Reason(
        Code.MOSTLY_FAILED,
        "All 6 trials are finished: 2 complete, 4 failed (user-error: KeyError: 'lr').",
        "studyflow logs demo 5 prints the log of the last one.",
    )


def test_a_single_failure_is_counted_and_leaves_the_budget_just_spent() -> None:
    trials = [broken(0), record(1, 1.0), record(2, cause=Cause.NAN, state=TrialState.FAILED)]

    reason = describe_finished(make_spec(), trials)

    assert reason.code is Code.BUDGET_SPENT
    assert reason.message == (
        "All 3 trials are finished: 1 complete, 2 failed (1 user-error, 1 nan; trial 0: KeyError: "
        "'lr')."
    )


def test_failures_before_a_fix_are_not_held_against_a_study() -> None:
    trials = [*(broken(i) for i in range(7)), *(record(i, 1.0) for i in range(7, 12))]

    assert describe_finished(make_spec(), trials).code is Code.BUDGET_SPENT


@pytest.mark.parametrize(
    ("code", "is_failure", "expected"),
    [
        (Code.BUDGET_SPENT, False, 0),
        (Code.TARGET_REACHED, False, 0),
        (Code.MOSTLY_FAILED, False, 4),
        (Code.FAILED_ALIKE, True, 1),
        (Code.NOTHING_FEASIBLE, True, 1),
    ],
)
def test_the_exit_code_follows_from_the_reason(code: Code, is_failure: bool, expected: int) -> None:
    assert exit_code_of_run(code, is_failure=is_failure) == expected


def test_all_trials_that_failed_alike_are_named() -> None:
    spec = make_spec(stop={"alike_failures": 2})

    reason = stop_reason(spec, [record(0, 1.0), *(broken(i) for i in range(1, 14))])

    assert reason is not None
    assert reason.reason.message.startswith("Trials 1 to 13 failed alike (user-error): KeyError")


def test_half_failing_alike_names_them_too() -> None:
    spec = make_spec(stop={"alike_failures": 2})
    trials = [record(i, 1.0) if i % 2 else broken(i) for i in range(12)]

    reason = stop_reason(spec, trials)

    assert reason is not None
    assert reason.reason.message.startswith(
        "6 of the last 12 trials (0, 2, 4, 6, 8, 10) failed alike (user-error)"
    )


def test_many_numbers_are_joined_where_they_follow_each_other() -> None:
    assert numbers_text([3, 1, 2]) == "1, 2, 3"
    assert numbers_text([*range(9), 11, 12, 20]) == "0 to 8, 11, 12, 20"
