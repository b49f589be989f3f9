"""One poll of the Kubernetes executor over a fake API server with p pods."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median_high

from benchmarks.control_plane.measures import Row, cpu_ms

from studyflow.executors.kubernetes import KubernetesExecutor
from studyflow.executors.kubernetes.names import study_selector
from studyflow.spec import StudySpec
from studyflow.testing.fake_cluster import FakeCluster, FakeClusterApi
from studyflow.trial import Trial

N_POLLS = 60
"""A minute of a runner that polls once a second."""


def spec_of(n_trials: int) -> StudySpec:
    return StudySpec.from_mapping(
        {
            "name": "pods",
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
            "budget": {"n_trials": n_trials, "max_parallel_trials": n_trials},
            "trial": {"command": ["python", "train.py"], "image": "registry.example/train:1"},
        }
    )


class Pods:
    """A cluster with pods of one study, and a runner that has just begun."""

    def __init__(self, n: int, folder: Path, *, are_running: bool) -> None:
        self.spec, self.folder = spec_of(n), folder
        self.cluster = FakeCluster()
        self.cluster.is_controller_stopped = True  # it goes through all Jobs after each change
        first = self.executor()
        for number in range(n):
            first.submit(Trial("pods", number, {"x": 0.5}, attempt=1, metrics=("loss",)))
        for pod in self.cluster.pod_names():
            if are_running:
                self.cluster.start(pod)
            else:
                self.cluster.unschedulable(pod)

    def executor(self) -> KubernetesExecutor:
        return KubernetesExecutor(
            self.spec,
            api=FakeClusterApi(self.cluster),
            root=self.folder,
            clock=self.cluster.clock,
            is_threaded=False,
        )


def measure(n: int, folder: Path, *, are_running: bool) -> Iterator[Row]:
    pods = Pods(n, folder, are_running=are_running)
    state = "running" if are_running else "pending"
    api, executor = FakeClusterApi(pods.cluster), pods.executor()
    selector = study_selector("pods")
    served = cpu_ms(lambda: [api.list_objects(kind, selector) for kind in ("jobs", "pods")], 3)
    first = cpu_ms(executor.poll) - served  # what the fake API server takes is not ours
    yield Row(f"{n:,} pods {state}: first poll", first, "ms CPU")
    taken = []
    for _ in range(N_POLLS):
        pods.cluster.clock.advance(1.0)
        taken.append(cpu_ms(executor.poll))
    yield Row(f"{n:,} pods {state}: median poll of a minute", median_high(taken), "ms CPU")
    yield Row(f"{n:,} pods {state}: mean poll of a minute", sum(taken) / N_POLLS, "ms CPU")
    yield Row(f"{n:,} pods {state}: slowest poll of a minute", max(taken), "ms CPU")


def rows(*, is_quick: bool) -> Iterator[Row]:
    sizes = [(1_000, True), (1_000, False), (2_000, True)]
    if is_quick:
        sizes = [(20, True), (20, False)]
    with tempfile.TemporaryDirectory() as name:
        for n, are_running in sizes:
            yield from measure(n, Path(name), are_running=are_running)
