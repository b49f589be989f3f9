"""A Kubernetes cluster in memory: Jobs, pods and events, and no process behind them.

    cluster = FakeCluster()
    executor = KubernetesExecutor(
        spec, api=FakeClusterApi(cluster), root=folder, clock=cluster.clock, is_threaded=False,
    )
    executor.submit(trial)                       # the Job controller makes the pod at once
    (pod,) = cluster.pod_names()
    cluster.start(pod)
    cluster.finish(pod, message=Outcome(...))
    executor.poll()

`FakeCluster` is the cluster: what the Job controller, the scheduler and a kubelet would do, when
the test says so. `FakeClusterApi` is one client of it, counts its requests and fails on command;
several of them are several runners. All is deterministic: uids and names of pods are numbered, time
is a `FakeClock`. It behaves as Kubernetes 1.20 does, the oldest that is supported: a pod that is
being deleted is replaced at once, and an evicted pod shows no container.

store.py        the objects of one namespace, with their versions and history
kubelet.py      what nodes do with pods, and the logs that they keep
controller.py   what the Job controller and the garbage collector do
api_server.py   the requests of clients, answered
cluster.py      `FakeCluster`, where a test says what happens
client.py       `FakeClusterApi`
"""

from studyflow.testing.fake_cluster.client import FakeClusterApi
from studyflow.testing.fake_cluster.cluster import FakeCluster
from studyflow.testing.fake_cluster.kubelet import DIGEST
from studyflow.testing.fake_cluster.store import merge_patch

__all__ = ["DIGEST", "FakeCluster", "FakeClusterApi", "merge_patch"]
