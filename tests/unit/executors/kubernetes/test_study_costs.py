"""What a study of many pods asks of the API server, counted: the short form of a benchmark.

`python -m benchmarks.control_plane cluster-scale` is the long one: 10,000 trials at 1,000 at once.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

import optuna
import pytest
from benchmarks.control_plane.cluster_scale import spec_of
from benchmarks.control_plane.loop import NoMirror
from tests.unit.executors.kubernetes.test_watchlist import Looks

from studyflow.executors.kubernetes import KubernetesExecutor
from studyflow.executors.kubernetes.names import attempt_of
from studyflow.observers.observer import Observer
from studyflow.samplers import make_pruner, make_sampler
from studyflow.study import Study
from studyflow.testing.fake_cluster import FakeCluster, FakeClusterApi
from studyflow.trial import Cause, Outcome
from studyflow.trial.record import TrialState
from studyflow.tuner import Tuner, TunerResult

N_TRIALS, N_PARALLEL, N_ENDS = 300, 60, 10


class Nodes:
    """Begins each pod, and ends the oldest ones, some at a time."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self._seen: set[str] = set()
        self._running: deque[str] = deque()

    def begin(self) -> None:
        for name in self._cluster.pod_names():
            if name not in self._seen:
                self._seen.add(name)
                self._cluster.start(name)
                self._cluster.write_log(name, "epoch 1\n")
                self._running.append(name)

    def end_some(self) -> None:
        for _ in range(min(N_ENDS, len(self._running))):
            name = self._running.popleft()
            attempt = attempt_of(self._cluster.pod(name)["metadata"]["labels"])
            assert attempt is not None
            metrics = {"loss": float(attempt.number)}
            outcome = Outcome("scale", attempt.number, attempt.attempt, Cause.OK, metrics)
            self._cluster.finish(name, message=outcome)


def test_a_trial_is_three_requests_and_as_many_looks_as_its_pod_has_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(monkeypatch)
    spec = spec_of(N_TRIALS, N_PARALLEL)
    cluster = FakeCluster()
    api, nodes = FakeClusterApi(cluster), Nodes(cluster)
    executor = KubernetesExecutor(
        spec, api=api, root=tmp_path, clock=cluster.clock, is_threaded=False
    )
    study = Study.open(
        spec,
        optuna.storages.InMemoryStorage(),
        make_sampler=lambda seed, n: make_sampler(spec, seed, n),
        pruner=make_pruner(spec),
    )
    tuner = Tuner(study, executor, NoMirror(), Observer(), clock=cluster.clock)

    result: TunerResult | None = None
    n_polls = n_looks = most_looks = 0
    while result is None:
        nodes.begin()
        if n_polls % 2:
            nodes.end_some()
        before = looks.n_judged
        result = tuner.turn()
        n_polls, n_looks = n_polls + 1, looks.n_judged - before
        most_looks = max(most_looks, n_looks)
        assert n_polls < 5 * N_TRIALS

    assert [record.state for record in study.records()] == [TrialState.COMPLETE] * N_TRIALS
    assert cluster.job_names() == cluster.pod_names() == []
    asked = {k: n for k, n in executor.n_requests.items() if not k.startswith("watch")}
    assert asked == {
        "list jobs": 1,
        "list pods": 1,
        "create jobs": N_TRIALS,
        "log pods": N_TRIALS,
        "delete jobs": N_TRIALS,
    }
    assert looks.n_judged <= 3 * N_TRIALS, "pending, running, ended"
    assert most_looks <= N_PARALLEL, "the first poll after all slots were filled"
    assert looks.n_pods <= N_TRIALS, "each attempt's own pod, once"
