"""What a study has spent over time, as its report draws it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.reports.studies import SMALL, START, make_spec, make_study

from studyflow.reports import StudyData
from studyflow.reports.chart import NARROW
from studyflow.reports.spending import spending_table
from studyflow.reports.spending_chart import draw_spending, spending_curve
from studyflow.trial import Cause
from studyflow.trial.cost import AttemptCost


def metered(ends: tuple[float | None, ...], **budget: Any) -> StudyData:
    """Return a study whose attempts took an hour each and ended so many hours after its start."""
    data = make_study(make_spec(SMALL, budget={"n_trials": 10, **budget}), len(ends))
    records = []
    for record, hours in zip(data.records, ends, strict=True):
        at = None if hours is None else START + 3600 * hours
        cost = AttemptCost(1, Cause.OK, 3600.0, recorded_at=at)
        records.append(replace(record, costs=(cost,), started_at=START))
    return StudyData(data.spec, tuple(records))


def test_each_end_adds_what_its_attempt_cost() -> None:
    curve = spending_curve(metered((2.0, 1.0, 4.0)))
    assert curve is not None
    assert curve.points == ((0.0, 0.0), (1.0, 1.0), (2.0, 2.0), (4.0, 3.0))
    assert (curve.forecast, curve.limit) == (None, None)


def test_what_ended_at_an_unknown_time_counts_from_the_beginning() -> None:
    curve = spending_curve(metered((2.0, None, 4.0)))
    assert curve is not None
    assert curve.points == ((0.0, 1.0), (2.0, 2.0), (4.0, 3.0))


def test_the_forecast_is_where_the_rate_so_far_leads() -> None:
    curve = spending_curve(metered((1.0, 2.0), gpu_hours=6.0))
    assert curve is not None
    assert curve.limit == 6.0
    assert curve.forecast == pytest.approx((6.0, 6.0))


def test_one_ended_attempt_is_no_curve() -> None:
    assert spending_curve(metered((1.0,))) is None


def test_the_report_draws_the_limit_and_the_forecast_within_the_picture() -> None:
    data = metered((1.0, 2.0), gpu_hours=6.0)
    table = spending_table(data)
    assert table is not None
    assert [panel.canvas.width for panel in table.over_time] == [600.0, NARROW]
    for panel in table.over_time:
        assert panel.alt == "Slot-hours spent over time: 2 of 6, forecast 6."
        assert "limit 6" in panel.html
        assert "forecast 6" in panel.html


def test_a_study_without_a_limit_has_neither_line() -> None:
    curve = spending_curve(metered((1.0, 2.0)))
    assert curve is not None
    panel = draw_spending(curve, "GPU-hours", 600.0)
    assert panel.alt == "GPU-hours spent over time: 2."
    assert "dash" not in panel.html
