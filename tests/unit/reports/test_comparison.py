"""Several samplers on one problem: what their runs say, and what they do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from tests.unit.study.studies import make_spec

from studyflow.reports import StudyData
from studyflow.reports.chart import as_file
from studyflow.reports.comparison import (
    Comparison,
    Run,
    best_so_far,
    comparison_csv,
    comparison_markdown,
    draw_comparison,
)
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState

NAN = math.nan


def run(sampler: str, seed: int, values: Sequence[float | None], **changes: Any) -> Run:
    """Return a run whose trials ended with these values; `None` for a failure."""
    records = tuple(
        TrialRecord(
            number,
            TrialState.FAILED if value is None else TrialState.COMPLETE,
            {"x": 0.5},
            values=None if value is None else (value,),
            cause=Cause.USER_ERROR if value is None else Cause.OK,
            started_at=float(number),
            finished_at=number + 0.5,
        )
        for number, value in enumerate(values)
    )
    return Run(sampler, seed, StudyData(make_spec(**changes), records))


def compared(*runs: Run, direction: str = "minimize") -> Comparison:
    return Comparison("demo", "loss", direction, runs)


CLEAR = compared(
    run("random", 0, [9.0, 8.0, 8.5, 6.0]),
    run("random", 1, [7.0, 7.5, 5.0, 9.0]),
    run("tpe", 0, [9.0, 3.0, 4.0, 2.0]),
    run("tpe", 1, [7.0, 2.0, 1.0, 3.0]),
)


def test_the_best_so_far_counts_failed_trials_and_never_worsens() -> None:
    data = run("tpe", 0, [None, 3.0, 4.0, None, 1.0]).data
    assert best_so_far(data, 6) == pytest.approx([NAN, 3.0, 3.0, 3.0, 1.0, 1.0], nan_ok=True)
    assert best_so_far(data, 2) == pytest.approx([NAN, 3.0], nan_ok=True)


def test_a_cancelled_trial_cost_no_budget_and_does_not_count() -> None:
    data = run("tpe", 0, [None, 3.0, 1.0]).data
    first, *others = data.records
    cancelled = StudyData(data.spec, (replace(first, cause=Cause.CANCELLED), *others))
    found = compared(Run("tpe", 0, cancelled))
    assert found.n_trials == 2
    assert found.curves["tpe"].tolist() == [[3.0, 1.0]]


def test_trials_count_in_the_order_in_which_they_ended() -> None:
    data = run("tpe", 0, [3.0, 1.0]).data
    slow, quick = data.records
    slow = TrialRecord(0, slow.state, slow.params, values=slow.values, finished_at=9.0)
    swapped = StudyData(data.spec, (slow, quick))
    assert best_so_far(swapped, 2).tolist() == [1.0, 1.0]


def test_the_table_puts_the_best_by_rank_first() -> None:
    first, second = CLEAR.rows
    assert (first.sampler, first.n_runs, first.mean_rank) == ("tpe", 2, 1.0)
    assert (first.median, first.best, first.worst) == (1.5, 1.0, 2.0)
    assert (second.sampler, second.mean_rank) == ("random", 2.0)


def test_trials_to_match_are_those_until_the_median_run_was_as_good_as_the_last_sampler() -> None:
    assert {row.sampler: row.median_trials for row in CLEAR.rows} == {"tpe": 2, "random": 4}


def test_equal_results_share_a_rank() -> None:
    rows = compared(run("a", 0, [1.0]), run("b", 0, [1.0]), run("c", 0, [2.0])).rows
    assert {row.sampler: row.mean_rank for row in rows} == {"a": 1.5, "b": 1.5, "c": 3.0}


def test_the_verdict_says_whether_the_runs_tell_the_samplers_apart() -> None:
    assert CLEAR.verdict == "tpe found the best loss: 1.5 in the median of 2 runs"
    close = compared(
        run("gp", 0, [2.0]), run("gp", 1, [1.0]), run("tpe", 0, [2.5]), run("tpe", 1, [1.5])
    )
    assert close.verdict.endswith("; its runs overlap with those of tpe")


def test_a_maximised_objective_is_better_when_larger() -> None:
    objectives = [{"metric": "loss", "direction": "maximize"}]
    found = compared(
        run("a", 0, [1.0, 5.0], objectives=objectives),
        run("b", 0, [2.0, 3.0], objectives=objectives),
        direction="maximize",
    )
    assert [(row.sampler, row.best) for row in found.rows] == [("a", 5.0), ("b", 3.0)]
    assert found.curves["a"].tolist() == [[1.0, 5.0]]


def test_a_sampler_without_any_result_is_last_and_has_dashes() -> None:
    found = compared(run("broken", 0, [None, None]), run("tpe", 0, [2.0, 1.0]))
    assert [row.sampler for row in found.rows] == ["tpe", "broken"]
    assert found.rows[1].median is None
    assert "| broken | 1 | – | – | – | 2.00 | – |" in comparison_markdown(found)


def test_a_comparison_without_any_result_says_so() -> None:
    assert "no run has a result" in compared(run("a", 0, [None]), run("b", 0, [None])).headline
    assert "no run has a result" in compared().headline


def test_a_run_that_ended_early_keeps_its_last_value() -> None:
    found = compared(run("a", 0, [3.0, 2.0, 1.0]), run("b", 0, [2.5]))
    assert found.curves["b"].tolist() == [[2.5, 2.5, 2.5]]


def test_few_runs_are_all_in_the_band_and_of_many_the_middle_half() -> None:
    few = compared(*(run("a", s, [float(s)]) for s in range(3)))
    many = compared(*(run("a", s, [float(s)]) for s in range(5)))
    assert [end.tolist() for end in few.band(few.curves["a"])] == [[0.0], [2.0]]
    assert [end.tolist() for end in many.band(many.curves["a"])] == [[1.0], [3.0]]


def test_the_median_is_unknown_while_half_of_the_runs_have_no_value() -> None:
    found = compared(run("a", 0, [None, 1.0]), run("a", 1, [None, 3.0]), run("a", 2, [2.0, 2.0]))
    middle = found.middle(found.curves["a"])
    assert np.isnan(middle[0])
    assert middle[1] == 2.0


def test_the_csv_has_a_line_for_every_trial_of_every_run() -> None:
    lines = comparison_csv(compared(run("a", 0, [None, 1.0]), run("b", 3, [2.0]))).splitlines()
    assert lines == [
        "sampler,seed,trial,loss",
        "a,0,1,",
        "a,0,2,1.0",
        "b,3,1,2.0",
        "b,3,2,2.0",
    ]


@pytest.mark.parametrize(
    "comparison",
    [
        CLEAR,
        compared(run("broken", 0, [None]), run("tpe", 0, [1.0])),
        compared(run("a", 0, [None]), run("b", 0, [None])),
        compared(*(run(f"sampler {i}", 0, [10.0**-i, 10.0 ** (-i - 3)]) for i in range(9))),
    ],
)
def test_it_is_drawn_whatever_the_runs_found(comparison: Comparison) -> None:
    figure = draw_comparison(comparison)
    picture = ET.fromstring(as_file(figure))
    assert "nan" not in {element.get("d", "")[1:4] for element in picture.iter()}
    for sampler in comparison.samplers:
        assert sampler in figure.alt
    assert [key.text for key in figure.keys] == [row.sampler for row in comparison.rows]
