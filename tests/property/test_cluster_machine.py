"""Two runners, one cluster, random faults: what must hold of a study always does."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.property.stateful import LONG_SECONDS, SETTINGS, new_runner, run_long
from tests.unit.study.studies import make_spec, open_study

from studyflow.errors import ExecutorUnavailable
from studyflow.executors import AttemptId
from studyflow.executors.kubernetes import KubernetesExecutor
from studyflow.executors.kubernetes.fence import Fence
from studyflow.executors.kubernetes.names import attempt_of
from studyflow.study import is_counted
from studyflow.testing.fake_cluster import FakeCluster, FakeClusterApi
from studyflow.trial import Cause, Outcome
from studyflow.trial.record import TrialState
from studyflow.tuner import Tuner, TunerResult

REQUESTS = [
    "list jobs",
    "list pods",
    "watch jobs",
    "watch pods",
    "create jobs",
    "get jobs",
    "patch jobs",
    "delete jobs",
    "list events",
    "log pods",
]
AWAY = ExecutorUnavailable("It does not answer.")


class ClusterMachine(RuleBasedStateMachine):
    """Pods end, vanish, are evicted; API servers fail; runners come and go."""

    @initialize(
        n_trials=st.integers(1, 4),
        parallel=st.integers(1, 3),
        ends_when_told=st.booleans(),
        canary_seconds=st.sampled_from([0.0, 10.0]),
    )
    def begin(
        self, n_trials: int, parallel: int, ends_when_told: bool, canary_seconds: float
    ) -> None:
        self.n_trials, self.parallel = n_trials, parallel
        self.spec = make_spec(
            budget={"n_trials": n_trials, "max_parallel_trials": parallel},
            retry={"max_attempts": 100, "backoff_seconds": 1},
            stop={"alike_failures": 50},
            trial={
                "command": ["python", "train.py"],
                "image": "registry.example/demo:1",
                "timeout_seconds": 5000,
                "kubernetes": {
                    "stop_grace_seconds": 5,
                    "pending_timeout_seconds": 1e9,
                    "canary_seconds": canary_seconds,
                },
            },
        )
        self.cluster = FakeCluster(ends_when_told=ends_when_told)
        self.storage = optuna.storages.InMemoryStorage()
        self.folder = Path(tempfile.mkdtemp())
        self.reader = open_study(self.spec, self.storage)
        self.told: Counter[int] = Counter()
        self.values: dict[AttemptId, set[float]] = {}
        self.apis: list[FakeClusterApi] = []
        self.runners = [self.runner(0), self.runner(1)]

    def runner(self, which: int) -> Tuner:
        api = FakeClusterApi(self.cluster)
        self.apis[which : which + 1] = [api]
        executor = KubernetesExecutor(
            self.spec,
            api=api,
            root=self.folder,
            clock=self.cluster.clock,
            is_threaded=False,
        )
        return new_runner(self.spec, self.storage, executor, self.told, self.cluster.clock)

    def pods(self, *states: str) -> list[str]:
        """Return the pods whose container is in one of these states; "" before it has one."""
        found = []
        for name in self.cluster.pod_names():
            pod = self.cluster.pod(name)
            statuses = pod["status"].get("containerStatuses")
            state = next(iter(statuses[0]["state"])) if statuses else ""
            if state in states and pod["status"]["phase"] in ("Pending", "Running"):
                found.append(name)
        return found

    def act(self, which: int, action: Callable[[str], Any], *states: str) -> None:
        pods = self.pods(*states)
        if pods:
            action(pods[which % len(pods)])

    def finish_pod(self, name: str, value: float, exit_code: int = 0) -> None:
        attempt = attempt_of(self.cluster.pod(name)["metadata"]["labels"])
        assert attempt is not None
        self.values.setdefault(attempt, set()).add(value)
        outcome = Outcome("demo", attempt.number, attempt.attempt, Cause.OK, {"loss": value})
        self.cluster.finish(name, message=outcome, exit_code=exit_code)

    @rule(which=st.integers(0, 1))
    def turn(self, which: int) -> None:
        result = self.runners[which].turn()
        assert result is None or result.is_finished, result

    @rule(which=st.integers(0, 9))
    def start(self, which: int) -> None:
        self.act(which, self.cluster.start, "", "waiting")

    @rule(which=st.integers(0, 9), value=st.sampled_from([0.0, 1.5, -2.0]))
    def finish(self, which: int, value: float) -> None:
        self.act(which, lambda pod: self.finish_pod(pod, value), "running")

    @rule(which=st.integers(0, 9), code=st.sampled_from([0, 1, 137, 139, 143]))
    def crash(self, which: int, code: int) -> None:
        self.act(which, lambda pod: self.cluster.finish(pod, exit_code=code), "running")

    @rule(which=st.integers(0, 9), how=st.sampled_from(["delete", "force", "preempt", "evict"]))
    def disturb(self, which: int, how: str) -> None:
        actions: dict[str, Callable[[str], Any]] = {
            "delete": self.cluster.delete_pod,
            "force": lambda pod: self.cluster.delete_pod(pod, grace_seconds=0),
            "preempt": self.cluster.preempt,
            "evict": self.cluster.evict,
        }
        self.act(which, actions[how], "", "waiting", "running")

    @rule(which=st.integers(0, 9))
    def delete_job(self, which: int) -> None:
        jobs = self.cluster.job_names()
        if jobs:
            self.cluster.delete_job(jobs[which % len(jobs)])

    @rule(which=st.integers(0, 1), request=st.sampled_from(REQUESTS), is_after=st.booleans())
    def lose_an_answer(self, which: int, request: str, is_after: bool) -> None:
        self.apis[which].interrupt(request, AWAY, is_after=is_after)

    @rule(which=st.integers(0, 1), is_away=st.booleans())
    def outage(self, which: int, is_away: bool) -> None:
        api = self.apis[which]
        if is_away:
            api.go_away()
        else:
            api.come_back()

    @rule()
    def compact(self) -> None:
        self.cluster.compact()

    @rule(is_stopped=st.booleans())
    def stop_the_controller(self, is_stopped: bool) -> None:
        self.cluster.is_controller_stopped = is_stopped
        self.cluster.reconcile()

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        self.runners[which] = self.runner(which)

    @rule(seconds=st.sampled_from([1.0, 10.0, 200.0, 6000.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.cluster.advance(seconds)

    @invariant()
    def limits_are_kept(self) -> None:
        if not hasattr(self, "storage"):
            return
        records = self.reader.records()
        counted_or_running = sum(is_counted(r) or r.state is TrialState.RUNNING for r in records)
        assert counted_or_running <= self.n_trials
        assert all(count == 1 for count in self.told.values())
        running = {r.number: r for r in records if r.state is TrialState.RUNNING}
        live = set()
        for name in self.cluster.job_names():
            job = self.cluster.job(name)
            attempt = attempt_of(job["metadata"]["labels"])
            assert attempt is not None
            record = running.get(attempt.number)
            is_current = record is not None and record.attempt == attempt.attempt
            if Fence.read(job) is None and is_current:
                live.add(attempt)
        # Each runner keeps the limit among what it knows of; the other one's newest Jobs reach it
        # by its watch, a moment later.
        assert len(live) <= 2 * self.parallel

    def teardown(self) -> None:
        """Whatever happened, one more runner brings the study to its end and leaves nothing."""
        if not hasattr(self, "storage"):
            return
        self.cluster.is_controller_stopped = False
        self.cluster.reconcile()
        runner = self.runner(0)
        result: TunerResult | None = None
        for _ in range(300):
            result = runner.turn()
            if result is not None and not self.cluster.job_names():
                break
            for pod in self.pods("", "waiting"):
                self.cluster.start(pod)
            runner.turn()
            for pod in self.pods("running"):
                self.finish_pod(pod, 0.25)
            self.cluster.advance(30.0)
        assert result is not None
        assert result.is_finished, result
        self.limits_are_kept()
        records = self.reader.records()
        assert sum(is_counted(r) for r in records) == self.n_trials, "I2"
        assert all(r.state.is_finished for r in records), "I1"
        assert set(self.told) == {r.number for r in records}
        for record in records:
            if record.state is TrialState.COMPLETE:
                assert record.values is not None
                newest = AttemptId(record.number, record.attempt)
                assert record.values[0] in self.values[newest], "I3"
                assert not record.is_lost, "I3"
        assert self.cluster.job_names() == self.cluster.pod_names() == [], "I5"


TestClusterMachine = ClusterMachine.TestCase
TestClusterMachine.settings = settings(SETTINGS, max_examples=60, stateful_step_count=40)


@pytest.mark.long
@pytest.mark.timeout(LONG_SECONDS)
def test_a_thousand_times_the_examples(record_property: Callable[[str, object], None]) -> None:
    record_property("did", "3,000 random histories of 50 steps")
    run_long(ClusterMachine)
