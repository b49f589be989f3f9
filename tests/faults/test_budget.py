"""Two runners with one budget, in virtual time: attempts are lost, runners killed and stopped.

Whatever happens, no attempt starts once the budget is reached, and each attempt is counted once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import optuna
import pytest
from tests.unit.study.studies import make_spec, open_study
from tests.unit.tuner.rig import Diary, Picture

from studyflow.diagnostics.invariants import check, gather
from studyflow.executors import AttemptId
from studyflow.ledger import all_rows, spending
from studyflow.spec import StudySpec
from studyflow.study import Study
from studyflow.study import storage_form as form
from studyflow.testing.fake_clock import FakeClock
from studyflow.testing.fake_executor import FakeExecutor, Params
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState
from studyflow.tuner import Tuner, TunerResult, TunerSettings

pytestmark = pytest.mark.slow

N_SEEDS = 50
HOUR = 3600.0
LEASE_SECONDS = 600.0
STEP_SECONDS = 20.0


@dataclass
class Held:
    """An attempt as it really was; where its row is an estimate, for as long as that says."""

    id: AttemptId
    start: float
    end: float
    units: int


class Machine:
    """One machine, and a runner on it that may be killed, stand still, or be hours off."""

    def __init__(self, world: World, name: str, skew_seconds: float) -> None:
        self.world = world
        self.name = name
        self.skew_seconds = skew_seconds
        self.executor = FakeExecutor(
            "demo",
            objective=lambda params: float(str(params["x"])),
            duration=world.duration,
            clock=world.clock,
            site=name,
            slots=world.random.choice([None, 1, 3]),
            gpus=world.gpus,
        )
        self.asleep_until = 0.0
        self.n_beats = 0
        self.result: TunerResult | None = None
        self.study: Study
        self.tuner: Tuner
        self.restart()

    def restart(self) -> None:
        self.executor = self.executor.again()
        self.study = open_study(self.world.spec, self.world.storage)
        self.tuner = Tuner(
            self.study,
            self.executor,
            Picture(),
            Diary(),
            settings=TunerSettings(lease_seconds=LEASE_SECONDS),
            clock=self.world.clock,
            wall_clock=lambda: self.world.clock() + self.skew_seconds,
        )

    def turn(self) -> None:
        if self.result is not None or self.world.clock() < self.asleep_until:
            return
        self.n_beats += 1
        beat = {"number": self.n_beats, "at": self.world.clock() + self.skew_seconds}
        self.study.optuna_study.set_user_attr(f"{form.BEAT}{self.name}", beat)
        self.result = self.tuner.turn()

    def held(self) -> list[Held]:
        return [
            Held(attempt, a.started_at, a.ends_at, max(self.world.gpus, 1))
            for attempt, a in self.executor.machine.attempts.items()
        ]


class World:
    """A study of two machines under one clock, and what goes wrong with them."""

    def __init__(self, seed: int, *, skewed: bool = False, at_limit: str = "finish") -> None:
        self.random = random.Random(seed)
        self.clock = FakeClock()
        self.gpus = self.random.choice([0, 1, 4])
        self.limit_hours = self.random.uniform(2.0, 20.0)
        self.spread = self.random.choice([0.0, 0.3, 1.0])
        parallel = self.random.randint(1, 6)
        timeout = self.random.choice([{}, {"timeout_seconds": self.limit_hours * HOUR / 10}])
        self.spec: StudySpec = make_spec(
            budget={
                "n_trials": self.random.choice([20, 1000]),
                "max_parallel_trials": parallel,
                "gpu_hours": self.limit_hours,
                "at_limit": at_limit,
            },
            retry={"backoff_seconds": 2, "max_attempts": 3},
            trial={"command": ["true"], "resources": {"gpu": self.gpus}, **timeout},
        )
        self.storage = optuna.storages.InMemoryStorage()
        skews = [self.random.uniform(-2 * HOUR, 2 * HOUR) if skewed else 0.0 for _ in "ab"]
        self.estimates: dict[AttemptId, float] = {}
        self.machines = [Machine(self, n, s) for n, s in zip("ab", skews, strict=True)]

    def duration(self, params: Params) -> float:
        typical = 0.01 * self.limit_hours * HOUR * (1.0 + 4.0 * float(str(params["x"])))
        return typical * self.random.lognormvariate(0.0, self.spread) / max(self.gpus, 1)

    def run(self) -> tuple[TrialRecord, ...]:
        for _ in range(100_000):
            order = self.random.sample(self.machines, 2)
            for machine in order:
                if self.random.random() < 0.03:
                    self.break_something(machine)
                machine.turn()
            if all(machine.result is not None for machine in self.machines):
                records = self.machines[0].study.records()
                self.estimates = {
                    AttemptId(record.number, row.attempt): row.seconds
                    for record in records
                    for row in record.costs
                    if row.is_estimate
                }
                return records
            self.clock.advance(STEP_SECONDS)
        raise AssertionError("the study does not come to its end")

    def break_something(self, machine: Machine) -> None:
        fault = self.random.choice(["kill", "sleep", "lose", "away"])
        if fault == "kill" and machine.result is None:
            machine.restart()
        elif fault == "sleep":
            machine.asleep_until = self.clock() + self.random.uniform(0.0, 2 * LEASE_SECONDS)
        elif fault == "lose":
            running = machine.executor.machine.running()
            if running:
                machine.executor.lose(self.random.choice(running), Cause.EVICTED)
        elif fault == "away":
            machine.executor.machine.is_away = not machine.executor.machine.is_away
        if machine.executor.machine.is_away and self.random.random() < 0.5:
            machine.executor.machine.is_away = False

    def held(self) -> list[Held]:
        found = [held for machine in self.machines for held in machine.held()]
        for held in found:
            if held.id in self.estimates:
                held.end = held.start + self.estimates[held.id]
        return found

    def reached_at(self) -> float:
        """Return when the budget was really spent; infinite if it never was."""
        held = self.held()
        for moment in sorted({h.end for h in held}):
            if self.spent_until(moment) >= self.limit_hours * HOUR:
                low, high = 0.0, moment
                for _ in range(60):
                    middle = (low + high) / 2
                    is_over = self.spent_until(middle) >= self.limit_hours * HOUR
                    low, high = (low, middle) if is_over else (middle, high)
                return high
        return float("inf")

    def spent_until(self, moment: float) -> float:
        return sum(h.units * max(min(h.end, moment) - h.start, 0.0) for h in self.held())


@pytest.mark.fault("F92")
@pytest.mark.parametrize("seed", range(N_SEEDS))
def test_nothing_starts_once_the_budget_is_reached_and_every_attempt_is_counted_once(
    seed: int,
) -> None:
    world = World(seed, at_limit="stop" if seed % 5 == 0 else "finish")
    records = world.run()

    assert all(record.state.is_finished for record in records)
    reached_at = world.reached_at()
    late = [held for held in world.held() if held.start > reached_at + 1e-3]
    assert late == [], "an attempt started after the budget was reached"
    in_flight = sum(
        h.units * (h.end - h.start) for h in world.held() if h.start <= reached_at <= h.end
    )
    total = spending(all_rows(records))
    assert total.unit_seconds <= world.limit_hours * HOUR + in_flight + 1e-3
    for record in records:
        assert len({row.attempt for row in record.costs}) == len(record.costs)
    really = sum(h.units * (h.end - h.start) for h in world.held())
    assert total.unit_seconds == pytest.approx(really)
    findings = check(gather(world.spec, records, executor=world.machines[0].executor))
    assert [finding for finding in findings if finding.is_problem] == []


@pytest.mark.fault("F91", "F92")
@pytest.mark.parametrize("seed", range(20))
def test_clocks_that_are_hours_apart_neither_stop_a_study_early_nor_let_it_go_on(
    seed: int,
) -> None:
    world = World(seed, skewed=True)
    records = world.run()
    findings = check(gather(world.spec, records, executor=world.machines[0].executor))
    assert [finding for finding in findings if finding.is_problem] == []


def test_the_world_of_these_tests_reaches_its_budget_and_loses_attempts() -> None:
    worlds = [World(seed) for seed in (0, 1, 2, 3, 14)]
    records = [world.run() for world in worlds]
    assert any(world.reached_at() < float("inf") for world in worlds)
    assert any(record.lost_attempts for some in records for record in some)
    assert any(record.cause is Cause.BUDGET for some in records for record in some)
    assert all(record.state is not TrialState.RUNNING for some in records for record in some)
    assert any(world.estimates for world in worlds)
