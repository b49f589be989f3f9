"""An executor that takes several calls at once: launches, stops and forgets beside the loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.tuner.rig import Rig, losing, parallel

from studyflow.errors import ExecutorBlocked, ExecutorError, ExecutorUnavailable
from studyflow.executors import AttemptId, AttemptStatus, ExecutorTraits
from studyflow.testing.fake_executor import FakeExecutor
from studyflow.trial import Cause, Trial
from studyflow.trial.record import TrialState
from studyflow.tuner import Tuner
from studyflow.tuner.calls import ExecutorCalls
from studyflow.tuner.reconcile import Stop

AT_ONCE = 3
FIRST, SECOND = AttemptId(0, 1), AttemptId(1, 1)


class SideBySide:
    """A fake executor from any thread, whose calls wait for a gate while it is shut."""

    def __init__(self, inner: FakeExecutor) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self.gate = threading.Event()
        self.gate.set()
        self.began: list[str] = []
        """The calls that were made, in order."""
        self.n_inside = self.most_inside = 0
        self.errors: list[ExecutorError] = []
        """Raised by the next launches."""
        self.pauses_by: Callable[[], object] | None = None
        """Called by each `wait`, which then takes real time and next to none of the clock's."""

    @property
    def traits(self) -> ExecutorTraits:
        return replace(self._inner.traits, calls_at_once=AT_ONCE)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def submit(self, trial: Trial, *, avoid: Collection[str] = ()) -> AttemptId:
        with self._lock:
            error = self.errors.pop(0) if self.errors else None
        self._wait(f"submit {trial.number}-{trial.attempt}")
        if error is not None:
            raise error
        with self._lock:
            return self._inner.submit(trial, avoid=avoid)

    def stop(self, attempt: AttemptId, cause: Cause, reason: str) -> None:
        self._wait(f"stop {attempt}")
        with self._lock:
            self._inner.stop(attempt, cause, reason)

    def forget(self, attempt: AttemptId) -> None:
        self._wait(f"forget {attempt}")
        with self._lock:
            self._inner.forget(attempt)

    def poll(self) -> Mapping[AttemptId, AttemptStatus]:
        with self._lock:
            return self._inner.poll()

    def wait(self, timeout_seconds: float) -> None:
        if self.pauses_by is not None:
            self.pauses_by()
            time.sleep(0.002)
            timeout_seconds = 0.01
        with self._lock:
            self._inner.wait(timeout_seconds)

    def _wait(self, what: str) -> None:
        with self._lock:
            self.began.append(what)
            self.n_inside += 1
            self.most_inside = max(self.most_inside, self.n_inside)
        assert self.gate.wait(10)
        with self._lock:
            self.n_inside -= 1


class SideBySideRig(Rig):
    """A study whose executor takes calls side by side."""

    def __init__(self, *given: Any, **executor: Any) -> None:
        super().__init__(*given, **executor)
        self.executor = SideBySide(self.executor)


def until(tuner: Tuner, is_there: Callable[[], bool]) -> None:
    """Take turns until something is there; calls take real time."""
    for _ in range(2000):
        if is_there():
            return
        assert tuner.turn() is None
        time.sleep(0.002)
    raise AssertionError("it did not come")


@pytest.mark.parametrize("n_losses", [0, 2])
def test_a_study_whose_launches_overlap_comes_to_the_same_end(n_losses: int) -> None:
    spec = parallel(7, n_trials=40, retry={"max_attempts": 3, "backoff_seconds": 1})
    rig = SideBySideRig(spec, objective=losing(n_losses), duration=5.0)
    rig.drive()
    records = rig.check(40)
    assert {record.attempt for record in records} == {1 + n_losses}
    assert rig.executor.began.count("forget 0-1") == 1


def test_as_many_launches_are_under_way_as_the_executor_takes() -> None:
    rig = SideBySideRig(parallel(10, n_trials=10), objective=None)
    tuner = rig.tuner()
    rig.executor.gate.clear()

    until(tuner, lambda: len(rig.executor.began) == AT_ONCE)
    assert [r.attempt for r in rig.study().running()] == [1] * AT_ONCE, "recorded before"

    assert tuner.turn() is None
    assert len(rig.executor.began) == AT_ONCE, "no launch twice, and none is lost"
    rig.executor.gate.set()
    until(tuner, lambda: len(rig.machine.running()) == 10)
    assert rig.executor.most_inside == AT_ONCE
    assert [r.attempt for r in rig.study().running()] == [1] * 10
    assert rig.diary.lost == []
    tuner.close()


def test_an_attempt_is_let_go_of_only_after_its_end_is_stored() -> None:
    rig = SideBySideRig(parallel(2, n_trials=2), objective=None)
    tuner = rig.tuner()
    until(tuner, lambda: not tuner._calls.under_way and len(rig.machine.running()) == 2)
    rig.executor.gate.clear()
    rig.executor.finish(FIRST, 0.5)

    until(tuner, lambda: rig.executor.began[-1] == "forget 0-1")
    assert rig.study().record(0).state is TrialState.COMPLETE
    assert tuner.turn() is None
    assert rig.executor.began.count("forget 0-1") == 1, "it is under way"
    rig.executor.gate.set()
    until(tuner, lambda: set(rig.executor.poll()) == {SECOND})
    tuner.close()


@pytest.mark.fault("F09")
def test_launches_that_are_refused_for_now_are_made_again_under_their_numbers() -> None:
    rig = SideBySideRig(parallel(4, n_trials=8))
    rig.executor.errors = [ExecutorUnavailable("Too many requests.")] * 5
    rig.drive()
    records = rig.check(8)
    assert {record.attempt for record in records} == {1}
    assert rig.diary.notes.count("Too many requests.") >= 1


def test_one_launch_that_cannot_be_ends_its_trial_alone() -> None:
    rig = SideBySideRig(parallel(4, n_trials=8))
    rig.executor.errors = [ExecutorError("No such program.")]
    rig.drive()
    records = rig.study().records()
    failed = [record for record in records if record.cause is Cause.USER_ERROR]
    assert len(failed) == 1
    assert failed[0].reason is not None
    assert failed[0].reason.message == "No such program."


def test_a_launch_that_blocks_the_study_ends_it() -> None:
    rig = SideBySideRig(parallel(4, n_trials=8), duration=5.0)
    rig.executor.errors = [ExecutorBlocked("The namespace is gone.")]
    result = rig.drive()
    assert result.is_failure or not result.is_finished
    assert "The namespace is gone." in str(result.reason)
    assert rig.executor.poll() == {}


def test_a_cancelled_runner_ends_what_is_still_being_launched() -> None:
    rig = SideBySideRig(parallel(6, n_trials=20), objective=None)
    tuner = rig.tuner()
    rig.executor.gate.clear()
    tuner.turn()
    until(tuner, lambda: len(rig.executor.began) == AT_ONCE)
    rig.executor.gate.set()
    tuner.cancel()
    tuner.close()
    assert not rig.machine.running()
    assert {record.cause for record in rig.study().records()} == {Cause.CANCELLED}


def test_a_cancelled_runner_tells_those_to_end_whose_stop_was_dropped() -> None:
    rig = SideBySideRig(parallel(6, n_trials=6), objective=None)
    tuner = rig.tuner()
    until(tuner, lambda: not tuner._calls.under_way and len(rig.machine.running()) == 6)
    rig.executor.gate.clear()
    attempts = tuner._effects.attempts
    for number in range(6):
        attempts.stop(Stop(AttemptId(number, 1), Cause.PRUNED, "It is not good enough."))
    wait_until(lambda: len(rig.executor.began) == 6 + AT_ONCE)
    threading.Timer(0.05, rig.executor.gate.set).start()
    tuner.close()
    assert len(rig.machine.running()) == 6 - AT_ONCE

    rig.executor.pauses_by = lambda: None
    tuner.cancel()

    assert not rig.machine.running()
    assert rig.executor.poll() == {}


def test_a_cancelled_runner_sees_the_end_of_a_launch_that_is_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("studyflow.tuner.calls.CLOSE_SECONDS", 0.0)
    rig = SideBySideRig(parallel(1, n_trials=2), objective=None)
    tuner = rig.tuner()
    rig.executor.gate.clear()
    tuner.turn()
    wait_until(lambda: rig.executor.began == ["submit 0-1"])
    tuner.close()

    rig.executor.pauses_by = rig.executor.gate.set
    tuner.cancel()

    assert "stop 0-1" in rig.executor.began
    assert not rig.machine.running()
    assert rig.executor.poll() == {}


def wait_until(is_there: Callable[[], bool]) -> None:
    for _ in range(2000):
        if is_there():
            return
        time.sleep(0.002)
    raise AssertionError("it did not come")


def test_one_call_at_a_time_is_made_at_once() -> None:
    calls = ExecutorCalls(1)
    made: list[Any] = []
    answer = calls.make(FIRST, lambda: made.append(1), lambda error: (error, "told"))
    assert answer == (None, "told")

    def refuse() -> None:
        raise ExecutorUnavailable("away")

    assert str(calls.make(FIRST, refuse, str)) == "away"
    assert (calls.under_way, calls.can_launch, made) == (frozenset(), True, [1])


def test_an_error_that_no_executor_raises_ends_the_loop() -> None:
    calls = ExecutorCalls(2)

    def break_down() -> None:
        raise ZeroDivisionError

    calls.make(FIRST, break_down, lambda error: None)
    calls.make(SECOND, lambda: None, lambda error: None)
    with pytest.raises(ZeroDivisionError):
        take_all(calls)
    calls.close()


def take_all(calls: ExecutorCalls) -> None:
    while calls.under_way:
        calls.take_results()


def test_closing_waits_for_calls_that_have_begun_and_begins_no_other() -> None:
    calls, gate, made = ExecutorCalls(2), threading.Event(), []
    began = threading.Semaphore(0)

    def call(number: int) -> None:
        began.release()
        assert gate.wait(10)
        made.append(number)

    for number in range(5):
        attempt = AttemptId(number, 1)
        calls.make(attempt, lambda number=number: call(number), lambda error: None)  # type: ignore[misc]
    assert began.acquire(timeout=10)
    assert began.acquire(timeout=10)
    threading.Timer(0.05, gate.set).start()
    calls.close()
    assert sorted(made) == [0, 1]
