"""How attempts start: what a script gets, refusals, the canary, and studies that cannot start."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import BaseStorage
from tests.unit.study.studies import make_spec, open_study
from tests.unit.tuner.rig import (
    Diary,
    Refusing,
    Rig,
    ids,
    overlaid,
    parallel,
)

from studyflow.errors import ExecutorError
from studyflow.executors import AttemptId, AttemptState, AttemptStatus
from studyflow.reasons import Code, Reason
from studyflow.storage import ForwardingStorage, TrialChange, open_storage
from studyflow.testing.fake_clock import FakeClock
from studyflow.testing.fake_executor import FakeExecutor, Params
from studyflow.trial import Cause, TrackingRef, Trial
from studyflow.trial.record import TrialRecord, TrialState
from studyflow.tuner import Tuner, TunerResult


def test_a_trial_gets_what_its_script_needs() -> None:
    spec = parallel(
        1,
        n_trials=1,
        fixed={"depth": 3},
        constraints=[{"metric": "size", "max": 5}],
        trial={"command": ["python"], "budget": 7},
    )
    rig = Rig(spec, objective=lambda params: {"loss": 1.0, "size": 2.0})
    rig.drive()

    (trial,) = rig.machine.submitted
    assert trial.params["depth"] == 3
    assert (trial.budget, trial.metrics) == (7, ("loss", "size"))
    assert trial.tracking == TrackingRef("memory:", "run-0")
    (record,) = rig.check()
    assert (record.run_id, record.constraints) == ("run-0", {"size <= 5": -3.0})


def test_an_attempt_that_a_dead_runner_never_submitted_is_submitted_under_its_number() -> None:
    rig = Rig(parallel(1, n_trials=1))
    dying = rig.study()
    assert dying.ask() is not None
    dying.begin_attempt(0, 1)

    rig.drive()

    assert ids(rig.machine.submitted) == [AttemptId(0, 1)]
    rig.check()


@pytest.mark.fault("F09")
def test_while_launches_are_refused_no_further_trial_is_asked_for() -> None:
    rig = Rig(parallel(2))
    rig.executor = Refusing(rig.executor, "submit")
    tuner = rig.tuner()

    rig.turns(tuner, 20)

    assert len(rig.study().records()) == 1
    assert rig.diary.notes == ["Quota: no room for another pod."]
    rig.executor.refused = False
    assert tuner.drive().is_finished
    assert {r.attempt for r in rig.check()} == {1}


def test_an_attempt_that_can_never_start_fails_its_trial_and_alike_ones_the_study() -> None:
    rig = Rig(parallel(1, n_trials=9))
    rig.executor = Refusing(rig.executor, "submit")
    rig.executor.error = ExecutorError("The program 'pyton' does not exist.")

    result = rig.drive()

    assert result.is_failure
    assert "Trials 0, 1, 2, 3, 4 failed alike (user-error)" in result.reason.message
    assert rig.machine.submitted == []
    rig.check(n_counted=5)


def test_a_study_that_cannot_start_ends_with_the_reason_and_costs_no_budget() -> None:
    rig = overlaid(parallel(3))
    rig.executor.blocked = set(range(100))

    result = rig.drive()

    assert result == TunerResult(
        Reason(Code.EXECUTOR_BLOCKED, "403 forbidden.", "is the Role applied?"),
        is_finished=False,
        is_failure=True,
    )
    (record,) = rig.check(n_counted=0)
    assert (record.cause, record.state) == (Cause.CANCELLED, TrialState.FAILED)
    assert record.message.startswith("No trial of the study can start: 403 forbidden.")
    assert rig.diary.told == [record]
    assert rig.picture.finished == [0]

    rig.executor.blocked = set()
    assert rig.drive().is_finished
    assert [r.cause for r in rig.check()] == [Cause.CANCELLED, *[Cause.OK] * 6]


@pytest.mark.fault("F07")
def test_an_attempt_that_blocks_the_study_is_withdrawn_and_running_trials_finish() -> None:
    spec = parallel(3, n_trials=9, retry={"backoff_seconds": 1000})
    rig = overlaid(spec, objective=None)
    tuner = rig.tuner()
    rig.turns(tuner, 2)
    rig.executor.lose(AttemptId(2, 1))  # would wait for its next attempt
    rig.executor.block(AttemptId(0, 1), 'secret "token" not found')

    rig.turns(tuner, 3)
    assert rig.machine.running() == [AttemptId(1, 1)]
    rig.executor.finish(AttemptId(1, 1), 0.5)
    result = tuner.turn()

    assert result == TunerResult(
        Reason(Cause.USER_ERROR, 'secret "token" not found'), is_finished=False, is_failure=True
    )
    records = rig.check(n_counted=1)
    assert [r.cause for r in records] == [Cause.CANCELLED, Cause.OK, Cause.CANCELLED]
    assert [r.state for r in records] == [
        TrialState.FAILED,
        TrialState.COMPLETE,
        TrialState.FAILED,
    ]
    assert len(rig.machine.submitted) == 3
    assert sorted(r.number for r in rig.diary.told) == [0, 1, 2]


def test_an_attempt_launched_in_the_turn_that_finds_the_study_blocked_is_not_abandoned() -> None:
    rig = overlaid(parallel(2, n_trials=4), objective=None)
    study = rig.study()
    for _ in range(2):  # what a runner leaves that is killed before it submits
        record = study.ask()
        assert record is not None
        study.begin_attempt(record.number, 1)
    rig.executor.blocked = {1}
    tuner = rig.tuner()

    rig.turns(tuner, 3)

    assert rig.machine.running() == [AttemptId(0, 1)]
    rig.executor.finish(AttemptId(0, 1), 0.5)
    result = tuner.turn()
    assert result is not None
    assert result.is_failure
    assert [r.cause for r in rig.check(n_counted=1)] == [Cause.OK, Cause.CANCELLED]


def test_a_trial_whose_job_vanishes_from_a_blocked_study_is_withdrawn() -> None:
    rig = overlaid(parallel(2, n_trials=4), objective=None)
    tuner = rig.tuner()
    rig.turns(tuner, 2)
    rig.executor.block(AttemptId(0, 1), "no")
    rig.turns(tuner, 1)
    del rig.machine.attempts[AttemptId(1, 1)]

    result = tuner.turn()

    assert result is not None
    assert result.is_failure
    assert [r.cause for r in rig.check(n_counted=0)] == [Cause.CANCELLED, Cause.CANCELLED]


@pytest.mark.fault("F08")
def test_while_an_attempt_finds_no_room_no_further_trial_is_asked_for() -> None:
    rig = overlaid(parallel(4, n_trials=8), objective=None)
    no_gpu = Reason(Cause.UNSCHEDULABLE, "No GPU.")
    waits = AttemptStatus(AttemptState.PENDING, reason=no_gpu, waits_for_room=True)
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    rig.executor.statuses[AttemptId(3, 1)] = waits
    rig.executor.finish(AttemptId(0, 1), 0.5)

    rig.turns(tuner, 5)

    assert len(rig.study().records()) == 4
    assert rig.diary.notes == ["Trial 3 waits: No GPU."]
    rig.executor.statuses.clear()
    rig.turns(tuner, 1)
    assert len(rig.study().records()) == 5


ALONE = "One trial goes ahead alone"


def running_in_turns(rig: Rig, n_turns: int) -> list[int]:
    """Return how many attempts ran in each of the first turns."""
    tuner = rig.tuner()
    n_running = []
    for _ in range(n_turns):
        assert tuner.turn() is None
        n_running.append(len(rig.machine.running()))
        rig.executor.wait(1.0)
    return n_running


def test_the_first_trial_runs_alone_until_its_script_has_run_for_a_while() -> None:
    rig = Rig(parallel(4), duration=100.0, canary_seconds=3.0)

    assert running_in_turns(rig, 6) == [1, 1, 1, 1, 4, 4]
    assert [ALONE in note for note in rig.diary.notes] == [True], "said once"


def test_a_study_of_one_trial_announces_no_others() -> None:
    rig = Rig(parallel(4, n_trials=1), duration=5.0, canary_seconds=3.0)
    rig.drive()
    assert rig.diary.notes == []


def test_others_follow_as_soon_as_the_first_trial_has_reported_a_value() -> None:
    curve = [{"loss": 1.0}] * 5
    rig = Rig(parallel(4), duration=100.0, canary_seconds=50.0, curve=lambda params: curve)

    assert running_in_turns(rig, 3) == [1, 4, 4]


def test_others_follow_as_soon_as_a_trial_has_come_to_a_value() -> None:
    rig = Rig(parallel(4), duration=2.0, canary_seconds=50.0)

    assert running_in_turns(rig, 4) == [1, 1, 4, 4]
    rig.drive()
    rig.check()


def test_scripts_that_cannot_start_fail_one_after_the_other() -> None:
    def broken(params: Params) -> float:
        raise ImportError("No module named 'data'")

    spec = parallel(4, n_trials=20, stop={"alike_failures": 3, "first_failures": 0})
    rig = Rig(spec, objective=broken, canary_seconds=10.0)

    result = rig.drive()

    assert result.is_failure
    assert "Trials 0, 1, 2 failed alike" in result.reason.message
    assert (len(rig.machine.submitted), rig.machine.most_running) == (3, 1)


def test_a_script_that_failed_after_a_while_is_known_to_run() -> None:
    def broken(params: Params) -> float:
        raise ValueError("the data set is empty")

    rig = Rig(parallel(4), objective=broken, duration=12.0, canary_seconds=10.0)

    rig.drive()
    assert rig.machine.most_running == 4


def test_a_study_whose_script_is_known_to_run_starts_at_once_with_its_next_runner() -> None:
    rig = Rig(parallel(4, n_trials=20), duration=5.0, canary_seconds=10.0)
    running_in_turns(rig, 6)
    rig.executor.wait(60.0)

    assert running_in_turns(rig, 1) == [4]


@pytest.mark.fault("F77")
def test_only_a_run_that_starts_trials_or_ends_keeps_its_numbers_with_the_study() -> None:
    rig = Rig()
    rig.drive()
    kept = rig.study().kept_spec()
    told: list[int | None] = []

    def run(n_trials: int) -> Tuner:
        rig.spec = make_spec(budget={"n_trials": n_trials, "max_parallel_trials": 2})
        executor = rig.executor.again()
        return Tuner(
            rig.study(),
            executor,
            rig.picture,
            rig.diary,
            clock=rig.clock,
            on_spec=lambda spec: told.append(spec.budget.n_trials),
        )

    run(3).cancel()
    run(9).cancel()
    assert rig.study().kept_spec() == kept
    assert run(2).drive().is_finished
    assert rig.study().kept_spec() == kept, "six trials are there"
    assert run(9).turn() is None
    assert rig.study().kept_spec().budget.n_trials == 9
    assert told == [9]


class Slow:
    """An executor that takes its time for each launch."""

    def __init__(self, inner: FakeExecutor, seconds: float) -> None:
        self._inner = inner
        self._seconds = seconds
        self.n_polls = 0
        self.waits: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def submit(self, trial: Trial, *, avoid: Collection[str] = ()) -> AttemptId:
        self._inner.machine.clock.advance(self._seconds)
        return self._inner.submit(trial, avoid=avoid)

    def poll(self) -> Mapping[AttemptId, AttemptStatus]:
        self.n_polls += 1
        return self._inner.poll()

    def wait(self, timeout_seconds: float) -> None:
        self.waits.append(timeout_seconds)
        self._inner.wait(timeout_seconds)


def test_many_free_slots_are_filled_in_slices_with_a_look_between() -> None:
    rig = Rig(parallel(10, n_trials=30), objective=None)
    rig.executor = slow = Slow(rig.executor, seconds=0.3)
    tuner = rig.tuner()

    n_running = []
    for _ in range(4):
        assert tuner.turn() is None
        n_running.append(len(rig.machine.running()))

    assert n_running == [3, 6, 9, 10]
    assert slow.n_polls == 4


class SlowDiary(Diary):
    """Takes its time over each trial that was recorded."""

    def __init__(self, clock: FakeClock, seconds: float) -> None:
        super().__init__()
        self._clock = clock
        self._seconds = seconds

    def recorded(self, record: TrialRecord) -> None:
        self._clock.advance(self._seconds)
        super().recorded(record)


def test_many_ends_are_recorded_in_slices_before_anything_starts() -> None:
    rig = Rig(parallel(10, n_trials=30), objective=None)
    rig.diary = slow = SlowDiary(rig.clock, seconds=0.3)
    tuner = rig.tuner()
    rig.turns(tuner, 2)
    for attempt in rig.machine.running():
        rig.executor.finish(attempt, 0.5)

    n_recorded, n_running = [], []
    for _ in range(4):
        assert tuner.turn() is None
        n_recorded.append(len(slow.told))
        n_running.append(len(rig.machine.running()))

    assert n_recorded == [3, 6, 9, 10]
    assert n_running == [0, 0, 0, 10], "what has ended is known before another trial is asked for"


def test_a_slice_follows_at_once_and_a_full_machine_waits() -> None:
    rig = Rig(parallel(10, n_trials=10), duration=100.0)
    rig.executor = slow = Slow(rig.executor, seconds=0.3)

    result = rig.drive()

    assert result.is_finished
    assert slow.waits[:4] == [0.0, 0.0, 0.0, 1.0]
    assert set(slow.waits[3:]) == {1.0}
    rig.check(10)


def test_a_launch_that_takes_long_is_one_a_turn() -> None:
    rig = Rig(parallel(3, n_trials=3), objective=None)
    rig.executor = Slow(rig.executor, seconds=60.0)
    tuner = rig.tuner()
    n_running = []
    for _ in range(3):
        tuner.turn()
        n_running.append(len(rig.machine.running()))
    assert n_running == [1, 2, 3]


def test_all_that_a_dead_runner_left_is_resumed_in_one_turn_if_that_is_quick() -> None:
    rig = Rig(parallel(40, n_trials=40), objective=None)
    study = rig.study()
    assert all(study.ask(rig.executor.site) is not None for _ in range(40))

    assert rig.tuner().turn() is None

    assert [trial.number for trial in rig.machine.submitted] == list(range(40))


class Between(ForwardingStorage):
    """A storage where something happens just before the first change of a trial."""

    def __init__(self, storage: BaseStorage, happens: Callable[[], object]) -> None:
        super().__init__(storage)
        self._happens: list[Callable[[], object]] = [happens]

    def change_trial(self, trial_id: int, expected: Mapping[str, Any], change: TrialChange) -> bool:
        for happens in self._happens[:1]:
            self._happens.clear()
            happens()
        return super().change_trial(trial_id, expected, change)


def test_of_two_runners_that_take_the_last_slot_at_once_one_gives_it_back(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    rig = Rig(parallel(1, n_trials=4), objective=None)
    others = open_study(rig.spec, open_storage(url))
    ours, theirs = others.ask(), others.ask()
    assert ours is not None
    assert theirs is not None
    rig.storage = Between(
        open_storage(url), lambda: others.begin_attempt(theirs.number, 1, "there")
    )

    assert rig.tuner().turn() is None

    assert rig.machine.running() == []
    assert [record.attempt for record in others.records()] == [0, 1]
