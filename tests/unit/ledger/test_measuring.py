"""How long an attempt held what it held, by one clock at a time."""

from __future__ import annotations

import pytest

from studyflow.ledger.measuring import Sighting, Times, measure
from studyflow.trial import Cause
from studyflow.trial.cost import Allocation, AttemptCost

GPUS = Allocation(2, "nvidia.com/gpu")
NODE_CLOCK = 1_000_000.0
"""Hours away from any other clock."""

ALL = Times(
    started_at=NODE_CLOCK,
    ended_at=NODE_CLOCK + 100,
    first_report_at=NODE_CLOCK + 10,
    last_report_at=NODE_CLOCK + 90,
    checkpoint_at=NODE_CLOCK + 70,
)


def row(cause: Cause, times: Times, sighting: Sighting | None = None) -> AttemptCost:
    return measure(1, cause, GPUS, times, sighting or Sighting(), longest_seconds=500)


@pytest.mark.parametrize(
    ("cause", "lost"),
    [
        (Cause.OK, 0.0),
        (Cause.PRUNED, 0.0),
        (Cause.USER_ERROR, 0.0),
        (Cause.CUDA_OOM, 0.0),
        (Cause.TIMEOUT, 0.0),
        (Cause.CANCELLED, 0.0),
        (Cause.EVICTED, 30.0),
        (Cause.NODE_FAULT, 30.0),
    ],
)
def test_start_and_end_of_one_clock_are_exact_whatever_ended_it(cause: Cause, lost: float) -> None:
    found = row(cause, ALL, Sighting(watched_seconds=5.0, held_seconds=400.0))
    assert (found.seconds, found.startup_seconds, found.lost_seconds) == (100.0, 10.0, lost)
    assert (found.gpus, found.resource, found.unit_seconds) == (2, "nvidia.com/gpu", 200.0)
    assert not found.is_estimate


def test_without_a_checkpoint_all_of_a_lost_attempt_is_lost() -> None:
    times = Times(started_at=NODE_CLOCK, ended_at=NODE_CLOCK + 100)
    assert row(Cause.EVICTED, times).lost_seconds == 100.0


@pytest.mark.parametrize(
    ("times", "sighting", "seconds"),
    [
        # The runner saw it for longer than it reported, and the other way round.
        (Times(NODE_CLOCK, None, None, NODE_CLOCK + 40), Sighting(60.0), 60.0),
        (Times(NODE_CLOCK, None, None, NODE_CLOCK + 80), Sighting(60.0), 80.0),
        # Nobody knows its start: from its first report to its last.
        (Times(None, None, NODE_CLOCK, NODE_CLOCK + 40), Sighting(), 40.0),
        # Only its site's heartbeats say anything.
        (Times(), Sighting(None, 300.0), 300.0),
        (Times(), Sighting(60.0, 300.0), 60.0),
        # Nothing runs for longer than it may.
        (Times(), Sighting(None, 9000.0), 500.0),
        (Times(), Sighting(), 0.0),
    ],
)
def test_an_end_that_nobody_saw_counts_until_it_was_last_seen_alive(
    times: Times, sighting: Sighting, seconds: float
) -> None:
    found = row(Cause.NODE_LOST, times, sighting)
    assert (found.seconds, found.lost_seconds, found.is_estimate) == (seconds, seconds, True)


def test_an_attempt_that_never_began_costs_nothing_for_certain() -> None:
    found = row(Cause.IMAGE_PULL, Times())
    assert (found.seconds, found.is_estimate) == (0.0, False)


def test_a_clock_that_is_set_back_makes_no_negative_time() -> None:
    found = row(Cause.EVICTED, Times(NODE_CLOCK, NODE_CLOCK - 50, NODE_CLOCK - 60))
    assert (found.seconds, found.startup_seconds, found.lost_seconds) == (0.0, 0.0, 0.0)


def test_an_attempt_without_gpus_is_counted_by_its_place() -> None:
    found = measure(1, Cause.OK, Allocation(), ALL)
    assert (found.gpus, found.resource, found.units, found.unit_seconds) == (0, None, 1, 100.0)
