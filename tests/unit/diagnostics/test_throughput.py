"""How fast trials come, and where their time goes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.study.studies import record

from studyflow.diagnostics.throughput import throughput_of
from studyflow.trial import Cause
from studyflow.trial.record import LostAttempt, TrialRecord, TrialState


def trial(number: int, start: float, end: float, **changes: Any) -> TrialRecord:
    done = replace(record(number, 0.5), started_at=start, finished_at=end)
    return replace(done, **changes)


def test_a_study_without_finished_trials_has_no_throughput() -> None:
    assert throughput_of([], [], 5, now=0.0) is None


def test_two_at_once_are_counted_as_two_and_a_night_between_as_nothing() -> None:
    first = [trial(0, 0, 100), trial(1, 0, 100)]
    second = [trial(2, 50_000, 50_100), trial(3, 50_000, 50_100)]

    found = throughput_of(first + second, [], n_left=4, now=90_000)

    assert found is not None
    assert (found.n_trials, found.trials_per_hour, found.parallel) == (4, 72.0, 2.0)
    assert found.seconds_left == 200.0


def test_a_running_trial_takes_time_and_a_place() -> None:
    running = replace(record(1, state=TrialState.RUNNING), started_at=0.0)

    found = throughput_of([trial(0, 0, 100)], [running], n_left=0, now=200)

    assert found is not None
    assert (found.trials_per_hour, found.parallel, found.seconds_left) == (18.0, 1.5, None)


def test_time_is_told_apart_by_what_it_went_to() -> None:
    lost = LostAttempt(1, Cause.EVICTED, trained_seconds=20.0)
    well = trial(0, 0, 100, trained_seconds=50.0, lost_attempts=(lost,))
    ill = trial(1, 0, 100, trained_seconds=90.0, state=TrialState.FAILED, values=None)
    thought = replace(well, suggestion={"milliseconds": 5000.0})

    found = throughput_of([thought, ill], [], 0, now=100)

    assert found is not None
    assert found.shares == pytest.approx(
        {"training": 0.25, "failing": 0.45, "lost": 0.1, "suggestions": 0.025, "waiting": 0.175}
    )
