"""A runner that is told to end: what it stops, what it leaves, and what it says."""

from __future__ import annotations

import contextlib
import itertools
import signal
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tests.unit.tuner.rig import (
    Rig,
    ended_without_finish,
    parallel,
)

from studyflow.errors import ExecutorBlocked, ExecutorUnavailable
from studyflow.executors import AttemptId, AttemptState, AttemptStatus
from studyflow.interrupt import Terminated, raise_on_sigterm
from studyflow.study import Study, judge
from studyflow.testing.failing_storage import FailingStorage
from studyflow.trial import Cause, Outcome
from studyflow.tuner import Tuner


@pytest.mark.parametrize("stop_seconds", [0.0, 3.0])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.fault("F37")
def test_cancelling_stops_what_runs_and_costs_no_budget(
    stop_seconds: float, error: type[BaseException]
) -> None:
    rig = Rig(duration=10.0, stop_seconds=stop_seconds)
    tuner = rig.tuner()
    wait, calls = rig.executor.wait, itertools.count()

    def interrupted(seconds: float) -> None:
        if next(calls) == 15:
            raise error
        wait(seconds)

    rig.executor.wait = interrupted
    with pytest.raises(error):
        tuner.drive()

    records = rig.study().records()
    assert [r.cause for r in records] == [Cause.OK, Cause.OK, Cause.CANCELLED, Cause.CANCELLED]
    assert {r.message for r in records[2:]} == {"The study was cancelled."}
    assert not rig.machine.running()
    rig.executor.wait = wait
    assert rig.drive().is_finished
    rig.check()
    assert len(rig.study().records()) == 8


@pytest.mark.fault("F22")
def test_a_sigterm_whose_exception_was_lost_ends_the_runner_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a finalizer, where the interpreter drops whatever is raised."""
    handler = signal.getsignal(signal.SIGTERM)
    rig = Rig(duration=10.0)
    wait, calls = rig.executor.wait, itertools.count()

    def losing(seconds: float) -> None:
        if next(calls) == 15:
            with contextlib.suppress(Terminated):
                signal.raise_signal(signal.SIGTERM)
        wait(seconds)

    tuner = rig.tuner()
    monkeypatch.setattr(rig.executor, "wait", losing)
    raise_on_sigterm()
    try:
        with pytest.raises(Terminated):
            tuner.drive()
    finally:
        signal.signal(signal.SIGTERM, handler)

    causes = [record.cause for record in rig.study().records()]
    assert causes == [Cause.OK, Cause.OK, Cause.CANCELLED, Cause.CANCELLED]
    assert rig.drive().is_finished, "it was for that runner alone"


def test_cancelling_a_runner_whose_executor_is_away_still_ends_it() -> None:
    rig = Rig(duration=10.0)
    tuner = rig.tuner()

    def interrupted(_seconds: float) -> None:
        rig.executor.go_away()
        raise KeyboardInterrupt

    wait, rig.executor.wait = rig.executor.wait, interrupted
    with pytest.raises(KeyboardInterrupt):
        tuner.drive()

    assert len(rig.study().running()) == 2
    rig.executor.wait = wait
    rig.executor.come_back()
    assert rig.drive().is_finished
    rig.check()


@pytest.mark.fault("F37")
def test_cancelling_gives_up_on_attempts_that_never_end() -> None:
    rig = Rig(objective=None, stop_seconds=1e9)
    tuner = rig.tuner()
    tuner.turn()
    before = rig.clock()

    tuner.cancel()

    assert 30 <= rig.clock() - before < 32
    assert len(rig.study().running()) == 2
    assert rig.diary.notes[-1] == (
        "Left to the next runner: trials 0, 1. Told to end, but not ended yet."
    )


def _ended(rig: Rig, number: int, cause: Cause) -> Outcome:
    return Outcome(rig.spec.name, number, 1, cause, {}, "by another runner")


class Watched:
    """Counts how often a cancelled runner looks, and makes it look at most 300 times."""

    def __init__(self, rig: Rig) -> None:
        self.n_looks = 0
        self.at_look: dict[int, Callable[[], object]] = {}
        self._rig, self._poll = rig, rig.executor.poll
        rig.executor.poll = self._look

    def _look(self) -> Mapping[AttemptId, AttemptStatus]:
        self.n_looks += 1
        assert self.n_looks < 300, "it spins"
        self.at_look.get(self.n_looks, lambda: None)()
        statuses: Mapping[AttemptId, AttemptStatus] = self._poll()
        return statuses


@pytest.mark.parametrize("seconds", [1.0, 10.0, 29.0])
@pytest.mark.fault("F80")
def test_cancelling_asks_again_until_the_executor_answers(seconds: float) -> None:
    rig = Rig(objective=None)
    tuner = rig.tuner()
    tuner.turn()
    watched, before = Watched(rig), rig.clock()
    rig.executor.go_away()
    wait = rig.executor.wait

    def back_in_time(timeout_seconds: float) -> None:
        wait(timeout_seconds)
        if rig.clock() - before >= seconds:
            rig.executor.come_back()

    rig.executor.wait = back_in_time
    tuner.cancel()

    assert [r.cause for r in rig.study().records()] == [Cause.CANCELLED] * 2
    assert not rig.machine.running()
    assert watched.n_looks < seconds + 10
    assert not any("Left" in note for note in rig.diary.notes)


@pytest.mark.fault("F80")
def test_cancelling_says_after_its_time_what_it_left_and_why() -> None:
    rig = Rig(objective=None)
    tuner = rig.tuner()
    tuner.turn()
    rig.executor.go_away()
    watched, before = Watched(rig), rig.clock()

    tuner.cancel()

    assert 30 <= rig.clock() - before < 32
    assert watched.n_looks < 40
    assert rig.diary.notes[-1] == (
        "Left to the next runner: trials 0, 1. The fake executor was told to be away."
    )
    rig.executor.come_back()
    assert len(rig.machine.running()) == 2


@pytest.mark.parametrize("method", ["stop", "forget"])
@pytest.mark.fault("F80")
def test_cancelling_asks_again_when_an_end_was_not_taken(method: str) -> None:
    rig = Rig(objective=None)
    tuner = rig.tuner()
    tuner.turn()
    call, left = getattr(rig.executor, method), [5]

    def refuse(*arguments: Any) -> None:
        if left[0] > 0:
            left[0] -= 1
            raise ExecutorUnavailable("The API server does not answer.")
        call(*arguments)

    setattr(rig.executor, method, refuse)
    Watched(rig)
    tuner.cancel()

    assert [r.cause for r in rig.study().records()] == [Cause.CANCELLED] * 2
    assert not rig.machine.running()
    assert all(r.is_forgotten for r in rig.machine.attempts.values())
    assert rig.diary.notes == ["The API server does not answer."]


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("stop", "Could not be told to end."),
        ("forget", "Ended, but not recorded or not cleaned up."),
    ],
)
@pytest.mark.fault("F80")
def test_what_cannot_be_ended_is_told_as_it_is(method: str, reason: str) -> None:
    rig = Rig(objective=None)
    tuner = rig.tuner()
    tuner.turn()

    def refuse(*arguments: Any) -> None:
        raise ExecutorUnavailable("The API server does not answer.")

    setattr(rig.executor, method, refuse)
    Watched(rig)
    tuner.cancel()

    assert rig.diary.notes[-1] == f"Left to the next runner: trials 0, 1. {reason}"


@pytest.mark.fault("F80")
def test_cancelling_without_the_right_to_stop_names_it() -> None:
    rig = Rig(objective=None)
    tuner = rig.tuner()
    tuner.turn()

    def refuse(*arguments: Any) -> None:
        raise ExecutorBlocked("Cannot patch jobs: 403 forbidden.")

    rig.executor.stop = refuse
    Watched(rig)
    tuner.cancel()

    assert rig.diary.notes[-1] == (
        "Left to the next runner: trials 0, 1. Cannot patch jobs: 403 forbidden."
    )


@pytest.mark.parametrize("cause", [Cause.LOST, Cause.PREEMPTED, Cause.UNSCHEDULABLE])
@pytest.mark.fault("F80")
def test_cancelling_gives_no_further_attempt_to_what_was_lost_meanwhile(cause: Cause) -> None:
    rig = Rig(objective=None)
    tuner = rig.tuner()
    tuner.turn()
    for attempt in rig.machine.running():
        rig.executor.lose(attempt, cause)

    def refuse(attempt: AttemptId) -> None:
        raise ExecutorBlocked("Cannot delete jobs: 403 forbidden.")

    rig.executor.forget = refuse
    watched = Watched(rig)
    tuner.cancel()

    assert [r.cause for r in rig.study().records()] == [Cause.CANCELLED] * 2
    assert rig.diary.lost_messages == []  # which would promise another attempt
    assert watched.n_looks < 5


@pytest.mark.fault("F80")
def test_cancelling_pauses_while_a_record_stays_although_nothing_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(objective=None)
    tuner = rig.tuner()
    tuner.turn()
    for attempt in rig.machine.running():
        rig.executor.finish(attempt, 0.5)
    monkeypatch.setattr(Study, "tell", lambda self, number, *rest: self.record(number))
    watched, before = Watched(rig), rig.clock()

    tuner.cancel()

    assert 30 <= rig.clock() - before < 32
    assert watched.n_looks < 200
    assert rig.diary.notes[-1] == (
        "Left to the next runner: trials 0, 1. Ended, but not recorded or not cleaned up."
    )


@pytest.mark.fault("F80")
def test_cancelling_ends_attempts_whose_trials_are_finished() -> None:
    rig = Rig(objective=None)
    tuner = rig.tuner()
    tuner.turn()
    study = rig.study()
    for number in (0, 1):
        study.tell(number, judge(rig.spec, _ended(rig, number, Cause.USER_ERROR)))

    tuner.cancel()

    assert not rig.machine.running()
    assert [r.cause for r in rig.study().records()] == [Cause.USER_ERROR] * 2


@pytest.mark.fault("F80")
def test_a_second_ctrl_c_leaves_at_once_and_says_what_is_left() -> None:
    rig = Rig(objective=None, stop_seconds=1e9)
    tuner = rig.tuner()

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    rig.executor.wait = interrupted
    with pytest.raises(KeyboardInterrupt):
        tuner.drive()

    assert rig.diary.notes[-1] == (
        "Left to the next runner: trials 0, 1. Told to end, but not ended yet."
    )


@pytest.mark.fault("F80")
def test_a_storage_that_is_away_while_a_study_is_cancelled_is_told() -> None:
    rig = Rig(objective=None)
    failing = FailingStorage(rig.storage)
    rig.storage = failing
    tuner = rig.tuner()
    tuner.turn()

    def interrupted(_seconds: float) -> None:
        failing.is_away = True
        raise KeyboardInterrupt

    rig.executor.wait = interrupted
    with pytest.raises(KeyboardInterrupt):
        tuner.drive()

    assert rig.diary.notes[-1].startswith("Left all running trials to the next runner: The study")


@pytest.mark.fault("F74")
def test_a_cancelled_study_does_not_wait_for_mlflow() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    rig.picture.logged, rig.picture.is_away = {"loss": [2.0]}, True
    tuner = ended_without_finish(rig)
    tuner.turn()
    tuner.cancel()

    assert rig.check(n_counted=0)[0].cause is Cause.CANCELLED


@pytest.mark.fault("F22")
def test_a_runner_that_only_makes_way_for_another_leaves_its_trials_running() -> None:
    rig = Rig(parallel(2, n_trials=2), objective=None)
    study = rig.study()
    tuner = Tuner(
        study, rig.executor, rig.picture, rig.diary, clock=rig.clock, ends_trials=lambda: False
    )

    def interrupt(timeout_seconds: float) -> None:
        raise KeyboardInterrupt

    rig.executor.wait = interrupt
    with pytest.raises(KeyboardInterrupt):
        tuner.drive()

    assert len(study.running()) == 2
    assert {s.state for s in rig.executor.poll().values()} == {AttemptState.RUNNING}
