"""The timeline's slices: when a trial ran that was paused in between."""

from __future__ import annotations

from studyflow.reports.figures.timeline import slices
from studyflow.trial.record import PausedAttempt, Resumption, TrialRecord, TrialState

TWICE = TrialRecord(
    0,
    TrialState.COMPLETE,
    {},
    attempt=3,
    started_at=10.0,
    finished_at=100.0,
    pauses=(PausedAttempt(1, ended_at=20.0), PausedAttempt(2, ended_at=50.0)),
    resumptions=(Resumption(2, at=40.0), Resumption(3, at=80.0)),
)


def test_a_trial_has_a_slice_for_each_time_that_it_ran() -> None:
    assert slices(TWICE, 200.0) == [(10.0, 20.0), (40.0, 50.0), (80.0, 100.0)]


def test_a_trial_that_was_never_paused_has_one() -> None:
    record = TrialRecord(0, TrialState.RUNNING, {}, attempt=1, started_at=10.0)
    assert slices(record, 200.0) == [(10.0, 200.0)]


def test_the_time_that_a_trial_waited_until_it_was_pruned_is_no_slice() -> None:
    pruned = TrialRecord(
        0,
        TrialState.PRUNED,
        {},
        attempt=1,
        started_at=10.0,
        finished_at=100.0,
        pauses=(PausedAttempt(1, ended_at=20.0),),
    )
    assert slices(pruned, 200.0) == [(10.0, 20.0)]


def test_a_clock_that_was_set_back_makes_no_slice_of_less_than_nothing() -> None:
    record = TrialRecord(
        0,
        TrialState.COMPLETE,
        {},
        attempt=2,
        started_at=10.0,
        finished_at=25.0,
        pauses=(PausedAttempt(1, ended_at=5.0),),
        resumptions=(Resumption(2, at=30.0),),
    )
    assert slices(record, 200.0) == [(10.0, 10.0), (30.0, 30.0)]
