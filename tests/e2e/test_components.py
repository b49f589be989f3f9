"""A study goes on while the cluster's own parts are away: the API server, etcd, the kubelet.

STUDYFLOW_TEST_CLUSTER names the command that stops and starts one, as in `COMMAND stop etcd`.
"""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from tests.e2e.kubectl import Kubectl, until
from tests.e2e.test_causes import Bench, bench, running_pod, study

from studyflow.trial import Cause
from studyflow.trial.record import TrialState

__all__ = ["bench"]

CLUSTER = os.environ.get("STUDYFLOW_TEST_CLUSTER", "")

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(
        not os.access(CLUSTER, os.X_OK),
        reason="STUDYFLOW_TEST_CLUSTER names no command",
    ),
]

SCRIPT = """
import time
from studyflow import sdk
time.sleep(15)
sdk.finish(loss=sdk.current_trial().params['x'])
"""


def cluster(verb: str, component: str) -> None:
    subprocess.run([CLUSTER, verb, component], check=True, capture_output=True, timeout=60)


def start_again(component: str) -> None:
    """Start a component, and wait for the node."""
    cluster("start", component)
    is_ready = ["kubectl", "wait", "--for=condition=Ready", "node", "--all", "--timeout=5s"]
    until(
        lambda: subprocess.run(is_ready, capture_output=True, check=False).returncode == 0,
        90,
        f"the node is ready after {component} was away",
    )


@pytest.mark.parametrize(
    ("component", "seconds"),
    [
        pytest.param("apiserver", 60, marks=[pytest.mark.slow, pytest.mark.fault("F14")]),
        pytest.param("etcd", 20, marks=pytest.mark.fault("F14")),
        # For less time than that after which its pods would be evicted.
        pytest.param("kubelet", 8, marks=pytest.mark.fault("F04")),
    ],
)
def test_a_study_goes_on_where_it_was_when_a_part_of_the_cluster_comes_back(
    bench: Bench, kubectl: Kubectl, component: str, seconds: float
) -> None:
    spec = study(SCRIPT, n_trials=4, parallel=2, kubernetes={"canary_seconds": 0})
    with bench.running(spec) as result:
        until(lambda: running_pod(kubectl), 60, "a trial runs")
        try:
            cluster("stop", component)
            time.sleep(seconds)
        finally:
            start_again(component)
        records = result().data.records

    assert {(r.state, r.cause) for r in records} == {(TrialState.COMPLETE, Cause.OK)}
    assert len(records) == 4
    assert all(r.values == (r.params["x"],) for r in records)
    assert bench.story.lost == []
    if component == "apiserver":
        assert bench.story.has_noted("Running trials go on")
    assert kubectl.items("jobs") == []
