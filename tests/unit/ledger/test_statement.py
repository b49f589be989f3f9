"""What a study has spent and has left, as people and programs are told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.study.studies import make_spec

from studyflow.ledger import Prices
from studyflow.ledger.statement import statement
from studyflow.reports import StudyData, summary_markdown
from studyflow.reports.tracked import study_summary
from studyflow.tracking.mlflow.documents import summary_tags
from studyflow.trial import Cause
from studyflow.trial.cost import AttemptCost, Begin
from studyflow.trial.record import TrialRecord, TrialState

HOUR = 3600.0
SPEC = make_spec(
    budget={"n_trials": 10, "gpu_hours": 12.0},
    trial={"command": ["true"], "resources": {"gpu": 1}, "timeout_seconds": 7200},
)
ROW = AttemptCost(
    1, Cause.OK, 2 * HOUR, 1, "gpu", price=3.0, startup_seconds=360.0, recorded_at=2 * HOUR
)
LOST = AttemptCost(1, Cause.EVICTED, HOUR, 1, "gpu", lost_seconds=HOUR, is_estimate=True)


def trial(number: int, *costs: AttemptCost) -> TrialRecord:
    done = TrialState.COMPLETE
    return TrialRecord(
        number, done, {"x": 0.5}, values=(0.5,), cause=Cause.OK, costs=costs, attempt=len(costs)
    )


SPENT = (
    "5 GPU-hours, cost 12.00, 1 lost with attempts, 0.2 until first reports, "
    "1 of 3 attempts estimated"
)
DONE = (trial(0, ROW), trial(1, LOST, replace(ROW, attempt=2)))
RUNNING = TrialRecord(2, TrialState.RUNNING, {"x": 0.5}, attempt=1, begin=Begin(1, 2 * HOUR))


def test_a_study_that_goes_on_says_what_is_spent_committed_left_and_to_come() -> None:
    found = statement(SPEC, (*DONE, RUNNING), n_left=7, now=3 * HOUR)
    assert found.rows() == (
        ("spent", SPENT),
        ("budget.gpu_hours", "6 of 12 GPU-hours spent, 1 committed, 5 left; forecast 11"),
        ("one trial", "about 2 GPU-hours, by 2 that have ended"),
    )


def test_what_is_in_flight_and_does_not_fit_is_announced() -> None:
    small = make_spec(budget={"n_trials": 10, "gpu_hours": 6.5}, trial=SPEC.trial.model_dump())
    found = statement(small, (*DONE, RUNNING), n_left=7, now=3 * HOUR)
    assert "may end 0.5 above it, by what is in flight" in dict(found.rows())["budget.gpu_hours"]


@pytest.mark.parametrize(
    ("timeout_seconds", "told"),
    [
        (7200, "counts as 2 GPU-hours until one has ended (trial.timeout_seconds)"),
        (None, "counts as 1.2 GPU-hours until one has ended, an equal share"),
    ],
)
def test_a_plan_says_what_a_trial_counts_as_before_one_has_ended(
    timeout_seconds: float | None, told: str
) -> None:
    trial_spec = {**SPEC.trial.model_dump(), "timeout_seconds": timeout_seconds}
    spec = make_spec(budget={"n_trials": 10, "gpu_hours": 12.0}, trial=trial_spec)
    assert dict(statement(spec, (), n_left=10).rows())["one trial"].startswith(told)


def test_a_study_that_has_not_run_and_has_no_limits_says_nothing() -> None:
    found = statement(make_spec(), (), n_left=5)
    assert (found.rows(), found.tags()) == ((), {})


def test_without_a_gpu_hours_are_those_of_slots() -> None:
    row = replace(ROW, gpus=0, resource=None, price=None)
    found = statement(make_spec(), (trial(0, row),), n_left=4, prices=Prices.parse("slot=1"))
    assert dict(found.rows())["spent"].startswith("2 slot-hours")


def test_the_report_mlflow_and_prefect_are_told_the_same() -> None:
    data = StudyData(SPEC, DONE)
    assert "5 of 12 GPU-hours spent" in summary_markdown(data)
    tags = summary_tags(study_summary(data, None, finished=True), ["loss"])
    assert tags["studyflow.budget.gpu_hours.left"] == "7"
    assert tags["studyflow.budget.gpu_hours.spent"] == "5"
    assert (tags["studyflow.spent.hours"], tags["studyflow.spent.cost"]) == ("5", "12")
