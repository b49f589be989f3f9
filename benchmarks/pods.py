"""How long a trial waits for its pod, and the study for its outcome: our share and Kubernetes'.

Trials run one at a time, or side by side (`--parallel`). The script writes down when its first line
ran and when it was done, and a second watch of the pods, which shares nothing with the study, when
the API showed the end. So the machine that this runs on and the nodes must have one clock: use a
cluster of one node. Where its parts are processes of this machine, their CPU time is told too.

    KUBECONFIG=... python benchmarks/pods.py --namespace NAME --image IMAGE [--parallel 20]

IMAGE holds Python and studyflow's SDK, such as registry.example/studyflow/trial-base:0.2.0.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from studyflow.context import StudyContext
from studyflow.executors import AttemptId, Executor
from studyflow.executors.kubernetes import KubernetesExecutor
from studyflow.executors.kubernetes.client import KubernetesApi
from studyflow.executors.kubernetes.names import study_selector
from studyflow.observers.observer import Observer
from studyflow.runner import RunOptions, run_study
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.trial import Trial
from studyflow.trial.record import TrialRecord

SCRIPT = """
import time
began = time.time()
from studyflow import sdk
sdk.current_trial()
sdk.finish(loss=0.0, began=began, done=time.time())
"""


ETCD = "http://127.0.0.1:2379/metrics"

PARTS = ("kube-apiserver", "etcd", "kubelet", "containerd", "kube-controller", "kube-scheduler")
"""Kubernetes' own processes, by the beginnings of their names."""


def spec_of(name: str, image: str, n_trials: int, n_parallel: int) -> StudySpec:
    return StudySpec.from_mapping(
        {
            "name": name,
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
            "sampler": {"type": "random", "seed": 0},
            "budget": {"n_trials": n_trials, "max_parallel_trials": n_parallel},
            "trial": {
                "command": ["python", "-c", SCRIPT],
                "image": image,
                "resources": {"cpu": "20m", "memory": "128Mi"},
            },
        }
    )


@dataclass(frozen=True)
class Times:
    """Seconds of one trial, in the order in which they pass."""

    submit: float
    """Ours: from the suggestion to the API server's answer."""
    start: float
    """Kubernetes': to the script's first line, an interpreter's start among it."""
    end: float
    """Kubernetes': from the script's end to the moment when the API shows it."""
    tell: float
    """Ours: to the outcome in the study's storage, its log fetched."""


class Clock(Observer):
    """Notes when each trial was submitted and told."""

    def __init__(self) -> None:
        self.submit_seconds: list[float] = []
        self.submitted_at: dict[int, float] = {}
        self.told: dict[int, tuple[float, TrialRecord]] = {}

    def take(self, executor: Executor) -> None:
        submit = executor.submit

        def timed(trial: Trial, *, avoid: Collection[str] = ()) -> AttemptId:
            began = time.time()
            attempt = submit(trial, avoid=avoid)
            self.submitted_at[trial.number] = time.time()
            self.submit_seconds.append(time.time() - began)
            return attempt

        executor.submit = timed  # type: ignore[method-assign]
        self.executor = executor

    def recorded(self, record: TrialRecord) -> None:
        self.told[record.number] = (time.time(), record)


def watch(
    api: KubernetesApi, kind: str, study: str, seen: dict[int, float], sizes: dict[str, int]
) -> None:
    """Note when the API shows the end of each trial's container, and how large objects become."""
    _, version = api.list_objects(kind, study_selector(study))
    while True:
        for event, item in api.watch_objects(kind, study_selector(study), version):
            version = item["metadata"]["resourceVersion"]
            if event == "BOOKMARK":
                continue
            sizes[item["metadata"]["name"]] = len(json.dumps(item))
            states = item.get("status", {}).get("containerStatuses") or [{}]
            if states[0].get("state", {}).get("terminated"):
                number = int(item["metadata"]["labels"]["studyflow.dev/trial"])
                seen.setdefault(number, time.time())


def events_of(api: KubernetesApi, names: Collection[str]) -> list[dict[str, Any]]:
    """Return the events about Jobs and pods."""
    events, _ = api.list_objects("events", "")
    return [event for event in events if event["involvedObject"]["name"] in names]


def cpu_seconds_of(beginnings: Collection[str]) -> float:
    """Return the CPU seconds so far of processes of this machine; 0 where there are none."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue  # it has just ended
        name, _, rest = text.partition("(")[2].rpartition(")")
        if name.startswith(tuple(beginnings)):
            ticks += sum(map(int, rest.split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def etcd_totals() -> tuple[float, float] | None:
    """Return how often an etcd of this machine was written to, and how many bytes it is in all.

    `None` where none answers. Its history is in the bytes, until it is compacted.
    """
    try:
        with urllib.request.urlopen(ETCD, timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return None
    found = dict(line.rsplit(maxsplit=1) for line in lines if not line.startswith("#"))
    names = ("etcd_mvcc_put_total", "etcd_mvcc_db_total_size_in_use_in_bytes")
    puts, size = (float(found.get(name, "nan")) for name in names)
    return puts, size


@dataclass(frozen=True)
class Used:
    """What a whole study took."""

    wall_seconds: float
    cpu_seconds: float
    """Of the runner, its threads and its watch of this benchmark's."""
    kubernetes_cpu_seconds: float
    requests: dict[str, int]
    event_bytes: int
    """As the API shows them in JSON; likewise the next ones, of the largest objects."""
    n_events: int
    job_bytes: int
    pod_bytes: int
    etcd: tuple[float, float] | None
    """Writes and bytes that etcd has taken, of all that went on meanwhile."""


def measure(
    namespace: str, image: str, n_trials: int, n_parallel: int, home: Path
) -> tuple[list[Times], Used]:
    spec = spec_of(f"benchmark-{time.time_ns()}", image, n_trials, n_parallel)
    seen: dict[int, float] = {}
    sizes: dict[str, dict[str, int]] = {"pods": {}, "jobs": {}}
    for kind in ("pods", "jobs"):
        watched = KubernetesApi(namespace), kind, spec.name, seen, sizes[kind]
        threading.Thread(target=watch, args=watched, daemon=True).start()
    clock = Clock()
    settings = Settings(
        home, f"sqlite:///{home}/studies.db", None, executor="kubernetes", namespace=namespace
    )
    etcd_before = etcd_totals()
    before = time.time(), time.process_time(), cpu_seconds_of(PARTS)
    run_study(StudyContext(spec, settings), clock, RunOptions(home, on_executor=clock.take))
    after = time.time(), time.process_time(), cpu_seconds_of(PARTS)
    etcd_after = etcd_totals()
    assert isinstance(clock.executor, KubernetesExecutor)
    times = [
        Times(
            submit=clock.submit_seconds[number],
            start=record.metrics["began"] - clock.submitted_at[number],
            end=seen[number] - record.metrics["done"],
            tell=max(told - seen[number], 0.0),
        )
        for number, (told, record) in sorted(clock.told.items())
    ]
    events = events_of(KubernetesApi(namespace), {*sizes["pods"], *sizes["jobs"]})
    wall, cpu, theirs = (end - begin for begin, end in zip(before, after, strict=True))
    used = Used(
        wall,
        cpu,
        theirs,
        requests=dict(clock.executor.n_requests),
        event_bytes=sum(len(json.dumps(event)) for event in events),
        n_events=len(events),
        job_bytes=max(sizes["jobs"].values()),
        pod_bytes=max(sizes["pods"].values()),
        etcd=None
        if etcd_before is None or etcd_after is None
        else (etcd_after[0] - etcd_before[0], etcd_after[1] - etcd_before[1]),
    )
    return times, used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--parallel", type=int, default=1)
    options = parser.parse_args()
    n = options.trials
    with tempfile.TemporaryDirectory() as home:
        place = options.namespace, options.image
        times, used = measure(*place, n, options.parallel, Path(home))
    for field in fields(Times):
        values = [getattr(one, field.name) for one in times]
        print(f"{field.name:<8}{statistics.median(values):.2f} s (most {max(values):.2f} s)")
    ours = sum(one.submit + one.tell for one in times)
    share = ours / sum(one.submit + one.start + one.end + one.tell for one in times)
    print(f"our share of a trial's way to its pod and back: {100 * share:.1f} %")
    print(f"{n} trials in {used.wall_seconds:.0f} s, {n / used.wall_seconds:.2f} a second")
    ours, theirs = used.cpu_seconds / n, used.kubernetes_cpu_seconds / n
    print(f"CPU a trial: {1000 * ours:.0f} ms ours, {1000 * theirs:.0f} ms Kubernetes'")
    total = sum(used.requests.values())
    print(f"{total / n:.1f} requests a trial: {json.dumps(used.requests)}")
    print(
        f"objects of a trial: Job {used.job_bytes} bytes, pod {used.pod_bytes} bytes, "
        f"{used.n_events / n:.1f} events of {used.event_bytes / n:.0f} bytes"
    )
    if used.etcd is not None:
        puts, size = used.etcd
        print(f"etcd: {puts / n:.1f} writes and {size / n:.0f} bytes a trial, history included")


if __name__ == "__main__":
    main()
