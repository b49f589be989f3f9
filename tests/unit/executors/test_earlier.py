"""Executors of the earlier protocol drive studies, and former names of ours answer."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from tests.unit.tuner.rig import Rig, parallel

from studyflow.executors import (
    AttemptId,
    AttemptState,
    AttemptStatus,
    Executor,
    ExecutorTraits,
)
from studyflow.executors.earlier import FormerNames, of_present_protocol
from studyflow.executors.kubernetes.executor import KubernetesExecutor
from studyflow.executors.local import LocalExecutor
from studyflow.reasons import Code, Reason
from studyflow.testing.fake_executor import FakeExecutor
from studyflow.trial import Cause, Trial
from studyflow.tuner import Tuner, TunerResult

FORMER: Final = ("place", "slots", "canary_seconds", "brings_points")


class Earlier:
    """An executor as somebody wrote it for the earlier protocol."""

    slots = 2
    canary_seconds = 0.0
    brings_points = True

    def __init__(self, machine: FakeExecutor, place: str = "their-cluster") -> None:
        self._machine = machine
        self.place = place
        self.is_closed = False

    def submit(self, trial: Trial, *, avoid: Collection[str] = ()) -> AttemptId:
        return self._machine.submit(trial, avoid=avoid)

    def poll(self) -> Mapping[AttemptId, AttemptStatus]:
        return self._machine.poll()

    def wait(self, timeout_seconds: float) -> None:
        self._machine.wait(timeout_seconds)

    def stop(self, attempt: AttemptId, cause: Cause, reason: str) -> None:
        self._machine.stop(attempt, cause, reason)

    def forget(self, attempt: AttemptId) -> None:
        self._machine.forget(attempt)

    def read_log(self, attempt: AttemptId, *, offset: int = 0, limit_bytes: int = 65536) -> bytes:
        return f"{attempt} {offset} {limit_bytes}".encode()

    def close(self) -> None:
        self.is_closed = True


def _wrapped(earlier: Any) -> Any:
    with pytest.warns(DeprecationWarning, match="follows an earlier protocol"):
        return of_present_protocol(earlier)


def test_a_study_is_driven_by_an_executor_of_the_earlier_protocol() -> None:
    rig = Rig(parallel(5))
    theirs: Any = Earlier(rig.executor)

    with pytest.warns(DeprecationWarning, match="Earlier follows an earlier protocol") as warned:
        tuner = Tuner(rig.study(), theirs, rig.picture, rig.diary, clock=rig.clock)
    result = tuner.drive()

    assert [Path(warning.filename) for warning in warned] == [Path(__file__)]
    assert result == TunerResult(
        Reason(Code.BUDGET_SPENT, "All 6 trials are finished."), is_finished=True
    )
    assert rig.machine.most_running == Earlier.slots
    assert {record.holder for record in rig.study().records()} == {"their-cluster"}


def test_what_was_four_properties_is_traits_and_a_site() -> None:
    wrapped = _wrapped(Earlier(FakeExecutor("demo")))

    assert wrapped.traits == ExecutorTraits(slots=2, canary_seconds=0.0, brings_points=True)
    assert wrapped.site == "their-cluster"
    assert wrapped.read_log(AttemptId(3, 1), offset=7) == b"3-1 7 65536"
    wrapped.close()
    assert wrapped.is_closed


def test_an_executor_that_says_less_gets_what_is_usual() -> None:
    class EarlierStill:
        place = "here"

    assert _wrapped(EarlierStill()).traits == ExecutorTraits()


def test_what_an_executor_lacks_is_missing_by_its_own_name() -> None:
    with pytest.raises(AttributeError, match="'Earlier' object has no attribute 'files'"):
        _ = _wrapped(Earlier(FakeExecutor("demo"))).files


def test_a_copy_is_of_the_same_executor() -> None:
    wrapped = _wrapped(Earlier(FakeExecutor("demo"), "there"))
    assert copy.copy(wrapped).site == "there"


def test_an_executor_of_the_present_protocol_is_left_as_it_is() -> None:
    executor: Executor = FakeExecutor("demo")
    assert of_present_protocol(executor) is executor
    wrapped = _wrapped(Earlier(FakeExecutor("demo")))
    assert of_present_protocol(wrapped) is wrapped


@pytest.mark.parametrize("kind", [LocalExecutor, KubernetesExecutor])
def test_our_executors_have_the_former_names(kind: type) -> None:
    assert issubclass(kind, FormerNames)


def test_a_former_name_of_an_executor_answers_with_a_warning() -> None:
    class Ours(FormerNames):
        traits = ExecutorTraits(slots=4, canary_seconds=10.0, brings_points=False)
        site = "here"

    answers = []
    for name in FORMER:
        with pytest.warns(DeprecationWarning, match=f"Ours.{name} is now `"):
            answers.append(getattr(Ours(), name))
    assert answers == ["here", 4, 10.0, False]


def test_a_reason_in_words_is_shown_as_it_was() -> None:
    theirs: Any = AttemptStatus
    with pytest.warns(DeprecationWarning, match="Reason"):
        status = theirs(AttemptState.PENDING, reason="The queue is full.")
    assert f"Trial 3 waits: {status.reason}" == "Trial 3 waits: The queue is full."
