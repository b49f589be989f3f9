"""The loop under random outcomes, deaths, restarts and outages: what must hold always does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import optuna
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.property.stateful import LONG_SECONDS, SETTINGS, new_runner, run_long
from tests.unit.study.studies import make_spec, open_study

from studyflow.diagnostics.invariants import check, gather
from studyflow.executors import AttemptId
from studyflow.study import is_counted
from studyflow.testing.fake_clock import FakeClock
from studyflow.testing.fake_executor import FakeExecutor
from studyflow.trial import Cause, Outcome
from studyflow.trial.record import TrialRecord, TrialState
from studyflow.tuner import Tuner, TunerResult

OUTCOMES = st.sampled_from(
    [0.0, 1.5, -2.0, float("nan"), float("inf"), Cause.HOST_OOM, Cause.USER_ERROR, Cause.TIMEOUT]
)
LOSSES = st.sampled_from([cause for cause in Cause if cause.is_infrastructure])


class TunerMachine(RuleBasedStateMachine):
    """Two runners take turns; attempts end when the test says so."""

    @initialize(
        n_trials=st.integers(1, 6), parallel=st.integers(1, 3), max_attempts=st.integers(1, 4)
    )
    def begin(self, n_trials: int, parallel: int, max_attempts: int) -> None:
        self.n_trials, self.parallel = n_trials, parallel
        self.spec = make_spec(
            budget={"n_trials": n_trials, "max_parallel_trials": parallel},
            retry={"max_attempts": max_attempts, "backoff_seconds": 2},
            stop={"alike_failures": 50},
            pruner={"type": "threshold", "upper": 100.0},
        )
        self.storage = optuna.storages.InMemoryStorage()
        self.clock = FakeClock()
        self.executor = FakeExecutor("demo", clock=self.clock)
        self.machine = self.executor.machine
        self.vanished: set[AttemptId] = set()
        self.reader = open_study(self.spec, self.storage)
        self.told: Counter[int] = Counter()
        self.values: dict[AttemptId, float] = {}
        self.runners = [self.runner(), self.runner()]

    def runner(self) -> Tuner:
        executor = self.executor.again()
        return new_runner(self.spec, self.storage, executor, self.told, self.clock)

    def live(self, which: int) -> AttemptId | None:
        running = sorted(self.machine.running())
        return running[which % len(running)] if running else None

    @rule(which=st.integers(0, 1))
    def turn(self, which: int) -> None:
        result = self.runners[which].turn()
        assert result is None or result.is_finished

    @rule(which=st.integers(0, 9), result=OUTCOMES)
    def end(self, which: int, result: float | Cause) -> None:
        attempt = self.live(which)
        if attempt is not None:
            if isinstance(result, float):
                self.values[attempt] = result
            self.executor.finish(attempt, result)

    @rule(which=st.integers(0, 9), cause=LOSSES)
    def lose(self, which: int, cause: Cause) -> None:
        attempt = self.live(which)
        if attempt is not None:
            self.executor.lose(attempt, cause)

    @rule(which=st.integers(0, 9))
    def vanish(self, which: int) -> None:
        """Somebody removes an attempt with all its traces."""
        attempt = self.live(which)
        if attempt is not None:
            del self.machine.attempts[attempt]
            self.vanished.add(attempt)

    @rule(which=st.integers(0, 9), value=st.sampled_from([1.0, 500.0]), step=st.integers(0, 3))
    def report(self, which: int, value: float, step: int) -> None:
        attempt = self.live(which)
        if attempt is not None:
            self.executor.report(attempt, step, loss=value)

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        self.runners[which] = self.runner()

    @rule(is_away=st.booleans())
    def outage(self, is_away: bool) -> None:
        self.machine.is_away = is_away

    @rule(seconds=st.sampled_from([0.5, 3.0, 60.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def limits_are_kept(self) -> None:
        if not hasattr(self, "storage"):
            return
        records = self.records()
        assert len(self.machine.running()) <= self.parallel
        assert self.machine.most_running <= self.parallel
        counted_or_running = sum(is_counted(r) or r.state is TrialState.RUNNING for r in records)
        assert counted_or_running <= self.n_trials
        assert all(count == 1 for count in self.told.values())
        # Of what vanished without a trace, a new runner knows nothing: it submits it once more.
        submitted = [AttemptId(t.number, t.attempt) for t in self.machine.submitted]
        submitted = [attempt for attempt in submitted if attempt not in self.vanished]
        assert len(set(submitted)) == len(submitted)

    def records(self) -> tuple[TrialRecord, ...]:
        return self.reader.records()

    def teardown(self) -> None:
        """Whatever happened, one more runner brings the study to its end."""
        if not hasattr(self, "storage"):
            return
        self.machine.is_away = False
        runner = self.runner()
        result: TunerResult | None = None
        for _ in range(400):
            result = runner.turn()
            if result is not None:
                break
            for attempt in self.machine.running():
                self.values[attempt] = 0.25
                self.executor.finish(
                    attempt, Outcome("demo", *_pair(attempt), Cause.OK, {"loss": 0.25})
                )
            self.clock.advance(300.0)
        assert result is not None
        assert result.is_finished
        self.limits_are_kept()
        records = self.records()
        assert sum(is_counted(r) for r in records) == self.n_trials
        assert all(r.state.is_finished for r in records)
        assert set(self.told) == {r.number for r in records}
        for record in records:
            if record.state is TrialState.COMPLETE:
                newest = AttemptId(record.number, record.attempt)
                assert record.values == (self.values[newest],)
        evidence = gather(self.spec, records, executor=self.executor.again())
        assert [finding for finding in check(evidence) if finding.is_problem] == []


def _pair(attempt: AttemptId) -> tuple[int, int]:
    return attempt.number, attempt.attempt


TestTunerMachine = TunerMachine.TestCase
TestTunerMachine.settings = SETTINGS


@pytest.mark.long
@pytest.mark.timeout(LONG_SECONDS)
def test_a_thousand_times_the_examples(record_property: Callable[[str, object], None]) -> None:
    record_property("did", "3,000 random histories of 50 steps")
    run_long(TunerMachine)
