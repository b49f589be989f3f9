"""Every executor passes the suites that studyflow ships."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.executors.kubernetes.test_client import use_kubeconfig

from studyflow.executors import (
    AttemptFiles,
    AttemptId,
    AttemptStatus,
    ExecutorTraits,
    ExecutorWithLogs,
)
from studyflow.executors.kubernetes import KubernetesExecutor
from studyflow.executors.kubernetes.api import ClusterApi
from studyflow.executors.kubernetes.client import KubernetesApi
from studyflow.executors.kubernetes.names import job_name
from studyflow.executors.local import LocalExecutor
from studyflow.spec import StudySpec
from studyflow.testing.executor_contract import (
    METRIC,
    STUDY,
    ExecutorContract,
    ExecutorPlace,
    Script,
    ScriptContract,
)
from studyflow.testing.fake_clock import FakeClock
from studyflow.testing.fake_cluster import FakeCluster, FakeClusterApi
from studyflow.testing.fake_cluster_server import FakeClusterServer
from studyflow.testing.fake_executor import FOREVER, FakeExecutor, FakeMachine
from studyflow.trial import Cause, MetricPoint, Outcome, Trial

COUNT_STARTS = """\
import json, os
trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
with open({starts!r}, "a") as file:
    file.write(f"{{trial['number']}}-{{trial['attempt']}}\\n")
"""


class LocalPlace:
    """Processes of this machine below a temporary folder."""

    patience_seconds = 30.0
    script_seconds = 5.0

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._starts = folder / "starts.txt"
        self._executors: list[ExecutorWithLogs] = []

    def executor(
        self,
        script: Script,
        *,
        timeout_seconds: float | None = None,
        stop_grace_seconds: float = 0.2,
    ) -> ExecutorWithLogs:
        source = COUNT_STARTS.format(starts=str(self._starts)) + script.value
        (self._folder / "train.py").write_text(source)
        executor = LocalExecutor(
            STUDY,
            ["python", "train.py"],
            root=self._folder / "root",
            cwd=self._folder,
            timeout_seconds=timeout_seconds,
            stop_grace_seconds=stop_grace_seconds,
        )
        self._executors.append(executor)
        return executor

    def kill_behind_its_back(self, attempt: AttemptId) -> None:
        folder = self._folder / "root" / "trials" / str(attempt.number)
        pids = json.loads((folder / f"attempt-{attempt.attempt}" / "pid.json").read_text())
        os.kill(pids["supervisor"], signal.SIGKILL)

    def starts(self, attempt: AttemptId) -> int:
        return Counter(self._starts.read_text().split())[str(attempt)]

    def close(self) -> None:
        for executor in self._executors:
            for attempt in executor.poll():
                executor.stop(attempt, Cause.CANCELLED, "the test is over")
            executor.close()


class TestLocalExecutor(ScriptContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[ExecutorPlace]:
        place = LocalPlace(tmp_path)
        yield place
        place.close()


class FakePlace:
    """Functions under a fake clock that behave as the scripts do."""

    patience_seconds = 1.0
    script_seconds = 1.0

    def __init__(self) -> None:
        self._machine = FakeMachine(FakeClock())

    def executor(
        self,
        script: Script,
        *,
        timeout_seconds: float | None = None,
        stop_grace_seconds: float = 0.2,
    ) -> FakeExecutor:
        hangs = script is Script.HANG
        return FakeExecutor(
            STUDY,
            objective=lambda params: {METRIC: 0.5},
            duration=FOREVER if hangs else 3.0,
            curve=lambda params: [{METRIC: 1 / (i + 1)} for i in range(1 if hangs else 3)],
            timeout_seconds=timeout_seconds,
            stop_seconds=stop_grace_seconds,
            machine=self._machine,
        )

    def kill_behind_its_back(self, attempt: AttemptId) -> None:
        FakeExecutor(STUDY, machine=self._machine).lose(attempt)

    def starts(self, attempt: AttemptId) -> int:
        return sum(
            AttemptId(trial.number, trial.attempt) == attempt for trial in self._machine.submitted
        )


class TestFakeExecutor(ExecutorContract):
    @pytest.fixture
    def place(self) -> ExecutorPlace:
        return FakePlace()


class Kubelet:
    """Runs the containers of a fake cluster as the scripts would run, one step a poll."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.script = Script.FINISH
        self.reports: dict[AttemptId, list[MetricPoint]] = {}
        """What the scripts sent to MLflow."""

    def step(self) -> None:
        """Take every pod one step further: made, running, ended."""
        for name in self.cluster.pod_names():
            pod = self.cluster.pod(name)
            labels = pod["metadata"]["labels"]
            attempt = AttemptId(
                int(labels["studyflow.dev/trial"]), int(labels["studyflow.dev/attempt"])
            )
            if "containerStatuses" not in pod["status"]:
                self.cluster.schedule(name)
            elif pod["status"]["phase"] == "Pending":
                self.cluster.start(name)
                self.report(attempt)
            elif pod["status"]["phase"] == "Running" and self.script is Script.FINISH:
                self.report(attempt)
                self.report(attempt)
                outcome = Outcome(STUDY, attempt.number, attempt.attempt, Cause.OK, {METRIC: 0.5})
                self.cluster.finish(name, message=outcome)

    def report(self, attempt: AttemptId) -> None:
        points = self.reports.setdefault(attempt, [])
        by_node = round(1000 * (self.cluster.clock() + self.cluster.node_skew_seconds))
        points.append(MetricPoint(METRIC, len(points), 1 / (len(points) + 1), by_node))


class ReportingExecutor:
    """An executor whose `poll` lets time pass, and adds what the scripts sent to MLflow."""

    def __init__(self, executor: KubernetesExecutor, kubelet: Kubelet) -> None:
        self._executor = executor
        self._kubelet = kubelet
        self._seen: dict[AttemptId, int] = {}

    @property
    def traits(self) -> ExecutorTraits:
        return replace(self._executor.traits, brings_points=True)

    @property
    def site(self) -> str:
        return self._executor.site

    def submit(self, trial: Trial, *, avoid: Collection[str] = ()) -> AttemptId:
        return self._executor.submit(trial, avoid=avoid)

    def poll(self) -> Mapping[AttemptId, AttemptStatus]:
        self._kubelet.step()
        found = self._executor.poll()
        return {a: replace(status, points=self._new_points(a)) for a, status in found.items()}

    def _new_points(self, attempt: AttemptId) -> tuple[MetricPoint, ...]:
        points = self._kubelet.reports.get(attempt, [])
        new = points[self._seen.get(attempt, 0) :]
        self._seen[attempt] = len(points)
        return tuple(new)

    def wait(self, timeout_seconds: float) -> None:
        self._executor.wait(timeout_seconds)
        self._kubelet.cluster.advance(timeout_seconds)

    def stop(self, attempt: AttemptId, cause: Cause, reason: str) -> None:
        self._executor.stop(attempt, cause, reason)

    def forget(self, attempt: AttemptId) -> None:
        self._executor.forget(attempt)

    def files(self, attempt: AttemptId) -> AttemptFiles:
        return self._executor.files(attempt)

    def read_log(self, attempt: AttemptId, *, offset: int = 0, limit_bytes: int = 65536) -> bytes:
        return self._executor.read_log(attempt, offset=offset, limit_bytes=limit_bytes)

    def follow_log(self, attempt: AttemptId) -> Iterator[bytes]:
        return self._executor.follow_log(attempt)

    def close(self) -> None:
        self._executor.close()


class FakeClusterPlace:
    """Pods of a fake cluster, under a clock that moves when somebody waits."""

    patience_seconds = 1.0
    script_seconds = 1.0

    def __init__(
        self,
        folder: Path,
        cluster: FakeCluster,
        new_api: Callable[[FakeCluster], ClusterApi] = FakeClusterApi,
    ) -> None:
        self._folder = folder
        self._kubelet = Kubelet(cluster)
        self._new_api = new_api

    def executor(
        self,
        script: Script,
        *,
        timeout_seconds: float | None = None,
        stop_grace_seconds: float = 0.2,
    ) -> ExecutorWithLogs:
        self._kubelet.script = script
        cluster = self._kubelet.cluster
        spec = StudySpec.from_mapping(
            {
                "name": STUDY,
                "objectives": [{"metric": METRIC, "direction": "minimize"}],
                "search_space": {"x": {"type": "float", "low": 0, "high": 2}},
                "budget": {"n_trials": 3},
                "trial": {
                    "command": ["python", "train.py"],
                    "image": "registry.example/demo:1",
                    "timeout_seconds": timeout_seconds,
                    # Whole seconds, as the API wants them.
                    "kubernetes": {"stop_grace_seconds": max(1, round(stop_grace_seconds))},
                },
            }
        )
        executor = KubernetesExecutor(
            spec,
            api=self._new_api(cluster),
            root=self._folder,
            clock=cluster.clock,
            is_threaded=False,
        )
        return ReportingExecutor(executor, self._kubelet)

    def kill_behind_its_back(self, attempt: AttemptId) -> None:
        self._kubelet.cluster.delete_pod(job_name(STUDY, attempt), grace_seconds=0)

    def starts(self, attempt: AttemptId) -> int:
        started = self._kubelet.cluster.started
        return sum(name.startswith(f"{job_name(STUDY, attempt)}-") for name in started)


class TestKubernetesExecutor(ExecutorContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> ExecutorPlace:
        return FakeClusterPlace(tmp_path, FakeCluster())


class TestKubernetesExecutorWithSlowPods(ExecutorContract):
    """Containers that use up their grace: what happens between a stop and its end."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> ExecutorPlace:
        return FakeClusterPlace(tmp_path, FakeCluster(ends_when_told=False))


class TestKubernetesExecutorOverHttp(ExecutorContract):
    """The real client and a server of a fake cluster."""

    @pytest.fixture
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExecutorPlace]:
        with FakeClusterServer(FakeCluster()) as server:
            server.write_kubeconfig(tmp_path / "config")
            use_kubeconfig(tmp_path / "config", monkeypatch)
            apis: list[KubernetesApi] = []

            def new_api(cluster: FakeCluster) -> KubernetesApi:
                apis.append(KubernetesApi(clock=cluster.clock))
                return apis[-1]

            yield FakeClusterPlace(tmp_path, server.cluster, new_api)
            for api in apis:
                api.close()
