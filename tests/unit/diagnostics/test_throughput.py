"""Pace, the parameters that trials of one fate share, and what a scheduler's message means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.study.studies import record

from studyflow.diagnostics.cluster_messages import Shortage, Want, shortage
from studyflow.diagnostics.failure_regions import FailureRegion, common_region
from studyflow.diagnostics.throughput import throughput_of
from studyflow.trial import Cause
from studyflow.trial.record import LostAttempt, TrialRecord, TrialState


def trial(number: int, start: float, end: float, **changes: Any) -> TrialRecord:
    done = replace(record(number, 0.5), started_at=start, finished_at=end)
    return replace(done, **changes)


def test_a_study_without_finished_trials_has_no_pace() -> None:
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


@pytest.mark.parametrize(
    ("fated", "others", "region"),
    [
        ([{"b": 96}, {"b": 128}], [{"b": 16}, {"b": 64}], FailureRegion("b ≥ 96", 2, 0)),
        ([{"lr": 0.5}, {"lr": 0.1}], [{"lr": 0.7}, {"lr": 1.0}], FailureRegion("lr ≤ 0.5", 2, 0)),
        ([{"o": "sgd"}, {"o": "sgd"}], [{"o": "adam"}], FailureRegion("o = sgd", 2, 0)),
        ([{"o": True}, {"o": True}], [{"o": 1}], FailureRegion("o = true", 2, 0)),
        ([{"b": 1}, {"b": 9}], [{"b": 1}, {"b": 9}], None),
        ([{"b": 9}], [{"b": 1}], None),
        ([{"b": 9}, {"b": 8}], [], None),
    ],
)
def test_a_region_is_told_when_one_bound_tells_the_trials_apart(
    fated: list[Any], others: list[Any], region: FailureRegion | None
) -> None:
    assert common_region(fated, others) == region


GPU = "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("reasons", "found"),
    [
        (f"3 Insufficient {GPU}.", Shortage(Want.RESOURCE, GPU)),
        (f"2 Insufficient memory, 3 Insufficient {GPU}.", Shortage(Want.RESOURCE, GPU)),
        (
            (
                "1 node(s) had taint {node-role.kubernetes.io/master: }, that the pod didn't "
                "tolerate, 2 Insufficient cpu."
            ),
            Shortage(Want.RESOURCE, "cpu"),
        ),
        (
            f"2 Insufficient {GPU}, 1 node(s) had untolerated taint {{{GPU}: present}}.",
            Shortage(Want.TOLERATION, GPU),
        ),
        (
            "1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }.",
            Shortage(Want.HEALTHY_NODE, "node.kubernetes.io/not-ready"),
        ),
        ("3 node(s) didn't match Pod's node affinity/selector.", Shortage(Want.AFFINITY)),
        ("3 node(s) had volume node affinity conflict.", Shortage(Want.VOLUME)),
        ("1 Too many pods.", Shortage(Want.OTHER)),
    ],
)
def test_of_the_schedulers_reasons_the_one_that_counts_is_told(
    reasons: str, found: Shortage
) -> None:
    assert shortage(f"0/3 nodes are available: {reasons}") == found


def test_a_message_of_another_form_is_no_error() -> None:
    assert shortage("no node takes it") == Shortage(Want.OTHER)
