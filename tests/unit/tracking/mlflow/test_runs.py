"""Which of several runs stands for a trial."""

from __future__ import annotations

import dataclasses

from studyflow.tracking.mlflow.runs import Candidate, ranked

EMPTY = Candidate("b", 2, is_open=True, is_final=False, has_metrics=False, has_params=False)


def ids(*runs: Candidate, known: str | None = None) -> str:
    return "".join(run.run_id for run in ranked(runs, known))


def test_the_fullest_run_stands_for_a_trial_and_of_equal_ones_the_first() -> None:
    final = dataclasses.replace(EMPTY, run_id="f", is_open=False, is_final=True)
    reported = dataclasses.replace(EMPTY, run_id="m", has_metrics=True)
    opened = dataclasses.replace(EMPTY, run_id="p", has_params=True)
    earlier = dataclasses.replace(EMPTY, run_id="z", start_ms=1)
    assert ids(EMPTY, earlier, opened, reported, final) == "fmpzb"


def test_the_run_that_is_used_already_goes_before_all_others() -> None:
    final = dataclasses.replace(EMPTY, run_id="f", is_open=False, is_final=True)
    assert ids(final, EMPTY, known="b") == "bf"


def test_only_a_run_that_nothing_was_logged_to_may_be_deleted() -> None:
    assert EMPTY.is_empty
    assert not dataclasses.replace(EMPTY, has_metrics=True).is_empty
    assert not dataclasses.replace(EMPTY, is_open=False).is_empty
