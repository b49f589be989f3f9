"""A runner that is killed in any of its calls, and the one that goes on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import optuna
import pytest
from tests.unit.tuner.rig import (
    Diary,
    Rig,
    parallel,
)

from studyflow.testing.fake_executor import Params
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord


class Crash(Exception):
    """An ordinary exception out of a call: to the study, the same as a killed runner."""


STORAGE_CALLS = (
    "create_new_trial",
    "set_trial_param",
    "set_trial_state_values",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
)


EXECUTOR_CALLS = ("submit", "poll", "stop", "forget", "wait")


class Fuse:
    """Lets `n` calls through, then raises: before the last call takes effect, or after it."""

    def __init__(self, n: int, *, after: bool) -> None:
        self.left = n
        self._after = after

    def wire(self, target: Any, names: Sequence[str]) -> None:
        for name in names:
            setattr(target, name, self._wired(getattr(target, name)))

    def _wired(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wired(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not self._after:
                raise Crash
            result = call(*arguments, **named)
            if self.left == 0:
                raise Crash
            return result

        return wired


def crash_rig() -> Rig:
    """Return a study in which attempts are lost, trials pruned, and some fail."""
    spec = parallel(
        2,
        n_trials=4,
        enqueue=[{"x": 0.25}, {"x": 0.95}, {"x": 0.5}, {"x": 0.75}],
        pruner={"type": "threshold", "upper": 0.9},
        retry={"backoff_seconds": 1},
        constraints=[{"metric": "size", "max": 1}],
    )
    calls: dict[Any, int] = {}

    def objective(params: Params) -> Any:
        x = float(str(params["x"]))
        calls[x] = calls.get(x, 0) + 1
        if x == 0.5 and calls[x] == 1:
            return Cause.NODE_LOST
        return Cause.HOST_OOM if x == 0.75 else {"loss": x, "size": x}

    return Rig(
        spec,
        objective=objective,
        duration=4.0,
        curve=lambda params: [{"loss": float(str(params["x"]))}] * 2,
    )


def uncrashed() -> list[tuple[Any, ...]]:
    rig = crash_rig()
    rig.drive()
    return summary(rig.check())


def summary(records: Sequence[TrialRecord]) -> list[tuple[Any, ...]]:
    return [(r.params["x"], r.state, r.cause, r.values, dict(r.constraints)) for r in records]


def crashed(n: int, *, after: bool) -> Rig | None:
    """Return the study after its runner crashed in its n-th call; `None` if there are fewer."""
    rig = crash_rig()
    tuner = rig.tuner()
    storage = rig.storage
    fuse = Fuse(n, after=after)
    fuse.wire(storage, STORAGE_CALLS)
    fuse.wire(rig.executor, EXECUTOR_CALLS)
    try:
        tuner.drive()
    except Crash:
        for name in STORAGE_CALLS:
            delattr(storage, name)
        return rig
    return None


@pytest.mark.parametrize("after", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.fault("F21")
def test_a_runner_killed_in_any_of_its_calls_is_replaced_without_a_trace(after: bool) -> None:
    expected = uncrashed()
    assert [row[2] for row in expected] == [Cause.OK, Cause.PRUNED, Cause.OK, Cause.HOST_OOM]
    for n in itertools.count(1):
        rig = crashed(n, after=after)
        if rig is None:
            break
        diary = rig.diary = Diary()
        finished = {r.number for r in rig.study().records() if r.state.is_finished}

        assert rig.drive().is_finished, n

        assert summary(rig.check()) == expected, n
        assert sorted(r.number for r in diary.told) == sorted({0, 1, 2, 3} - finished), n
        assert len(set(diary.launches)) == len(diary.launches), n
    assert n > 70, "the sweep went through a whole study"


@pytest.mark.fault("F21", "F23")
def test_a_runner_killed_again_and_again_loses_nothing() -> None:
    expected = uncrashed()
    rig = crash_rig()
    rig.storage = storage = optuna.storages.InMemoryStorage()
    for n in itertools.count(12):
        assert n < 300
        tuner = rig.tuner()
        fuse = Fuse(n, after=bool(n % 2))
        fuse.wire(storage, STORAGE_CALLS)
        fuse.wire(rig.executor, EXECUTOR_CALLS)
        try:
            tuner.drive()
        except Crash:
            continue
        finally:
            for target, names in ((storage, STORAGE_CALLS), (rig.executor, EXECUTOR_CALLS)):
                for name in names:
                    delattr(target, name)
        break

    assert n > 14, "it was killed more than once"
    assert summary(rig.check()) == expected
