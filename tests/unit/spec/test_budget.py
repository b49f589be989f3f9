"""`budget` in study files, and when `finish_by` is."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from tests.unit.study.studies import make_spec

from studyflow.errors import SpecError
from studyflow.spec import StudySpec, describe_plan, largest_gpu_hours, moment_of

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("text", "now", "then"),
    [
        ("07:00", "2026-01-05T06:00+01:00", "2026-01-05T07:00+01:00"),
        ("7:00", "2026-01-05T06:00+01:00", "2026-01-05T07:00+01:00"),
        ("07:00", "2026-01-05T07:00+01:00", "2026-01-06T07:00+01:00"),
        ("07:00", "2026-01-05T22:00+01:00", "2026-01-06T07:00+01:00"),
        ("07:00", "2026-01-05T23:30+00:00", "2026-01-06T07:00+01:00"),  # past midnight in Berlin
        # The clock is put forward at 02:00: seven o'clock is an hour nearer.
        ("07:00", "2026-03-28T22:00+01:00", "2026-03-29T07:00+02:00"),
        # It skips 02:30; two and a half hours after midnight it shows 03:30.
        ("02:30", "2026-03-28T22:00+01:00", "2026-03-29T03:30+02:00"),
        # It is put back at 03:00, and shows 02:30 twice: the first that is still to come counts.
        ("02:30", "2026-10-24T22:00+02:00", "2026-10-25T02:30+02:00"),
        ("02:30", "2026-10-25T02:45+02:00", "2026-10-25T02:30+01:00"),
        ("02:30", "2026-10-25T02:10+01:00", "2026-10-25T02:30+01:00"),
        ("02:30", "2026-10-25T02:30+01:00", "2026-10-26T02:30+01:00"),
        ("07:00", "2026-10-24T22:00+02:00", "2026-10-25T07:00+01:00"),
        ("2026-03-01T07:00+05:30", "2026-01-05T06:00+01:00", "2026-03-01T01:30+00:00"),
        ("2020-03-01T07:00Z", "2026-01-05T06:00+01:00", "2020-03-01T07:00+00:00"),
    ],
)
def test_finish_by_is_the_next_such_time_of_the_clock_on_the_wall(
    text: str, now: str, then: str
) -> None:
    assert moment_of(text, at(now), BERLIN) == at(then)


@pytest.mark.parametrize("text", ["soon", "25:00", "07:60", "2026-03-01", "2026-03-01T07:00", "7"])
def test_a_time_that_could_mean_several_is_refused_with_the_fix(text: str) -> None:
    with pytest.raises(SpecError, match="finish_by") as caught:
        make_spec(budget={"n_trials": 3, "finish_by": text})
    assert "2026-03-01T07:00+01:00" in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [{"gpu_hours": 0}, {"gpu_hours": -1}, {"cost": 0}, {"at_limit": "kill"}]
)
def test_wrong_limits_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        make_spec(budget={"n_trials": 3, **wrong})


@pytest.mark.parametrize(
    ("budget", "timeout_seconds", "row"),
    [
        ({"gpu_hours": 4}, 3600, "counts as 1 slot-hours until one has ended"),
        ({"gpu_hours": 4}, None, "counts as 1/3 of the limit until one has ended; without "),
        ({"gpu_hours": 0.5}, 3600, "more than the limit, so none starts in a new study"),
    ],
)
def test_check_tells_what_a_trial_counts_as_before_one_has_ended(
    budget: dict[str, object], timeout_seconds: int | None, row: str
) -> None:
    trial = {"command": ["true"], "timeout_seconds": timeout_seconds}
    rows = dict(describe_plan(make_spec(budget={"n_trials": 3, **budget}, trial=trial)))
    assert row in rows["a first trial"]
    assert rows["limits"].endswith("slot-hours; at a limit running trials finish")
    assert "limits" not in dict(describe_plan(make_spec()))


def test_a_budget_of_three_lines_is_read_and_written() -> None:
    text = (
        make_spec()
        .to_yaml()
        .replace(
            "budget: {n_trials: 5}",
            "budget:\n  n_trials: 500\n  gpu_hours: 40\n  finish_by: 07:00",
        )
    )
    spec = StudySpec.from_text(text)
    assert (spec.budget.gpu_hours, spec.budget.finish_by) == (40.0, "07:00")
    assert spec.budget.is_metered
    assert StudySpec.from_text(spec.to_yaml()) == spec


@pytest.mark.parametrize(
    ("budget", "trials", "longest"),
    [
        ({"gpu_hours": 40}, "as many as gpu_hours allows", "1 d 17 h"),
        ({"cost": 5}, "as many as cost allows", "until budget.cost ends it"),
        ({"finish_by": "07:00"}, "as many as finish_by allows", "until budget.finish_by ends it"),
        ({"timeout_seconds": 7200}, "as many as timeout_seconds allows", "3 h"),
        (
            {"gpu_hours": 40, "timeout_seconds": 7200},
            "as many as gpu_hours and timeout_seconds allow",
            "3 h",
        ),
    ],
)
def test_each_limit_alone_bounds_a_study_without_a_number_of_trials(
    budget: dict[str, object], trials: str, longest: str
) -> None:
    spec = make_spec(budget=budget, trial={"command": ["true"], "timeout_seconds": 3600})
    rows = dict(describe_plan(spec))
    assert spec.budget.n_trials is None
    assert (rows["trials"], rows["longest possible time"]) == (trials, longest)
    assert StudySpec.from_text(spec.to_yaml()) == spec


@pytest.mark.parametrize("budget", [{}, {"max_parallel_trials": 4}, {"n_trials": None}])
def test_a_budget_without_any_limit_is_refused_with_the_fix(budget: dict[str, object]) -> None:
    with pytest.raises(SpecError) as caught:
        make_spec(budget=budget)
    assert (
        "budget: a budget must have one of n_trials, gpu_hours, cost, finish_by, timeout_seconds, "
        "but it has none. Hint: add n_trials, the trials to finish, or another limit."
    ) in str(caught.value)


def test_a_misspelt_limit_is_one_problem() -> None:
    with pytest.raises(SpecError) as caught:
        make_spec(budget={"ntrials": 3})
    assert len(caught.value.problems) == 1
    assert "did you mean 'n_trials'?" in str(caught.value)


@pytest.mark.parametrize(
    ("budget", "hours"),
    [
        ({"gpu_hours": 40}, 40 + 3 * 2),  # spent, and three trials of two GPUs in flight
        ({"timeout_seconds": 7200}, 3 * 3 * 2),
        ({"cost": 9}, None),
    ],
)
def test_gpu_hours_without_a_number_of_trials_are_bounded_by_the_limit_and_what_is_in_flight(
    budget: dict[str, object], hours: float | None
) -> None:
    trial = {"command": ["true"], "timeout_seconds": 3600, "resources": {"gpu": 2}}
    spec = make_spec(budget={"max_parallel_trials": 3, **budget}, trial=trial)
    assert largest_gpu_hours(spec) == hours
