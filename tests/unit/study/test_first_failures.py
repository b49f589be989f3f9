"""Which failures before any success end a study. A table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest
from tests.unit.study.studies import make_spec, record

from studyflow.reasons import Code
from studyflow.study.first_failures import (
    decisive,
    first_failures,
    is_free,
    seconds_to_outlast,
    why_stopped,
)
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord

IMPORT: Final = "ModuleNotFoundError: No module named 'data'"


def failed(
    number: int, message: str = IMPORT, x: float | None = None, **changes: Any
) -> TrialRecord:
    """Return a free failure; its parameters differ from all others' unless given."""
    known = record(number, cause=Cause.USER_ERROR, message=message)
    params = {"x": number / 100 if x is None else x}
    return replace(known, params=params, is_first_failure=True, **changes)


@pytest.mark.parametrize(
    ("records", "changes", "numbers"),
    [
        ([], {}, []),
        ([failed(0)], {}, []),
        ([failed(0), failed(1)], {}, []),
        ([failed(0), failed(1), failed(2)], {}, [0, 1, 2]),
        ([failed(n) for n in range(5)], {}, [0, 1, 2, 3, 4]),
        ([failed(0), failed(1), failed(2, "ValueError: x")], {}, []),
        ([failed(0), failed(1, "ValueError: x"), failed(2), failed(3)], {}, [0, 2, 3]),
        ([failed(n, f"shape {n} is wrong") for n in range(3)], {}, [0, 1, 2]),
        ([failed(n, x=0.5) for n in range(5)], {}, []),
        ([failed(0, x=0.5), failed(1, x=0.5), failed(2)], {}, []),
        ([failed(0, code=Code.METRIC_MISNAMED)], {}, [0]),
        ([failed(0, code=Code.METRIC_MISSING)], {}, []),
        ([failed(0, code=Code.EXECUTOR_REFUSED)], {}, [0]),
        ([failed(0)], {"stop": {"first_failures": 1}}, [0]),
        ([failed(0)], {"budget": {"n_trials": 1}}, [0]),
        ([failed(0), failed(1)], {"stop": {"alike_failures": 2}}, [0, 1]),
        ([failed(n) for n in range(9)], {"stop": {"first_failures": 0}}, []),
        ([failed(0, code=Code.METRIC_MISNAMED)], {"stop": {"first_failures": 0}}, []),
    ],
)
def test_a_study_ends_by_a_sure_failure_or_a_few_alike_of_different_parameters(
    records: list[TrialRecord], changes: dict[str, Any], numbers: list[int]
) -> None:
    assert [r.number for r in decisive(records, make_spec(**changes))] == numbers


def test_with_a_success_and_for_those_of_earlier_runs_nothing_counts() -> None:
    failures = [failed(n) for n in range(3)]
    diverged = record(3, cause=Cause.NAN)

    assert first_failures(failures, {0, 1}) == (failures[2],)
    assert first_failures([*failures, record(3, 0.5)]) == ()
    assert first_failures([*failures, diverged]) == ()
    assert len(first_failures([*failures, replace(record(3, 0.5), is_taken_over=True)])) == 3


def test_only_as_many_are_free_as_can_end_a_study_and_those_that_come_after_its_end() -> None:
    alike = [failed(n) for n in range(3)]
    different = [failed(n, f"KeyError: '{'abc'[n]}'") for n in range(3)]

    assert is_free(alike[:2], make_spec())
    assert is_free(alike, make_spec())
    assert not is_free(different, make_spec())
    assert not is_free([], make_spec(stop={"first_failures": 0}))


def test_the_longest_failure_sets_how_long_a_script_has_to_run() -> None:
    assert seconds_to_outlast([]) == 0.0
    assert seconds_to_outlast([failed(0), failed(1, trained_seconds=20.0)]) == 30.0


def test_the_reason_names_all_alike_failures_and_what_goes_on() -> None:
    reason = why_stopped([failed(n) for n in range(3)])

    assert reason.code is Code.FAILED_ALIKE
    assert reason.message == (
        f"Before any trial succeeded, trials 0, 1, 2 failed alike (user-error): {IMPORT}"
    )
    assert reason.hint == (
        "fix the script or its environment. Then run the study again: this has cost no budget. "
        "With --retry-failed the same parameters are tried again."
    )
