"""What is prepared, and when an old suggestion is good enough: the table."""

from __future__ import annotations

import math

import pytest

from studyflow.samplers.ahead.policy import Demand, Plan, is_good_enough, next_to_make, plan

HOUR = 3600.0


def demand(
    n_free: int = 1,
    n_slots: int = 8,
    room: int = 100,
    trial: float | None = 1.0,
    suggestion: float | None = 0.1,
) -> Demand:
    return Demand(n_free, n_slots, room, trial, suggestion)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # nothing is known yet: each waits for its own
        (demand(trial=None), Plan(1)),
        (demand(suggestion=None, n_free=8), Plan(8)),
        # trials of an hour: two seconds are nothing, and nothing is made that may be outdated
        (demand(trial=HOUR, suggestion=2.0), Plan(1)),
        (demand(trial=HOUR, suggestion=2.0, n_free=0), Plan(0)),
        (demand(trial=HOUR, suggestion=2.0, n_free=3), Plan(3)),
        # exactly a fiftieth of a trial still is
        (demand(trial=5.0, suggestion=0.1), Plan(1)),
        # trials of a second in 8 slots: as many as become free while one is made, and one more
        (demand(suggestion=0.05), Plan(2, takes_stale=True)),
        (demand(suggestion=0.05, n_free=0), Plan(2, takes_stale=True)),
        (demand(suggestion=0.1), Plan(2, takes_stale=True, is_search_short=True)),
        (demand(suggestion=0.5), Plan(5, takes_stale=True, is_search_short=True)),
        (demand(suggestion=5.0), Plan(8, takes_stale=True, is_search_short=True)),
        # never more than the slots, and never more than the budget allows
        (demand(trial=0.0), Plan(8, takes_stale=True, is_search_short=True)),
        (demand(suggestion=0.5, room=2), Plan(2, takes_stale=True, is_search_short=True)),
        (demand(suggestion=0.5, room=0), Plan(0, takes_stale=True, is_search_short=True)),
        (demand(n_free=8, room=3, trial=HOUR), Plan(3)),
        # one slot: each result is waited for, whatever it costs
        (demand(n_slots=1, suggestion=5.0), Plan(1)),
    ],
)
def test_what_is_prepared(given: Demand, expected: Plan) -> None:
    assert plan(given) == expected


@pytest.mark.parametrize(
    ("n_missed", "takes_stale", "expected"),
    [(0, False, True), (1, False, False), (0, True, True), (8, True, True), (9, True, False)],
)
def test_a_suggestion_misses_at_most_as_many_results_as_there_are_slots(
    n_missed: int, takes_stale: bool, expected: bool
) -> None:
    assert is_good_enough(n_missed, 8, takes_stale=takes_stale) is expected


@pytest.mark.parametrize(
    ("n_missed", "wanted", "expected"),
    [
        ({}, Plan(0), None),
        ({}, Plan(2), 5),
        ({5: 0}, Plan(2), 6),
        ({5: 0, 6: 0}, Plan(2), None),
        # each builds on those before it, unless a slot would wait longer for it
        ({5: 1}, Plan(2), 5),
        ({5: 1}, Plan(2, takes_stale=True), 6),
        ({5: 0, 6: 2}, Plan(2, takes_stale=True), 6),
        ({5: 1, 6: 2}, Plan(2, takes_stale=True), 5),
        # what is wanted no longer is not made anew
        ({5: 0, 6: 2}, Plan(1, takes_stale=True), None),
    ],
)
def test_which_suggestion_is_made_next(
    n_missed: dict[int, int], wanted: Plan, expected: int | None
) -> None:
    assert next_to_make(n_missed, 5, wanted) == expected


def test_a_longer_trial_never_has_more_prepared() -> None:
    seconds = [0.0, 0.01, 0.1, 1.0, 10.0, 100.0, math.inf]
    wanted = [plan(demand(n_free=0, trial=trial)).n_wanted for trial in seconds]
    assert wanted == sorted(wanted, reverse=True)
    assert wanted[-1] == 0
