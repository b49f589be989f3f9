"""Machines that share one study and die at random: the same invariants as of one alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import optuna
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.property.stateful import LONG_SECONDS, SETTINGS, new_runner, run_long
from tests.property.test_tuner_machine import LOSSES
from tests.stopped_runner import Stopping, check_invariants
from tests.unit.study.studies import make_spec, open_study

from studyflow.executors import AttemptId
from studyflow.study import is_counted
from studyflow.study import storage_form as form
from studyflow.testing.fake_clock import FakeClock
from studyflow.testing.fake_executor import FakeExecutor
from studyflow.trial import Cause, Outcome
from studyflow.trial.record import TrialRecord, TrialState
from studyflow.tuner import Tuner, TunerResult

pytestmark = pytest.mark.fault("F24", "F25", "F63")

NAMES = ("a", "b", "c")


class PlacesMachine(RuleBasedStateMachine):
    """Three machines, each with attempts of its own and a runner that is at work or is not."""

    @initialize(n_trials=st.integers(1, 6), parallel=st.integers(1, 4))
    def begin(self, n_trials: int, parallel: int) -> None:
        self.n_trials, self.parallel = n_trials, parallel
        self.spec = make_spec(
            budget={"n_trials": n_trials, "max_parallel_trials": parallel},
            retry={"max_attempts": 20, "backoff_seconds": 2},
        )
        self.storage = optuna.storages.InMemoryStorage()
        self.clock = FakeClock()
        self.executors = {name: FakeExecutor("demo", clock=self.clock, site=name) for name in NAMES}
        self.reader = open_study(self.spec, self.storage)
        self.told: Counter[int] = Counter()
        self.values: dict[tuple[str, AttemptId], float] = {}
        self.stopping: dict[str, Stopping] = {}
        self.runners = {name: self.runner(name) for name in NAMES}
        self.at_work = set(NAMES)
        self.n_beats = 0

    def runner(self, name: str) -> Tuner:
        self.executors[name] = executor = self.executors[name].again()
        self.stopping[name] = Stopping(self.storage)
        return new_runner(self.spec, self.stopping[name], executor, self.told, self.clock)

    def act(self, name: str) -> TunerResult | None:
        self.n_beats += 1
        self.reader.optuna_study.set_user_attr(f"{form.BEAT}{name}", {"number": self.n_beats})
        return self.runners[name].turn()

    def live(self) -> list[tuple[str, AttemptId]]:
        """Return where attempts run, dead machines' among them."""
        return [
            (name, attempt)
            for name, executor in self.executors.items()
            for attempt in sorted(executor.machine.running())
        ]

    @rule(seconds=st.integers(1, 40))
    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1.0)
            for name in sorted(self.at_work):
                self.act(name)

    @rule(name=st.sampled_from(NAMES))
    def turn(self, name: str) -> None:
        if name in self.at_work:
            self.act(name)

    @rule(name=st.sampled_from(NAMES))
    def stop(self, name: str) -> None:
        """A runner dies or is stopped; its attempts go on."""
        self.at_work.discard(name)

    @rule(name=st.sampled_from(NAMES), is_new=st.booleans())
    def start(self, name: str, is_new: bool) -> None:
        """It wakes up as it was, or another one takes its place."""
        if is_new:
            self.runners[name] = self.runner(name)
        self.at_work.add(name)

    @rule(name=st.sampled_from(NAMES), n_passed=st.integers(0, 12), seconds=st.integers(1, 80))
    def freeze(self, name: str, n_passed: int, seconds: int) -> None:
        """A runner stands still just before one of its next writes, while the others go on."""
        if name not in self.at_work:
            return

        def others_go_on() -> None:
            self.at_work.discard(name)
            self.pass_time(seconds)
            self.at_work.add(name)

        self.stopping[name].arm(n_passed, others_go_on)
        for _ in range(3):
            if not self.stopping[name].was_reached:
                self.act(name)
        self.stopping[name].disarm()

    @rule(which=st.integers(0, 9), value=st.floats(-1.0, 1.0))
    def end(self, which: int, value: float) -> None:
        if live := self.live():
            name, attempt = live[which % len(live)]
            self.values[name, attempt] = value
            self.executors[name].finish(attempt, value)

    @rule(which=st.integers(0, 9), cause=LOSSES)
    def lose(self, which: int, cause: Cause) -> None:
        if live := self.live():
            name, attempt = live[which % len(live)]
            self.executors[name].lose(attempt, cause)

    def records(self) -> tuple[TrialRecord, ...]:
        return self.reader.records()

    @invariant()
    def limits_are_kept(self) -> None:
        if not hasattr(self, "storage"):
            return
        records = self.records()
        newest = {(r.holder, AttemptId(r.number, r.attempt)) for r in records if r.has_attempt}
        assert len(newest.intersection(self.live())) <= self.parallel
        used = sum(is_counted(r) or r.state is TrialState.RUNNING for r in records)
        assert used <= self.n_trials
        assert all(count == 1 for count in self.told.values())
        sites = Counter(
            AttemptId(trial.number, trial.attempt)
            for executor in self.executors.values()
            for trial in executor.machine.submitted
        )
        assert set(sites.values()) <= {1}, "no attempt is launched at two sites"

    def teardown(self) -> None:
        """Whatever happened, one machine that is left brings the study to its end."""
        if not hasattr(self, "storage"):
            return
        self.at_work = {"c"}
        result: TunerResult | None = None
        for _ in range(2000):
            self.clock.advance(2.0)
            result = self.act("c")
            if result is not None:
                break
            for attempt in self.executors["c"].machine.running():
                self.values["c", attempt] = 0.25
                outcome = Outcome("demo", attempt.number, attempt.attempt, Cause.OK, {"loss": 0.25})
                self.executors["c"].finish(attempt, outcome)
        assert result is not None
        assert result.is_finished
        self.limits_are_kept()
        check_invariants(self.reader)
        records = self.records()
        assert sum(is_counted(r) for r in records) == self.n_trials
        assert all(r.state.is_finished for r in records)
        for record in records:
            if record.state is TrialState.COMPLETE:
                assert record.holder is not None
                newest = AttemptId(record.number, record.attempt)
                assert record.values == (self.values[record.holder, newest],)


TestPlacesMachine = PlacesMachine.TestCase
TestPlacesMachine.settings = SETTINGS


@pytest.mark.long
@pytest.mark.timeout(LONG_SECONDS)
def test_a_thousand_times_the_examples(record_property: Callable[[str, object], None]) -> None:
    record_property("did", "3,000 random histories of 50 steps")
    run_long(PlacesMachine)
