"""Real runners, killed at several moments: the next one goes on exactly (F21), none remains."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.place import Place, wait_until

from studyflow.record import TrialState
from studyflow.study import is_counted
from studyflow.trial import Cause

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

MOMENTS: dict[str, Callable[[Place], bool]] = {
    "the study's journal appears": lambda p: (p.home / "studies.journal").exists(),
    "the first trial appears": lambda p: p.n_folders() >= 1,
    "the third trial appears": lambda p: p.n_folders() >= 3,
    "the fourth trial has ended": lambda p: p.n_ended() >= 4,
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.fault("F21")
def test_a_killed_runner_is_replaced_by_the_next_one(moment: str, tmp_path: Path) -> None:
    place = Place(tmp_path)
    runner = place.start()
    wait_until(lambda: MOMENTS[moment](place), runner)
    runner.send_signal(signal.SIGKILL)
    runner.wait()

    place.run_to_end()

    records = place.records()
    assert [r.number for r in records if is_counted(r)] == [0, 1, 2, 3, 4, 5]
    assert len(records) == 6
    assert {(r.state, r.cause, r.attempt) for r in records} == {(TrialState.COMPLETE, Cause.OK, 1)}
    assert all(r.values == (r.params["x"],) for r in records)
    assert len({r.values for r in records}) == 6
    assert place.n_folders() == 6
    assert place.processes() == []
    place.verify()
    assert place.mlflow_trials() == {
        r.number: ("FINISHED", r.values[0]) for r in records if r.values
    }


@pytest.mark.fault("F22")
def test_a_terminated_runner_stops_its_trials_and_leaves_the_rest_for_later(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path, seconds=20)
    runner = place.start()
    wait_until(lambda: place.n_folders() >= 2, runner)
    wait_until(lambda: len(place.processes()) >= 5, runner)
    terminated_at = time.monotonic()
    runner.terminate()

    assert runner.wait(40) == 130, place.log

    assert time.monotonic() - terminated_at < 30
    assert "Interrupted; finished trials are kept." in place.log
    records = place.records()
    assert {(r.state, r.cause) for r in records} == {(TrialState.FAILED, Cause.CANCELLED)}
    assert len(records) == 2
    assert place.processes() == []
    place.verify()
    assert {status for status, _ in place.mlflow_trials().values()} == {"KILLED"}
