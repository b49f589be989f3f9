"""Faults around a pause: of runners, of attempts that save, of checkpoints, of budgets."""

from __future__ import annotations

import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.faults.killed_runner import PAUSE_STEPS
from tests.faults.place import Place, wait_until
from tests.unit.tuner.rig import Rig, ids
from tests.unit.tuner.test_pausing import flat, promotion, quality, rig, steps_of

from studyflow.errors import StudyNotFound
from studyflow.executors import AttemptId
from studyflow.study import is_counted
from studyflow.testing.fake_executor import FakeExecutor
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState

N_STEPS = 9

TRAIN = """
import time
from studyflow import sdk
trial = sdk.current_trial()
saved = sdk.last_checkpoint()
first = 0 if saved is None else saved.step + 1
seen = "" if saved is None else (saved.path / "steps").read_text()
for step in range(first, trial.budget):
    time.sleep(0.05)
    seen += f"{step},"
    sdk.report(step, loss=trial.params["x"])
    with sdk.checkpoint(step) as folder:
        (folder / "steps").write_text(seen)
sdk.finish(loss=trial.params["x"], n_steps=seen.count(","))
"""

CHANGES: dict[str, Any] = {
    "pruner": {"type": "asha", "variant": "promotion", "min_resource": 1, "reduction_factor": 3},
    "trial": {"command": [sys.executable, "train.py"], "budget": N_STEPS},
}


@pytest.fixture
def pausing_place(new_place: Callable[..., Place]) -> Place:
    """A study of six real trials of nine steps, of which most are paused."""
    place = new_place(**CHANGES)
    (place.folder / "train.py").write_text(TRAIN)
    return place


def check_whole(records: tuple[TrialRecord, ...]) -> None:
    """Check that each trial has its end, its row for each attempt, and each step once."""
    assert [r.number for r in records if is_counted(r)] == list(range(len(records)))
    assert {r.cause for r in records} == {Cause.OK, Cause.PRUNED}
    for record in records:
        rows = Counter(row.attempt for row in record.costs)
        assert rows == Counter(range(1, record.attempt + 1)), record
        assert len({p.attempt for p in record.pauses}) == len(record.pauses)
        if record.state is TrialState.COMPLETE:
            assert record.metrics["n_steps"] == N_STEPS
            assert set(record.intermediate) == set(range(N_STEPS))


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.fault("F94")
@pytest.mark.parametrize("step", PAUSE_STEPS)
def test_a_runner_killed_around_a_pause_is_replaced_without_a_trace(
    step: str, pausing_place: Place
) -> None:
    runner = pausing_place.start(["tests.faults.killed_runner", step])
    assert runner.wait(120) == -signal.SIGKILL, pausing_place.log

    pausing_place.run_to_end()

    records = pausing_place.records()
    assert any(r.pauses for r in records)
    check_whole(records)
    assert pausing_place.processes() == []
    pausing_place.verify()


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.fault("F96")
@pytest.mark.parametrize("what", ["gone", "damaged"])
def test_a_real_trial_without_its_checkpoint_comes_to_its_end(
    what: str, pausing_place: Place
) -> None:
    runner = pausing_place.start()
    wait_until(lambda: has_paused(pausing_place), runner)
    runner.send_signal(signal.SIGINT)
    assert runner.wait(60) == 130
    paused = [r.number for r in pausing_place.records() if r.is_paused]
    assert paused
    spoilt = [_spoil(folder, what) for folder in _checkpoints(pausing_place)]
    assert any(spoilt)

    pausing_place.run_to_end()

    records = [r for r in pausing_place.records() if r.cause is not Cause.CANCELLED]
    assert {r.cause for r in records} == {Cause.OK, Cause.PRUNED}
    complete = [r for r in records if r.state is TrialState.COMPLETE]
    assert all(r.metrics["n_steps"] == N_STEPS for r in complete)
    pausing_place.verify()


def has_paused(place: Place) -> bool:
    """Return whether a trial of a study is paused, which may not be there yet."""
    try:
        return any(record.is_paused for record in place.records())
    except StudyNotFound:
        return False


def _checkpoints(place: Place) -> list[Path]:
    return [path for path in place.home.rglob("published") if path.is_dir()]


def _spoil(published: Path, what: str) -> bool:
    """Remove the checkpoints of an attempt, or change the newest; return whether there were any."""
    folders = sorted(published.iterdir(), key=lambda folder: int(folder.name))
    if what == "gone":
        shutil.rmtree(published)
    elif folders:
        (folders[-1] / "files" / "steps").write_text("nonsense that no manifest knows")
    return bool(folders)


# ---- order is the point: the fake executor -------------------------------------------------------


def until_told(study: Rig, tuner: Any) -> AttemptId:
    """Take turns until an attempt was told to pause; return it."""
    while not (told := [a for a, one in study.machine.attempts.items() if one.is_stopped]):
        assert tuner.turn() is None
        study.executor.wait(1.0)
    return told[0]


@pytest.mark.fault("F94")
def test_a_pause_whose_runner_was_killed_is_recorded_by_the_next_one() -> None:
    study = rig(stop_seconds=3.0)
    told = until_told(study, study.tuner())
    assert not study.study().record(told.number).pauses
    assert study.tuner().drive().is_finished
    records = study.check()
    pause = records[told.number].pauses[0]
    assert pause.attempt == 1
    assert pause.message.startswith("Paused at step ")


@pytest.mark.fault("F95")
def test_an_attempt_killed_while_it_saves_is_repeated_from_the_checkpoint_before() -> None:
    study = rig(promotion(n_parallel=1), checkpoint_every=2)
    tuner = study.tuner()
    first = AttemptId(0, 1)
    study.turns(tuner, 3)
    # It has saved nothing yet: the checkpoint of step 1 is never whole.
    assert list(study.study().record(0).intermediate) == [0]
    study.executor.lose(first, Cause.LOST)
    assert tuner.drive().is_finished
    record = study.check()[0]
    assert [lost.cause for lost in record.lost_attempts] == [Cause.LOST]
    assert all(p.checkpoint_step == p.last_step for p in record.pauses)
    assert first not in {AttemptId(0, p.attempt) for p in record.pauses}


@pytest.mark.fault("F96")
def test_a_trial_whose_checkpoint_cannot_be_read_begins_anew_and_its_result_counts() -> None:
    study = rig()
    study.machine.damaged.update(range(9))
    assert study.drive().is_finished
    records = study.check()
    best = min(records, key=quality)
    assert best.state is TrialState.COMPLETE
    assert steps_of(study, best.number).count(0) == best.attempt, "each attempt began anew"


@pytest.mark.fault("F97")
def test_of_two_runners_that_take_up_one_trial_one_starts_an_attempt() -> None:
    study = rig()
    first, second = study.tuner(), study.tuner()
    result = None
    while result is None:
        result = first.turn() or second.turn()
        study.executor.wait(1.0)
    for tuner in (first, second):
        tuner.drive()
    records = study.check()
    assert any(r.resumptions for r in records)
    for record in records:
        assert [r.attempt for r in record.resumptions] == list(range(2, record.attempt + 1))


@pytest.mark.fault("F97")
def test_a_paused_trial_of_a_machine_that_is_gone_is_taken_up_by_another_one() -> None:
    study = rig()
    until_told(study, study.tuner())
    study.turns(study.tuner(), 1)
    assert any(r.is_paused for r in study.study().records())
    other = FakeExecutor(
        "demo",
        objective=lambda params: float(str(params["x"])),
        duration=90.0,
        curve=flat,
        checkpoint_every=1,
        clock=study.clock,
        site="there",
    )
    study.executor, study.machine = other, other.machine
    assert study.drive().is_finished
    records = study.study().records()
    assert all(r.state.is_finished for r in records)
    assert {r.cause for r in records} == {Cause.OK, Cause.PRUNED}


@pytest.mark.fault("F98")
def test_a_paused_trial_ends_as_pruned_when_the_budget_is_reached() -> None:
    budget = {"n_trials": 30, "max_parallel_trials": 1, "gpu_hours": 200 / 3600}
    study = rig(promotion(budget=budget, trial={**promotion_trial(), "timeout_seconds": 100.0}))
    result = study.drive()
    assert result.is_finished
    submitted = ids(study.machine.submitted)
    records = study.study().records()
    paused = [r for r in records if r.pauses and r.state is TrialState.PRUNED]
    assert paused
    assert all(is_counted(r) and r.intermediate for r in paused)
    assert study.drive().is_finished, "nothing more starts in another run"
    assert ids(study.machine.submitted) == submitted


def promotion_trial() -> dict[str, Any]:
    return {"command": ["python", "train.py"], "budget": N_STEPS}


@pytest.mark.fault("F99")
def test_an_attempt_that_still_writes_after_its_pause_changes_nothing() -> None:
    study = rig(promotion(n_parallel=1))
    tuner = study.tuner()
    told = until_told(study, tuner)
    study.turns(tuner, 1)
    assert study.study().record(told.number).is_paused
    before = study.study().record(told.number)
    # Its node had not heard of the stop: it is there again, reports, saves and ends well.
    attempt = study.machine.attempts[told]
    attempt.is_forgotten = attempt.is_stopped = False
    attempt.ends_at = study.clock() + 5.0
    study.executor.report(told, 7, loss=-1.0)
    study.turns(tuner, 3)
    after = study.study().record(told.number)
    assert (after.intermediate, after.pauses) == (before.intermediate, before.pauses)
    assert attempt.is_stopped, "it was told to end"
    assert tuner.drive().is_finished
    assert all(r.values is None or r.values[0] >= 0 for r in study.check())
