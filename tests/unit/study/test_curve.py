"""What the reports of an attempt decide."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.unit.study.studies import make_spec

from studyflow.spec import StudySpec
from studyflow.study import Curve, apply_curve, last_step_of, last_step_reported, why_diverged
from studyflow.trial import Cause, MetricPoint, Outcome
from studyflow.trial.record import TrialRecord, TrialState

NAN, INF = math.nan, math.inf


def trial_of(**settings: Any) -> StudySpec:
    return make_spec(trial={"command": ["python", "train.py"], **settings})


def curve(values: list[float], spec: StudySpec, first: int = 0) -> Curve:
    points = [MetricPoint("loss", first + i, value, 0) for i, value in enumerate(values)]
    return Curve().extended(points, spec)


def outcome(cause: Cause, **metrics: float) -> Outcome:
    return Outcome("demo", 0, 1, cause, metrics, "said")


def complete(*steps: int, state: TrialState = TrialState.COMPLETE) -> TrialRecord:
    return TrialRecord(0, state, {}, intermediate=dict.fromkeys(steps, 1.0))


@pytest.mark.fault("F71")
@pytest.mark.parametrize(
    ("values", "has_diverged"),
    [
        ([], False),
        ([NAN, NAN], False),
        ([NAN, NAN, 1.0, NAN, NAN], False),
        ([NAN, NAN, NAN], True),
        ([1.0, NAN, INF, -INF], True),
        ([NAN, NAN, NAN, 0.5, 0.25], True),
    ],
)
def test_three_reports_in_a_row_that_are_not_finite_are_a_divergence(
    values: list[float], has_diverged: bool
) -> None:
    spec = make_spec()
    whole = curve(values, spec)
    by_one = Curve()
    for step, value in enumerate(values):
        by_one = by_one.extended([MetricPoint("loss", step, value, 0)], spec)

    assert whole.has_diverged(spec) is by_one.has_diverged(spec) is has_diverged


def test_a_report_of_another_metric_neither_counts_nor_breaks_the_row() -> None:
    spec = make_spec()
    points = [MetricPoint("loss", step, NAN, 0) for step in range(3)]
    others = [MetricPoint("accuracy", 0, 0.5, 0), MetricPoint("accuracy", 9, NAN, 0)]

    assert Curve().extended([*points[:2], *others, points[2]], spec).has_diverged(spec)
    assert Curve().extended(others * 3, spec) == Curve()


def test_the_study_file_says_how_many_reports_are_a_divergence_or_none() -> None:
    one, never = trial_of(nan_reports=1), trial_of(nan_reports=None)

    assert curve([INF], one).has_diverged(one)
    assert not curve([NAN] * 99, never).has_diverged(never)


@pytest.mark.fault("F71")
@pytest.mark.parametrize(
    ("cause", "ends_as"),
    [
        (Cause.OK, Cause.NAN),
        (Cause.PRUNED, Cause.NAN),
        (Cause.NAN, Cause.NAN),
        (Cause.TIMEOUT, Cause.NAN),
        (Cause.USER_ERROR, Cause.NAN),
        (Cause.BAD_METRIC, Cause.NAN),
        (Cause.LOST, Cause.LOST),
        (Cause.EVICTED, Cause.EVICTED),
        (Cause.UNSCHEDULABLE, Cause.UNSCHEDULABLE),
        (Cause.CANCELLED, Cause.CANCELLED),
    ],
)
def test_a_curve_that_diverged_ends_the_trial_as_nan_however_the_attempt_ended(
    cause: Cause, ends_as: Cause
) -> None:
    spec = make_spec()
    judged = apply_curve(spec, outcome(cause, loss=0.5), curve([1.0, NAN, NAN, NAN, 0.5], spec))

    assert judged.cause is ends_as
    if ends_as is Cause.NAN:
        assert judged.metrics == {}
        assert str(judged.reason) == (
            "The training diverged: loss was NaN or infinite in 3 reports in a row, from step 1 "
            "to 3. Hint: if that is no divergence, report only steps with a value, or raise "
            "trial.nan_reports."
        )


@pytest.mark.fault("F70")
@pytest.mark.parametrize(
    ("first", "n_steps", "metrics", "cause"),
    [
        (0, 15, {"loss": 0.5}, Cause.OK),
        (1, 15, {"loss": 0.5}, Cause.OK),
        (0, 14, {"loss": 0.5}, Cause.PRUNED),
        (1, 14, {"loss": 0.5}, Cause.PRUNED),
        (0, 15, {}, Cause.PRUNED),
        (0, 0, {"loss": 0.5}, Cause.PRUNED),
    ],
)
def test_a_pruned_trial_with_every_step_and_its_result_is_not_pruned(
    first: int, n_steps: int, metrics: dict[str, float], cause: Cause
) -> None:
    spec = trial_of(budget=15)
    reports = curve([1.0] * n_steps, spec, first)
    judged = apply_curve(spec, outcome(Cause.PRUNED, **metrics), reports)

    assert judged.cause is cause
    assert judged.metrics == (metrics if cause is Cause.OK else {})
    assert judged.message.endswith("said")


def test_without_a_budget_a_pruned_trial_stays_pruned() -> None:
    spec = make_spec()
    judged = apply_curve(spec, outcome(Cause.PRUNED, loss=0.5), curve([1.0] * 99, spec))

    assert (judged.cause, judged.metrics) == (Cause.PRUNED, {})


@pytest.mark.parametrize(
    ("budget", "records", "last"),
    [
        (15, [], 14),
        (15, [complete(*range(15))], 14),
        (15, [complete(*range(1, 16))], 14),
        (15, [complete(0, 5, 10)], 10),
        (15, [complete(0, 5), complete(0, 5, 10)], 10),
        (None, [complete(0, 1, 2), complete()], 2),
        (None, [complete(7, state=TrialState.PRUNED), complete(7, state=TrialState.FAILED)], None),
        (None, [], None),
    ],
)
def test_the_last_step_is_the_budget_s_or_that_of_complete_trials(
    budget: int | None, records: list[TrialRecord], last: int | None
) -> None:
    spec = make_spec() if budget is None else trial_of(budget=budget)

    assert last_step_of(spec, last_step_reported(records)) == last


def test_an_attempt_that_goes_on_where_another_was_lost_began_at_the_other_s_first_step() -> None:
    spec = trial_of(budget=5)
    later = curve([0.4, 0.3], spec, first=3)

    assert not later.has_every_step(5), "alone it may count from 1"
    assert later.begun_at(0).has_every_step(5)
    assert later.begun_at(7) == later
    assert later.begun_at(None) == later
    assert Curve().begun_at(0) == Curve(), "an attempt that reported nothing has no step"


@pytest.mark.parametrize(
    ("first", "last", "budget", "has"),
    [(0, 4, 5, True), (0, 3, 5, False), (1, 5, 5, True), (1, 4, 5, False), (0, 9, None, False)],
)
def test_steps_count_from_0_or_from_1(first: int, last: int, budget: int | None, has: bool) -> None:
    assert Curve(first, last).has_every_step(budget) is has


def test_steps_need_not_be_reported_in_order() -> None:
    spec = trial_of(budget=5)
    points = [MetricPoint("loss", step, 0.5, 0) for step in (3, 0, 4, 1)]

    found = Curve().extended(points, spec)

    assert (found.first_step, found.last_step) == (0, 4)


def test_a_divergence_names_its_metric_its_steps_and_the_setting() -> None:
    spec = trial_of(nan_reports=2)

    several, one = why_diverged(spec, curve([NAN, NAN], spec, 7)), Curve(4, 4, (4,))

    assert (several.code, several.message) == (
        Cause.NAN,
        "The training diverged: loss was NaN or infinite in 2 reports in a row, from step 7 to 8.",
    )
    assert several.hint is not None
    assert "trial.nan_reports" in several.hint
    assert why_diverged(spec, one).message.endswith("in 1 report, at step 4.")
