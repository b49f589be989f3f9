"""What a runner holds after many trials: nothing that grows but the trials themselves."""

from __future__ import annotations

import gc

import pytest
from benchmarks.control_plane.soak import soak, take_turns

from studyflow.executors import AttemptId

MAX_KIB_OF_A_TRIAL = 8.0
"""A finished trial as Optuna's storage in memory has it, and as a runner's index has it."""


@pytest.fixture(autouse=True)
def _only_new_objects() -> None:
    """Have the collector look at what the test makes, and not at all that was imported before."""
    gc.collect()
    gc.freeze()


@pytest.mark.parametrize(
    "n_trials", [400, pytest.param(20_000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
def test_trials_that_return_at_once_leave_no_thread_and_no_descriptor(n_trials: int) -> None:
    held = soak(n_trials)
    assert {(one.n_threads, one.n_descriptors) for one in held} == {
        (held[0].n_threads, held[0].n_descriptors)
    }
    grown_kib = 1024 * (held[-1].mib - held[1].mib) / (0.8 * n_trials)
    assert n_trials < 10_000 or grown_kib <= MAX_KIB_OF_A_TRIAL


def test_a_runner_keeps_nothing_of_attempts_that_another_one_has_ended() -> None:
    held = []
    for _ in take_turns(2_000):
        gc.collect()
        held.append(sum(type(one) is AttemptId for one in gc.get_objects()))
    assert len(held) >= 20
    assert max(held) <= 600, "of two runners, what begins between two sweeps"
