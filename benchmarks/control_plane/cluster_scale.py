"""A whole study through a Kubernetes API server: 10,000 trials, 1,000 at once.

The API server is the fake one, over HTTP in a process of its own, and so are its nodes: they end
the oldest pods whenever all slots are taken, so that the loop always has something to do and nearly
all slots are full. The loop, its storage and its client are the real ones; MLflow is left out.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import optuna
from benchmarks.control_plane.loop import NoMirror
from benchmarks.control_plane.measures import Row, rss_mib

from studyflow.executors.kubernetes import KubernetesExecutor
from studyflow.executors.kubernetes.client import KubernetesApi
from studyflow.executors.kubernetes.names import attempt_of
from studyflow.observers.observer import Observer
from studyflow.samplers import make_pruner, make_sampler
from studyflow.spec import StudySpec
from studyflow.storage import open_storage
from studyflow.study import Study
from studyflow.testing.fake_cluster import FakeCluster
from studyflow.testing.fake_cluster_server import FakeClusterServer
from studyflow.trial import Cause, Outcome
from studyflow.trial.record import TrialRecord
from studyflow.tuner import Tuner, TunerResult, TunerSettings

STUDY = "scale"
NAMESPACE = "trials"
SLACK = 20
"""Pods that end together."""
TICK_SECONDS = 0.02
IDLE_TICKS = 50
"""After so many ticks without a new pod the last ones end."""
KEPT_CHANGES = 3_000
ANSWER_SECONDS = 0.05
"""How long a request takes: an API server whose etcd is busy."""


def spec_of(n_trials: int, n_parallel: int) -> StudySpec:
    return StudySpec.from_mapping(
        {
            "name": STUDY,
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "search_space": {
                name: {"type": "float", "low": 0, "high": 1} for name in ("lr", "decay", "dropout")
            },
            "sampler": {"type": "random", "seed": 0},
            "budget": {"n_trials": n_trials, "max_parallel_trials": n_parallel},
            "trial": {
                "command": ["python", "train.py"],
                "image": "registry.example/train:1",
                "kubernetes": {"canary_seconds": 0},
            },
        }
    )


class Nodes:
    """Begins every pod at once, and ends the oldest ones when there are `n_parallel`."""

    def __init__(self, cluster: FakeCluster, n_parallel: int) -> None:
        self.cluster = cluster
        self.n_parallel = n_parallel
        self.running: deque[str] = deque()
        self.seen: set[str] = set()
        self.n_idle = 0
        self.bytes: dict[str, int] = {}

    def tick(self) -> None:
        new = [name for name in self.cluster.pod_names() if name not in self.seen]
        for name in new:
            self.cluster.start(name)
            self.cluster.write_log(name, "epoch 1: loss 0.5\n")
        self.seen.update(new)
        self.running.extend(new)
        self.n_idle = 0 if new else self.n_idle + 1
        n_most = self.n_parallel - min(SLACK, self.n_parallel // 2)
        n_ends = len(self.running) - n_most if len(self.running) >= self.n_parallel else 0
        for _ in range(SLACK if self.n_idle > IDLE_TICKS else n_ends):
            if self.running:
                self.end(self.running.popleft())
        self.cluster.compact(KEPT_CHANGES)
        self.cluster.advance(TICK_SECONDS)

    def end(self, name: str) -> None:
        pod = self.cluster.pod(name)
        attempt = attempt_of(pod["metadata"]["labels"])
        assert attempt is not None
        metrics = {"loss": attempt.number % 97 / 97}
        outcome = Outcome(STUDY, attempt.number, attempt.attempt, Cause.OK, metrics)
        self.cluster.finish(name, message=outcome)
        if not self.bytes:
            job = pod["metadata"]["ownerReferences"][0]["name"]
            self.bytes["pod"] = len(json.dumps(self.cluster.pod(name)))
            self.bytes["Job"] = len(json.dumps(self.cluster.job(job)))


def serve(pipe: Connection, n_parallel: int) -> None:
    """Be a cluster until told to end; tell its address and how large its objects are."""
    cluster = FakeCluster()
    nodes = Nodes(cluster, n_parallel)
    slowly = {"watch_seconds": 5.0, "answer_seconds": ANSWER_SECONDS}
    with FakeClusterServer(cluster, **slowly) as server:
        config = Path(tempfile.mkdtemp()) / "config"
        server.write_kubeconfig(config)
        pipe.send(str(config))
        while not pipe.poll(TICK_SECONDS):
            nodes.tick()
        pipe.send(nodes.bytes)


@dataclass
class Diary(Observer):
    """Notes when trials were recorded: seconds, CPU seconds of this process, memory."""

    step: int
    n: int = 0
    marks: list[tuple[float, float, float]] = field(default_factory=list)

    def mark(self) -> None:
        self.marks.append((time.monotonic(), time.process_time(), rss_mib()))

    def recorded(self, record: TrialRecord) -> None:  # noqa: ARG002
        self.n += 1
        if self.n % self.step == 0:
            self.mark()


class TimedTuner(Tuner):
    """Notes its longest turn."""

    longest_cpu = longest_wall = 0.0
    n_turns = 0

    def turn(self) -> TunerResult | None:
        wall, cpu = time.monotonic(), time.thread_time()
        result = super().turn()
        self.longest_wall = max(self.longest_wall, time.monotonic() - wall)
        self.longest_cpu = max(self.longest_cpu, time.thread_time() - cpu)
        self.n_turns += 1
        return result


def run(kind: str, n_trials: int, n_parallel: int, folder: Path) -> Iterator[Row]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    cluster = context.Process(target=serve, args=(theirs, n_parallel), daemon=True)
    cluster.start()
    config = ours.recv()
    spec = spec_of(n_trials, n_parallel)
    storage: optuna.storages.BaseStorage = optuna.storages.InMemoryStorage()
    if kind == "sqlite":
        storage = open_storage(f"sqlite:///{folder / 'scale.db'}")
    study = Study.open(
        spec,
        storage,
        make_sampler=lambda seed, n: make_sampler(spec, seed, n),
        pruner=make_pruner(spec),
    )
    # The client reads the variable KUBECONFIG when it is imported, and never again.
    with mock.patch("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", config):
        api = KubernetesApi(NAMESPACE)
    executor = KubernetesExecutor(spec, api=api, root=folder)
    diary = Diary(n_trials // 10)
    settings = TunerSettings(poll_seconds=1.0)
    tuner = TimedTuner(study, executor, NoMirror(), diary, settings=settings)
    diary.mark()
    result = tuner.drive()
    requests = executor.n_requests
    executor.close()
    ours.send("end")
    sizes: dict[str, Any] = ours.recv()
    cluster.join(10)
    assert result.is_finished, result
    yield from rows_of(f"{kind}, {n_trials:,} trials, {n_parallel:,} at once", diary)
    what = f"{kind}, {n_trials:,} trials"
    yield Row(f"{what}: longest turn", tuner.longest_wall, "s")
    yield Row(f"{what}: longest turn, the loop's own CPU", tuner.longest_cpu, "s CPU")
    yield Row(f"{what}: turns", tuner.n_turns / n_trials, "a trial")
    for name in ("create jobs", "log pods", "delete jobs"):
        yield Row(f"{what}: {name}", requests.get(name, 0) / n_trials, "a trial")
    yield Row(f"{what}: all requests", sum(requests.values()) / n_trials, "a trial")
    for name, size in sizes.items():
        yield Row(f"{what}: {name}", size, "bytes of JSON")


def rows_of(what: str, diary: Diary) -> Iterator[Row]:
    """Yield speeds of the first and the last tenth; the first one fills the slots as well."""
    tenths = list(zip(diary.marks, diary.marks[1:], strict=False))
    speeds = {
        unit: [diary.step / (end[index] - begin[index]) for begin, end in tenths]
        for index, unit in ((0, "a second"), (1, "a CPU second"))
    }
    for unit, speed in speeds.items():
        yield Row(f"{what}: first tenth", speed[0], f"trials {unit}")
        yield Row(f"{what}: slowest tenth", min(speed), f"trials {unit}")
        yield Row(f"{what}: last tenth", speed[-1], f"trials {unit}", speed[0], "first tenth")
    yield Row(f"{what}: memory at the end", diary.marks[-1][2], "MiB", diary.marks[1][2], "first")


def rows(*, is_quick: bool) -> Iterator[Row]:
    sizes = [("memory", 100, 20)] if is_quick else [("memory", 10_000, 1_000)]
    if not is_quick:
        sizes.append(("sqlite", 4_000, 1_000))
    for kind, n_trials, n_parallel in sizes:
        with tempfile.TemporaryDirectory() as name:
            yield from run(kind, n_trials, n_parallel, Path(name))
