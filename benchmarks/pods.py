"""How long a trial waits for its pod, and the study for its outcome: our share and Kubernetes'.

Trials run one at a time. The script writes down when its first line ran and when it was done, and a
second watch of the pods, which shares nothing with the study, when the API showed the end. So the
machine that this runs on and the nodes must have one clock: use a cluster of one node.

    KUBECONFIG=... python benchmarks/pods.py --namespace NAME --image IMAGE [--trials 20]

IMAGE holds Python and studyflow's SDK, such as registry.example/studyflow/trial-base:0.1.0.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path

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


def spec_of(name: str, image: str, n_trials: int) -> StudySpec:
    return StudySpec.from_mapping(
        {
            "name": name,
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
            "sampler": {"type": "random", "seed": 0},
            "budget": {"n_trials": n_trials},
            "trial": {
                "command": ["python", "-c", SCRIPT],
                "image": image,
                "resources": {"cpu": "100m", "memory": "128Mi"},
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


def watch_ends(api: KubernetesApi, study: str, seen: dict[int, float]) -> None:
    """Note when the API shows the end of each trial's container."""
    _, version = api.list_objects("pods", study_selector(study))
    while True:
        for _, pod in api.watch_objects("pods", study_selector(study), version):
            version = pod["metadata"]["resourceVersion"]
            states = pod.get("status", {}).get("containerStatuses") or [{}]
            if states[0].get("state", {}).get("terminated"):
                number = int(pod["metadata"]["labels"]["studyflow.dev/trial"])
                seen.setdefault(number, time.time())


def measure(
    namespace: str, image: str, n_trials: int, home: Path
) -> tuple[list[Times], dict[str, int]]:
    spec = spec_of(f"benchmark-{time.time_ns()}", image, n_trials)
    seen: dict[int, float] = {}
    threading.Thread(
        target=watch_ends, args=(KubernetesApi(namespace), spec.name, seen), daemon=True
    ).start()
    clock = Clock()
    settings = Settings(
        home, f"sqlite:///{home}/studies.db", None, executor="kubernetes", namespace=namespace
    )
    run_study(StudyContext(spec, settings), clock, RunOptions(home, on_executor=clock.take))
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
    return times, dict(clock.executor.n_requests)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--trials", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        times, requests = measure(options.namespace, options.image, options.trials, Path(home))
    for field in fields(Times):
        values = [getattr(one, field.name) for one in times]
        print(f"{field.name:<8}{statistics.median(values):.2f} s (most {max(values):.2f} s)")
    total = sum(requests.values())
    print(f"{total / options.trials:.1f} requests a trial: {json.dumps(requests)}")


if __name__ == "__main__":
    main()
