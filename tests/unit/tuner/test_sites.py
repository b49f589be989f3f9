"""Runners on several machines, each with attempts of its own, over one study."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import optuna
import pytest
from tests.unit.study.studies import complete, make_spec, open_study
from tests.unit.tuner.rig import Diary, Picture

from studyflow.errors import ExecutorBlocked
from studyflow.executors import AttemptId
from studyflow.reasons import Code, Reason
from studyflow.spec import StudySpec
from studyflow.study import is_counted
from studyflow.study import storage_form as form
from studyflow.testing.fake_clock import FakeClock
from studyflow.testing.fake_executor import FakeExecutor
from studyflow.trial import Cause, Trial
from studyflow.trial.record import TrialRecord, TrialState
from studyflow.tuner import CANCEL_SECONDS, Tuner, TunerResult

pytestmark = pytest.mark.fault("F24")


class Site:
    """One machine and the runner on it."""

    def __init__(
        self,
        name: str,
        spec: StudySpec,
        storage: optuna.storages.BaseStorage,
        clock: FakeClock,
        **executor: Any,
    ) -> None:
        self.name = name
        self.study = open_study(spec, storage)
        self.executor: Any = FakeExecutor("demo", clock=clock, site=name, **executor)
        self.machine = self.executor.machine
        self.diary = Diary()
        self.tuner = Tuner(self.study, self.executor, Picture(), self.diary, clock=clock)
        self.n_beats = 0

    def beat(self) -> None:
        self.n_beats += 1
        key = f"{form.BEAT}{self.name}"
        self.study.optuna_study.set_user_attr(key, {"number": self.n_beats, "at": 0.0})

    def turn(self) -> TunerResult | None:
        self.beat()
        return self.tuner.turn()


class Sites:
    """Machines "a" and "b" with one study, one storage and one time."""

    def __init__(self, n_trials: int, parallel: int, **executor: Any) -> None:
        self.spec = make_spec(
            budget={"n_trials": n_trials, "max_parallel_trials": parallel},
            retry={"backoff_seconds": 2},
        )
        self.clock = FakeClock()
        self.storage = optuna.storages.InMemoryStorage()
        self.a, self.b = (Site(n, self.spec, self.storage, self.clock, **executor) for n in "ab")

    def turns(self, n: int, *sites: Site) -> list[TunerResult | None]:
        results: list[TunerResult | None] = []
        for _ in range(n):
            results = [site.turn() for site in sites or (self.a, self.b)]
            self.clock.advance(1.0)
        return results

    def records(self) -> tuple[TrialRecord, ...]:
        return self.a.study.records()

    def submitted(self) -> list[Trial]:
        return [*self.a.machine.submitted, *self.b.machine.submitted]


def test_two_machines_share_budget_and_limit_exactly() -> None:
    sites = Sites(20, 3, objective=lambda p: float(p["x"]), duration=2.5, slots=2)

    results: list[TunerResult | None] = []
    while not results or not all(results):
        results = sites.turns(1)
        assert len(sites.a.machine.running()) + len(sites.b.machine.running()) <= 3

    assert [str(result and result.reason) for result in results] == [
        "All 20 trials are finished."
    ] * 2
    records = sites.records()
    assert sum(is_counted(record) for record in records) == 20
    attempts = [(trial.number, trial.attempt) for trial in sites.submitted()]
    assert sorted(attempts) == [(number, 1) for number in range(20)], "each ran once"
    assert sites.a.machine.submitted, "both worked"
    assert sites.b.machine.submitted, "both worked"
    assert {r.holder for r in records} == {"a", "b"}
    assert sites.b.diary.notes == [
        "a works on this study too: budget and parallel trials are shared."
    ]


@pytest.mark.fault("F77")
def test_a_run_of_fewer_trials_does_not_shrink_the_study_of_another_that_goes_on() -> None:
    executor = {"objective": lambda p: float(p["x"]), "duration": 2.5, "slots": 1}
    sites = Sites(8, 2, **executor)
    few = sites.spec.model_copy(
        update={"budget": sites.spec.budget.model_copy(update={"n_trials": 3})}
    )
    sites.b = Site("b", few, sites.storage, sites.clock, **executor)
    sites.turns(1, sites.a)
    for _ in range(40):
        sites.turns(1, sites.b, sites.a)
        assert sites.a.study.kept_spec().budget.n_trials == 8
    assert sites.b.machine.submitted, "both worked"
    assert sum(is_counted(record) for record in sites.records()) == 8


def test_the_trials_of_a_dead_machine_are_taken_over_within_a_lease() -> None:
    sites = Sites(n_trials=2, parallel=2)
    sites.turns(1, sites.a)
    assert len(sites.a.machine.running()) == 2
    sites.turns(3)
    assert sites.b.machine.submitted == []
    died_at = sites.clock()

    while len(sites.b.machine.running()) < 2:
        sites.turns(1, sites.b)

    # The lease, and the pause before an attempt is repeated.
    assert sites.clock() - died_at <= 30.0 + 2.0 + 2.0
    assert sites.b.machine.running() == [AttemptId(0, 2), AttemptId(1, 2)]
    assert sites.b.diary.lost_messages[0] == (
        "lost: Nothing more was heard of a, where it ran. Attempt 2 in 2 s."
    )


@pytest.mark.fault("F25")
def test_a_machine_that_wakes_up_after_the_end_leaves_nothing_of_its_own_running() -> None:
    sites = Sites(n_trials=1, parallel=1, stop_seconds=5.0)
    sites.turns(1, sites.a)
    sites.turns(40, sites.b)
    sites.b.executor.finish(AttemptId(0, 2), 0.5)
    assert sites.turns(1, sites.b) != [None]
    assert sites.a.machine.running() == [AttemptId(0, 1)]

    results = sites.turns(3, sites.a)
    assert results == [None], "it waits for the end of what it has stopped"
    while results == [None]:
        results = sites.turns(1, sites.a)

    assert sites.a.machine.running() == []
    assert sites.a.executor.poll() == {}, "all is cleaned up"


@pytest.mark.fault("F25")
def test_a_machine_that_was_overtaken_within_a_turn_looks_once_more() -> None:
    sites = Sites(n_trials=1, parallel=1)
    sites.turns(1, sites.a)
    poll = sites.a.executor.poll

    def sleep() -> Any:
        statuses = poll()
        sites.a.executor.poll = poll
        sites.a.executor.finish(AttemptId(0, 1), 0.5)
        sites.turns(40, sites.b)
        sites.b.executor.finish(AttemptId(0, 2), 0.5)
        sites.turns(1, sites.b)
        return statuses

    sites.a.executor.poll = sleep
    results = sites.turns(1, sites.a)
    while results == [None]:
        results = sites.turns(1, sites.a)

    assert sites.a.executor.poll() == {}


@pytest.mark.fault("F25")
def test_a_stale_attempt_that_does_not_end_holds_up_no_runner_for_ever() -> None:
    sites = Sites(n_trials=1, parallel=1, stop_seconds=3600.0)
    sites.turns(1, sites.a)
    sites.turns(40, sites.b)
    sites.b.executor.finish(AttemptId(0, 2), 0.5)
    sites.turns(1, sites.b)

    assert sites.turns(int(CANCEL_SECONDS), sites.a) == [None]
    assert sites.turns(2, sites.a) != [None]

    assert sites.a.diary.notes[-1] == (
        "Left to the next runner: trial 0. Told to end, but not ended yet."
    )


@pytest.mark.fault("F25")
def test_a_machine_that_wakes_up_ends_what_was_taken_over_and_rejoins() -> None:
    sites = Sites(n_trials=2, parallel=2, slots=1)
    sites.turns(2)
    sites.turns(40, sites.b)
    sites.b.executor.finish(AttemptId(1, 1), 0.5)
    sites.turns(3, sites.b)
    assert sites.a.machine.running() == [AttemptId(0, 1)]
    assert sites.b.machine.running() == [AttemptId(0, 2)]

    sites.turns(1)
    assert sites.a.machine.running() == []
    sites.b.executor.finish(AttemptId(0, 2), 0.25)
    results = sites.turns(2)

    assert all(results)
    assert [record.values for record in sites.records()] == [(0.25,), (0.5,)]
    assert [len(record.lost_attempts) for record in sites.records()] == [1, 0]


@pytest.mark.fault("F25")
def test_a_result_that_was_read_before_the_trial_was_taken_over_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sites = Sites(n_trials=1, parallel=1)
    sites.turns(2, sites.a)
    sites.a.executor.finish(AttemptId(0, 1), 99.0)
    tell = sites.a.study.tell

    def stopped_before(*arguments: Any) -> TrialRecord:
        """Stop this runner for a minute at the worst moment."""
        sites.turns(60, sites.b)
        return tell(*arguments)

    monkeypatch.setattr(sites.a.study, "tell", stopped_before)
    sites.a.turn()

    assert sites.b.machine.running() == [AttemptId(0, 2)]
    assert sites.records()[0].state is TrialState.RUNNING
    assert sites.a.diary.told == []
    sites.b.executor.finish(AttemptId(0, 2), 0.5)
    sites.turns(1, sites.b)
    assert sites.records()[0].values == (0.5,)


def test_of_two_that_see_the_last_slot_one_waits() -> None:
    sites = Sites(n_trials=4, parallel=1)
    first = sites.b.study.ask("b")
    assert first is not None
    sites.b.study.tell(first.number, complete(0.5))  # as others ask too, "a" claims its trial first
    begin = sites.a.study.begin_attempt

    def raced(*arguments: Any, **named: Any) -> TrialRecord:
        """Let the other runner take the slot between looking and noting."""
        sites.a.study.begin_attempt = begin  # type: ignore[method-assign]
        sites.b.turn()
        return begin(*arguments, **named)

    sites.a.study.begin_attempt = raced  # type: ignore[method-assign]
    sites.a.turn()

    assert sites.a.machine.running() == []
    assert sites.b.machine.running() == [AttemptId(2, 1)]
    assert not sites.records()[1].has_attempt
    sites.turns(3)
    assert sites.a.machine.running() == []
    sites.b.executor.finish(AttemptId(2, 1), 0.5)
    sites.turns(1, sites.b, sites.a)
    running = sites.a.machine.running() + sites.b.machine.running()
    assert len(running) == 1


def test_of_two_that_choose_for_the_last_slot_at_once_one_waits() -> None:
    sites = Sites(n_trials=4, parallel=1)
    ask = sites.a.study.optuna_study.ask

    def raced() -> optuna.Trial:
        """Let the other runner take the slot while this one chooses parameters."""
        sites.a.study.optuna_study.ask = ask  # type: ignore[method-assign]
        trial = ask()
        sites.b.turn()
        return trial

    sites.a.study.optuna_study.ask = raced  # type: ignore[method-assign, assignment]
    sites.a.turn()

    assert sites.b.machine.running() == [AttemptId(0, 1)]
    assert sites.a.machine.running() == []
    assert [r.has_attempt for r in sites.records()] == [True, False], "asked anew, and not begun"
    sites.b.executor.finish(AttemptId(0, 1), 0.5)
    sites.turns(1, sites.b, sites.a)
    assert len(sites.a.machine.running() + sites.b.machine.running()) == 1


def test_the_cards_of_a_machine_limit_that_machine() -> None:
    sites = Sites(n_trials=8, parallel=4, slots=1)

    sites.turns(3)

    assert [len(s.machine.running()) for s in (sites.a, sites.b)] == [1, 1]
    assert sites.a.diary.notes == [
        "b works on this study too: budget and parallel trials are shared."
    ]


def test_cancelling_ends_only_what_runs_here() -> None:
    sites = Sites(n_trials=4, parallel=4, slots=2)
    sites.turns(2)

    sites.b.tuner.cancel()

    assert len(sites.a.machine.running()) == 2
    assert sites.b.machine.running() == []
    assert [r.cause for r in sites.records()] == [None, None, Cause.CANCELLED, Cause.CANCELLED]
    assert sites.b.diary.notes[-1] == "Left alone: 2 running trials of a."


def test_a_runner_that_cannot_launch_does_not_wait_for_others() -> None:
    sites = Sites(n_trials=4, parallel=4, slots=2)
    sites.turns(2, sites.a)

    def blocked(trial: Trial, avoid: Collection[str] = ()) -> AttemptId:
        raise ExecutorBlocked("There is no such program here.")

    sites.b.executor.submit = blocked
    sites.turns(1, sites.b)
    result = sites.b.turn()

    assert result == TunerResult(
        Reason(Code.EXECUTOR_BLOCKED, "There is no such program here."),
        is_finished=False,
        is_failure=True,
    )
    assert len(sites.a.machine.running()) == 2
