"""Which of a trial's processes reports."""

from __future__ import annotations

import pytest

from studyflow.sdk.reporting_process import ReportingProcess
from studyflow.trial import Trial

TRIAL = Trial("demo", 3, {"lr": 0.1})


@pytest.mark.parametrize(
    ("environment", "reports"),
    [
        ({}, True),
        ({"RANK": "0", "WORLD_SIZE": "2"}, True),
        ({"RANK": "1", "WORLD_SIZE": "2"}, False),
        ({"RANK": "1"}, True),
    ],
)
def test_the_first_process_of_rank_0_reports(environment: dict[str, str], reports: bool) -> None:
    process = ReportingProcess(TRIAL, environment)
    assert process.is_first
    assert process.reports is reports


def test_who_has_reported_goes_on_whatever_rank_it_sets_for_others() -> None:
    environment: dict[str, str] = {}
    process = ReportingProcess(TRIAL, environment)
    process.note_report()
    environment.update(RANK="1", WORLD_SIZE="2")
    assert process.reports


def test_another_rank_says_once_that_it_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    process = ReportingProcess(TRIAL, {"RANK": "1", "WORLD_SIZE": "2"})
    assert not process.reports_or_says_why_not("finish")
    assert not process.reports_or_says_why_not("finish")
    assert capsys.readouterr().err.count("\n") == 1
