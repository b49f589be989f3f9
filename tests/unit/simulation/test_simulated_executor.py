"""The simulated executor keeps the contract of executors, and its trials go on where they were."""

from __future__ import annotations

import math

import pytest

from studyflow.errors import ExecutorUnavailable, SimulationError
from studyflow.executors import AttemptId, AttemptState, AttemptStatus
from studyflow.simulation import (
    Cluster,
    Params,
    SimulatedExecutor,
    SimulatedMachine,
    Training,
    Workload,
)
from studyflow.testing.executor_contract import (
    METRIC,
    STUDY,
    ExecutorContract,
    ExecutorPlace,
    Script,
)
from studyflow.trial import Cause, Outcome, Trial
from studyflow.trial.checkpoint_folders import CHECKPOINT_METRIC
from studyflow.trial.cost import Allocation


class SimulatedPlace:
    """Trainings that behave as the scripts do."""

    patience_seconds = 5.0
    script_seconds = 1.0

    def __init__(self) -> None:
        self._machine: SimulatedMachine | None = None

    def executor(
        self,
        script: Script,
        *,
        timeout_seconds: float | None = None,
        stop_grace_seconds: float = 0.2,
    ) -> SimulatedExecutor:
        trainings = {
            Script.FINISH: Training([1.0, 0.5, 1 / 3], final=0.5),
            Script.HANG: Training([1.0], 0.1, tail_seconds=math.inf),
        }
        if self._machine is None:
            cluster = Cluster(slots=4, stop_seconds=stop_grace_seconds)
            self._machine = SimulatedMachine(cluster, lambda params, seed: trainings[script])
        return SimulatedExecutor(STUDY, self._machine, timeout_seconds=timeout_seconds)

    def kill_behind_its_back(self, attempt: AttemptId) -> None:
        assert self._machine is not None
        self._machine.lose(attempt)

    def starts(self, attempt: AttemptId) -> int:
        assert self._machine is not None
        ids = [AttemptId(trial.number, trial.attempt) for trial in self._machine.submitted]
        return ids.count(attempt)


class TestSimulatedExecutor(ExecutorContract):
    @pytest.fixture
    def place(self) -> ExecutorPlace:
        return SimulatedPlace()


def a_trial(number: int = 0, attempt: int = 1) -> Trial:
    return Trial("demo", number, {"x": 1.0}, attempt=attempt, metrics=(METRIC,))


def four_steps(_params: Params, _seed: int) -> Training:
    return Training([4.0, 3.0, 2.0, 1.0], 10.0)


def executor_of(
    cluster: Cluster, workload: Workload = four_steps, gpus: int = 0
) -> SimulatedExecutor:
    machine = SimulatedMachine(cluster, workload)
    return SimulatedExecutor("demo", machine, allocation=Allocation(gpus, "gpu" if gpus else None))


def ended(executor: SimulatedExecutor, attempt: AttemptId) -> tuple[AttemptStatus, list[int]]:
    """Return how an attempt ends, and the steps of the objective that it reported."""
    steps: list[int] = []
    while True:
        status = executor.poll()[attempt]
        steps += [point.step for point in status.points if point.name == METRIC]
        if status.state is AttemptState.ENDED:
            return status, steps
        executor.wait(1e9)


def outcome_of(status: AttemptStatus) -> Outcome:
    assert status.outcome is not None
    return status.outcome


def test_a_pod_that_starts_is_pending_and_holds_nothing() -> None:
    executor = executor_of(Cluster(pod_seconds=30.0, startup_seconds=5.0), gpus=2)
    clock = executor.machine.clock
    began = clock()
    attempt = executor.submit(a_trial())
    assert executor.poll()[attempt].state is AttemptState.PENDING
    executor.wait(1e9)
    assert (clock() - began, executor.machine.unit_seconds()) == (30.0, 0.0)
    status, _ = ended(executor, attempt)
    assert clock() - began == 30.0 + 5.0 + 40.0
    assert status.started_at == began + 30.0
    assert executor.machine.unit_seconds() == 2 * 45.0


def test_no_more_attempts_run_than_there_are_slots() -> None:
    executor = executor_of(Cluster(slots=2))
    for number in (0, 1):
        executor.submit(a_trial(number))
    with pytest.raises(ExecutorUnavailable, match="All 2 slots"):
        executor.submit(a_trial(2))


@pytest.mark.parametrize(("every", "resumed_steps"), [(None, [0, 1, 2, 3]), (1, [3]), (2, [2, 3])])
def test_an_attempt_after_a_loss_goes_on_behind_the_last_checkpoint(
    every: int | None, resumed_steps: list[int]
) -> None:
    executor = executor_of(Cluster(checkpoint_every=every))
    first = executor.submit(a_trial(0, 1))
    executor.wait(1e9)
    executor.poll()
    executor.machine.clock.advance_to(executor.machine.clock() + 22.0)
    executor.machine.lose(first)
    assert outcome_of(executor.poll()[first]).cause is Cause.LOST
    executor.forget(first)
    second = executor.submit(a_trial(0, 2))
    status, steps = ended(executor, second)
    assert steps == resumed_steps
    assert outcome_of(status).metrics == {METRIC: 1.0}


def test_an_attempt_that_was_stopped_at_a_report_goes_on_at_the_next_step() -> None:
    executor = executor_of(Cluster(checkpoint_every=1, startup_seconds=3.0))
    first = executor.submit(a_trial(0, 1))
    executor.wait(1e9)
    points = executor.poll()[first].points
    assert [(p.name, p.step, p.value) for p in points] == [
        (CHECKPOINT_METRIC, 0, 1.0),
        (METRIC, 0, 4.0),
    ]
    executor.stop(first, Cause.CANCELLED, "another one is worth more")
    assert outcome_of(executor.poll()[first]).cause is Cause.CANCELLED
    began = executor.machine.clock()
    second = executor.submit(a_trial(0, 2))  # before the first is forgotten, as it may be
    _, steps = ended(executor, second)
    assert steps == [1, 2, 3]
    assert executor.machine.clock() - began == 3.0 + 30.0


def test_losses_come_at_their_rate_and_are_the_same_each_time() -> None:
    cluster = Cluster(losses_per_hour=2.0, seed=5)
    times = [cluster.seconds_until_loss(number, 1) for number in range(400)]
    assert times == [cluster.seconds_until_loss(number, 1) for number in range(400)]
    assert 1600 < sum(times) / 400 < 2000
    assert Cluster().seconds_until_loss(0, 1) == math.inf


def test_a_machine_that_loses_attempts_says_so() -> None:
    executor = executor_of(Cluster(losses_per_hour=1e6))
    status, steps = ended(executor, executor.submit(a_trial()))
    assert (outcome_of(status).cause, steps) == (Cause.EVICTED, [])


def test_a_training_says_how_many_gpus_it_holds() -> None:
    executor = executor_of(Cluster(), lambda params, seed: Training([1.0], 10.0, gpus=4), gpus=1)
    attempt = executor.submit(a_trial())
    assert ended(executor, attempt)[0].allocation == Allocation(4, "gpu")
    assert executor.machine.unit_seconds() == 40.0


def test_waiting_for_what_never_ends_is_an_error() -> None:
    never = Training([1.0], 1.0, tail_seconds=math.inf)
    executor = executor_of(Cluster(), lambda params, seed: never)
    attempt = executor.submit(a_trial())
    executor.wait(math.inf)
    assert executor.poll()[attempt].points != ()
    with pytest.raises(SimulationError, match="waits for ever"):
        executor.wait(math.inf)


def test_a_runner_that_starts_nothing_any_more_is_an_error() -> None:
    executor = executor_of(Cluster())
    for _ in range(1000):
        executor.wait(1.0)
    with pytest.raises(SimulationError, match="stands still"):
        executor.wait(1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Training([1.0, 2.0], [1.0]),
        lambda: Training([1.0], steps=[1, 2]),
        lambda: Training([1.0], -1.0),
        lambda: Training(tail_seconds=math.nan),
        lambda: Cluster(slots=0),
        lambda: Cluster(checkpoint_every=0),
        lambda: Cluster(losses_per_hour=-1.0),
        lambda: Cluster(pod_seconds=math.nan),
    ],
)
def test_what_cannot_be_is_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=r"seconds|steps|slots|every|losses"):
        make()
