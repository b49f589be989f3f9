"""Real runners, killed at several moments: the next one goes on exactly, none remains."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.killed_runner import STEPS
from tests.faults.place import Place, wait_until

from studyflow.trial import Cause
from studyflow.trial.record import TrialState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

MOMENTS: dict[str, Callable[[Place], bool]] = {
    "the study's journal appears": lambda p: (p.home / "studies.journal").exists(),
    "the first trial appears": lambda p: p.n_folders() >= 1,
    "the third trial appears": lambda p: p.n_folders() >= 3,
    "the fourth trial has ended": lambda p: p.n_ended() >= 4,
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.fault("F21")
def test_a_killed_runner_is_replaced_by_the_next_one(
    moment: str, new_place: Callable[..., Place]
) -> None:
    place = new_place()
    runner = place.start()
    wait_until(lambda: MOMENTS[moment](place), runner)
    runner.send_signal(signal.SIGKILL)
    runner.wait()

    place.run_to_end()

    place.check_whole()


@pytest.mark.fault("F21")
@pytest.mark.parametrize("step", STEPS)
def test_a_runner_killed_at_any_step_is_replaced_without_a_trace(
    step: str, new_place: Callable[..., Place]
) -> None:
    place = new_place(seconds=0.1)
    runner = place.start(["tests.faults.killed_runner", step])
    assert runner.wait(120) == -signal.SIGKILL, place.log

    place.run_to_end()

    place.check_whole()


@pytest.mark.fault("F22")
def test_ctrl_c_ends_with_the_best_the_report_and_the_command_that_goes_on(
    new_place: Callable[..., Place],
) -> None:
    place = new_place(seconds=0.3)
    runner = place.start()
    wait_until(lambda: place.n_ended() >= 2, runner)
    runner.send_signal(signal.SIGINT)

    assert runner.wait(40) == 130, place.log

    _, interrupted, said = place.log.partition("Interrupted; finished trials are kept.\n")
    assert interrupted, place.log
    best, report, again = said.splitlines()
    assert best.startswith("  best    loss=")
    assert Path(report.removeprefix("  report  ")).is_file()
    assert again.startswith("Continue: ")
    assert again.endswith(f"studyflow run study.yaml --home {place.home}")
    assert "Traceback" not in place.log


@pytest.mark.fault("F22")
def test_a_terminated_runner_stops_its_trials_and_leaves_the_rest_for_later(
    new_place: Callable[..., Place],
) -> None:
    place = new_place(seconds=20)
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
