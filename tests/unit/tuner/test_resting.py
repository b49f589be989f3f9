"""A turn leaves out the attempts that have nothing new, and does the same as one that does not."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.study.studies import complete
from tests.unit.tuner.rig import Rig, ids, parallel
from tests.unit.tuner.test_every_snapshot import HERE, STATES, snapshots, whole_turn

from studyflow.executors import AttemptId, AttemptState, AttemptStatus
from studyflow.reasons import Code, Reason
from studyflow.study import Verdict
from studyflow.testing.fake_executor import FakeExecutor
from studyflow.trial import Cause
from studyflow.tuner import loop
from studyflow.tuner.reconcile import Action, Watch, n_slots_to_fill, next_actions
from studyflow.tuner.reports import JUDGED_AT_ONCE
from studyflow.tuner.snapshot import Snapshot, newest_attempt

# ---- of every snapshot --------------------------------------------------------------------------


def at_rest(seen: Snapshot) -> frozenset[AttemptId]:
    """Return the attempts that may rest: those that count here and have not ended."""
    return frozenset(
        newest_attempt(record)
        for record in seen.running
        if record.has_attempt and record.holder == HERE and newest_attempt(record) in seen.live
    )


def without(seen: Snapshot, resting: frozenset[AttemptId]) -> Snapshot:
    return replace(
        seen,
        running=tuple(r for r in seen.running if newest_attempt(r) not in resting),
        attempts={a: status for a, status in seen.attempts.items() if a not in resting},
        handled=seen.handled - resting,
        n_resting=len(resting),
    )


def others(actions: tuple[Action, ...], resting: frozenset[AttemptId]) -> list[Action]:
    """Return the actions without looks at attempts that would have led to nothing."""
    return [a for a in actions if not (isinstance(a, Watch) and a.attempt in resting)]


@pytest.mark.parametrize("state", [name for name in STATES if name != "cancelling"])
def test_without_what_rests_a_turn_does_the_same_from_every_snapshot(state: str) -> None:
    n_compared = 0
    for seen in snapshots(state):
        resting = at_rest(seen)
        if not resting:
            continue
        n_compared += 1
        less = without(seen, resting)
        (done, _), (less_done, _) = whole_turn(seen), whole_turn(less)
        assert others(done, resting) == list(less_done), seen
        assert n_slots_to_fill(seen) == n_slots_to_fill(less), seen
        awaits_launched = not seen.is_leaving or resting & seen.launched
        assert less.is_awaiting == seen.is_awaiting or not awaits_launched, seen
    assert n_compared > 100


# ---- of whole runs ------------------------------------------------------------------------------


class Fresh:
    """An executor that makes a new status for each poll, so nothing rests."""

    def __init__(self, inner: FakeExecutor) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def poll(self) -> Mapping[AttemptId, AttemptStatus]:
        return {attempt: replace(status) for attempt, status in self._inner.poll().items()}


def happen(rig: Rig, what: str, which: int) -> None:
    """Let something happen to one of the running attempts."""
    running = rig.machine.running()
    if not running:
        return
    attempt = running[which % len(running)]
    match what:
        case "finish":
            rig.executor.finish(attempt, which / 100)
        case "lose":
            rig.executor.lose(attempt, Cause.EVICTED)
        case "disappear":
            del rig.machine.attempts[attempt]
        case "report":
            rig.executor.report(attempt, which, loss=float(which))
        case "diverge":
            rig.executor.report(attempt, which, loss=float("nan"))
        case "told by another":
            rig.study().tell(attempt.number, complete(0.25))
        case "lost by another":
            gone = Verdict(Cause.EVICTED, None, "gone")
            rig.study().end_attempt(attempt.number, attempt.attempt, gone)


EVENTS = ("finish", "lose", "disappear", "report", "diverge", "told by another", "lost by another")


def run(seed: int, *, is_fresh: bool, pruner: str) -> tuple[object, ...]:
    """Return all that a runner did while the same things happened to the same attempts."""
    chance = random.Random(seed)
    changes = (
        {}
        if pruner == "none"
        else {"pruner": {"type": pruner, "n_warmup_steps": 0, "n_startup_trials": 1}}
    )
    rig = Rig(parallel(5, 60, retry={"backoff_seconds": 2}, **changes), objective=None)
    if is_fresh:
        rig.executor = Fresh(rig.executor)
    tuner = rig.tuner()
    for _ in range(40):
        assert tuner.turn() is None
        for _ in range(chance.choice([0, 0, 0, 1, 2])):
            happen(rig, chance.choice(EVENTS), chance.randrange(100))
        rig.clock.advance(chance.choice([0.5, 3.0]))
    tuner.cancel()
    rows = [
        (r.number, r.state, r.cause, r.attempt, r.values, [(c.cause, c.seconds) for c in r.costs])
        for r in rig.study().records()
    ]
    diary = rig.diary
    told = [record.number for record in diary.told]
    return ids(rig.machine.submitted), diary.launches, diary.lost_messages, diary.notes, told, rows


@pytest.mark.parametrize("pruner", ["none", "median"])
def test_a_run_does_the_same_whether_attempts_rest_or_not(pruner: str) -> None:
    for seed in range(12):
        same = run(seed, is_fresh=False, pruner=pruner)
        assert same == run(seed, is_fresh=True, pruner=pruner), f"seed {seed}"


# ---- what a turn looks at -----------------------------------------------------------------------


class Looks:
    """Counts what turns look at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.attempts: set[AttemptId] = set()
        self.n_trials = 0
        monkeypatch.setattr(loop, "next_actions", self._next_actions)

    def _next_actions(self, seen: Snapshot) -> tuple[Action, ...]:
        self.attempts.update(seen.attempts)
        self.n_trials = max(self.n_trials, len(seen.running))
        return next_actions(seen)


@pytest.mark.parametrize("pruner", ["none", "median"])
def test_an_idle_turn_looks_at_none_of_a_thousand_running_attempts(
    monkeypatch: pytest.MonkeyPatch, pruner: str
) -> None:
    rig = Rig(parallel(1000, 3000, pruner={"type": pruner}), objective=None)
    tuner = rig.tuner()
    while len(rig.machine.running()) < 1000:
        tuner.turn()
    rig.turns(tuner, 2)
    looks = Looks(monkeypatch)

    tuner.turn()
    assert (looks.attempts, looks.n_trials) == (set(), 0)

    ended, reporting = AttemptId(17, 1), AttemptId(400, 1)
    rig.executor.finish(ended, 0.5)
    rig.executor.report(reporting, 1, loss=0.5)
    rig.clock.advance(1.0)
    tuner.turn()
    assert looks.attempts == {ended, reporting}
    assert looks.n_trials <= 3, "these two, and the trial that follows"
    assert AttemptId(1000, 1) in rig.machine.attempts


def test_few_attempts_are_judged_again_for_what_another_has_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    n = 3 * JUDGED_AT_ONCE
    rig = Rig(parallel(n, 2 * n, pruner={"type": "median"}), objective=None)
    tuner = rig.tuner()
    rig.turns(tuner, 2)
    for attempt in rig.machine.running():
        rig.executor.report(attempt, 1, loss=0.5)
    rig.turns(tuner, 6)
    looks = Looks(monkeypatch)
    tuner.turn()
    assert looks.attempts == set(), "all know all"

    rig.executor.report(AttemptId(n - 1, 1), 2, loss=0.4)
    looked = []
    for _ in range(5):
        rig.clock.advance(1.0)
        looks.attempts.clear()
        tuner.turn()
        looked.append(len(looks.attempts))
    assert looked[0] == 1
    assert max(looked) <= JUDGED_AT_ONCE + 1
    assert n <= sum(looked) <= n + 2
    assert looked[-1] == 0


def test_an_attempt_that_waits_is_told_of_in_each_turn() -> None:
    rig = Rig(parallel(1), objective=None)
    pending = AttemptStatus(AttemptState.PENDING, reason=Reason(Code.UNSPECIFIED, "No node fits."))

    class Full(Fresh):
        def poll(self) -> Mapping[AttemptId, AttemptStatus]:
            return dict.fromkeys(super().poll(), pending)

    rig.executor = Full(rig.executor)
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    for _ in range(4):
        rig.clock.advance(10.0)
        tuner.turn()
        assert rig.diary.progress[-1].note == "Trial 0 waits: No node fits."


def test_an_attempt_is_pruned_for_what_others_report_later() -> None:
    pruner = {"type": "median", "n_startup_trials": 1, "n_warmup_steps": 0}
    rig = Rig(parallel(2, pruner=pruner), objective=None)
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    bad, good = AttemptId(0, 1), AttemptId(1, 1)
    rig.executor.report(bad, 1, loss=9.0)
    rig.turns(tuner, 3)
    for step in (1, 2, 3):
        rig.executor.report(good, step, loss=0.1)
    rig.executor.finish(good, 0.1)
    rig.clock.advance(1.0)
    rig.turns(tuner, 3)
    assert rig.study().record(0).cause is Cause.PRUNED


def test_an_attempt_that_told_nothing_itself_is_pruned_by_what_mlflow_has() -> None:
    pruner = {"type": "threshold", "upper": 1.0}
    rig = Rig(parallel(1, pruner=pruner), objective=None)
    tuner = rig.tuner()
    rig.turns(tuner, 3)
    rig.picture.logged["loss"] = [5.0, 5.0]
    rig.turns(tuner, 40)
    assert rig.study().record(0).cause is Cause.PRUNED
