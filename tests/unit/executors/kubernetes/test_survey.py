"""A survey says what each attempt waits for, and changes nothing in the cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.executors.kubernetes.test_executor import a_spec, a_trial

from studyflow.errors import ExecutorUnavailable
from studyflow.executors import AttemptId
from studyflow.executors.kubernetes import KubernetesExecutor
from studyflow.executors.kubernetes.api import Refused
from studyflow.executors.kubernetes.names import job_name
from studyflow.executors.kubernetes.observation import Wait
from studyflow.executors.kubernetes.survey import FullQuota, Survey, amount, survey
from studyflow.reasons import Cause, Reason
from studyflow.testing.fake_cluster import FakeCluster, FakeClusterApi

REQUESTS = {"nvidia.com/gpu": "1"}


class Bench:
    """Two trials, submitted to a cluster of their own."""

    def __init__(self, folder: Path, **kubernetes: Any) -> None:
        self.cluster = FakeCluster()
        self.api = FakeClusterApi(self.cluster)
        self.jobs = [job_name("demo", AttemptId(number, 1)) for number in (0, 1)]
        spec = a_spec(kubernetes, resources={"gpu": 1})
        executor = KubernetesExecutor(
            spec, api=FakeClusterApi(self.cluster), root=folder, is_threaded=False
        )
        for number in (0, 1):
            executor.submit(a_trial(number))

    def survey(self) -> Survey:
        return survey(self.api, "demo", REQUESTS, self.cluster.clock())


def test_running_attempts_wait_for_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for job in bench.jobs:
        bench.cluster.start(job)
    before = bench.cluster.version

    assert bench.survey() == Survey("trials", running=(AttemptId(0, 1), AttemptId(1, 1)))
    assert bench.cluster.version == before


def test_a_pod_without_a_node_says_what_it_asks_for_and_for_how_long(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.cluster.start(bench.jobs[0])
    bench.cluster.unschedulable(bench.jobs[1])
    bench.cluster.advance(90)

    (pending,) = bench.survey().pending

    assert (pending.attempt, pending.wait, pending.seconds) == (AttemptId(1, 1), Wait.ROOM, 90.0)
    assert pending.reason == Reason(
        Cause.UNSCHEDULABLE,
        "Unschedulable: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
    )
    assert pending.requests == REQUESTS


def test_a_job_without_a_pod_is_explained_by_its_events(tmp_path: Path) -> None:
    bench = Bench(tmp_path, queue="team")

    assert {(p.wait, p.queue) for p in bench.survey().pending} == {(Wait.QUEUE, "team")}

    bench.cluster.refuse_pods("exceeded quota: team, requested: pods=1, used: pods=1")
    for job in bench.jobs:
        bench.cluster.unsuspend(job)
    bench.cluster.advance(60)
    waits = bench.survey().pending

    assert {p.wait for p in waits} == {Wait.POD}
    assert "exceeded quota: team" in str(waits[0].reason)


def test_however_long_an_image_fails_to_be_pulled_the_attempt_is_not_ended(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for job in bench.jobs:
        bench.cluster.fail_pull(job)
    bench.cluster.advance(86_400)
    before = bench.cluster.version

    waits = bench.survey().pending

    assert [p.wait for p in waits] == [Wait.IMAGE, Wait.IMAGE]
    assert waits[0].reason == Reason(
        Cause.IMAGE_PULL, "The image registry.example/demo:1 cannot be pulled: manifest unknown"
    )
    assert bench.cluster.version == before


def test_a_quota_is_full_when_one_more_trial_does_not_fit(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.cluster.set_quota(
        "team",
        hard={"requests.nvidia.com/gpu": "4", "pods": "10", "requests.memory": "1Gi"},
        used={"requests.nvidia.com/gpu": "4", "pods": "9", "requests.memory": "1Gi"},
    )

    assert bench.survey().full_quotas == (FullQuota("team", "requests.nvidia.com/gpu", "4", "4"),)


def test_without_the_right_to_see_quotas_none_is_full(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.api.interrupt("list resourcequotas", Refused("Cannot list resourcequotas: 403"))

    assert bench.survey().full_quotas == ()


def test_a_cluster_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.api.go_away()

    with pytest.raises(ExecutorUnavailable):
        bench.survey()


@pytest.mark.parametrize(
    ("quantity", "number"), [("4", 4), ("500m", 0.5), ("1Ki", 1024), ("2M", 2e6), ("odd", 0)]
)
def test_a_quantity_is_read_as_a_number(quantity: str, number: float) -> None:
    assert float(amount(quantity)) == number
