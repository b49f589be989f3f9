"""The fake cluster behaves as a cluster does, as far as an executor can tell."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from studyflow.errors import ExecutorUnavailable
from studyflow.executors.kubernetes.api import AlreadyExists, ClusterApi, VersionTooOld
from studyflow.testing.fake_cluster import DIGEST, FakeCluster, FakeClusterApi, merge_patch
from studyflow.trial import Cause, Outcome

SELECTOR = "study=demo"


def manifest(name: str = "a", **spec: Any) -> dict[str, Any]:
    labels = {"study": "demo"}
    container = {"name": "trial", "image": "registry:5000/demo:1"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"terminationGracePeriodSeconds": 10, "containers": [container]},
    }
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"backoffLimit": 0, "parallelism": 1, "template": template, **spec},
    }


def fake(**options: Any) -> tuple[FakeCluster, FakeClusterApi]:
    cluster = FakeCluster(**options)
    return cluster, FakeClusterApi(cluster)


def test_a_job_gets_a_pod_that_is_its_own() -> None:
    cluster, api = fake()
    job = api.create_job(manifest())

    pod = cluster.pod("a")
    assert pod["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    assert pod["metadata"]["labels"]["job-name"] == "a"
    assert pod["metadata"]["name"].startswith("a-")
    assert pod["metadata"]["creationTimestamp"] == "2023-11-14T22:13:20Z"
    assert pod["status"] == {"phase": "Pending"}
    assert cluster.job("a")["status"]["active"] == 1
    with pytest.raises(AlreadyExists):
        api.create_job(manifest())
    again: ClusterApi = FakeClusterApi(cluster)
    assert again.get_job("a") == cluster.job("a")


def test_two_runs_of_one_test_see_the_same_cluster() -> None:
    def story() -> list[Any]:
        cluster, api = fake()
        api.create_job(manifest())
        cluster.delete_pod("a")
        cluster.start("a")
        return [cluster.pod(name) for name in cluster.pod_names()]

    assert story() == story()


def test_a_container_goes_through_its_states() -> None:
    cluster, api = fake()
    api.create_job(manifest())
    cluster.unschedulable("a")
    assert cluster.pod("a")["status"]["conditions"][0]["reason"] == "Unschedulable"
    cluster.schedule("a", "node-7")
    assert cluster.pod("a")["spec"]["nodeName"] == "node-7"
    cluster.start("a")
    cluster.advance(60)
    cluster.finish("a", message=Outcome("demo", 0, 1, Cause.OK, {"loss": 1.0}))

    pod = cluster.pod("a")
    (status,) = pod["status"]["containerStatuses"]
    assert pod["status"]["phase"] == "Succeeded"
    assert status["imageID"] == f"registry:5000/demo@{DIGEST}"
    terminated = status["state"]["terminated"]
    assert (terminated["exitCode"], terminated["reason"]) == (0, "Completed")
    assert terminated["startedAt"] == "2023-11-14T22:13:20Z"
    assert terminated["finishedAt"] == "2023-11-14T22:14:20Z"
    assert Outcome.from_json(terminated["message"]).metrics == {"loss": 1.0}
    assert cluster.job("a")["status"]["conditions"][0]["type"] == "Complete"
    assert len(cluster.pod_names()) == 1


def test_a_failed_job_makes_no_further_pod() -> None:
    cluster, api = fake()
    api.create_job(manifest())
    cluster.start("a")
    cluster.finish("a", exit_code=1)

    assert cluster.job("a")["status"]["conditions"][0]["reason"] == "BackoffLimitExceeded"
    assert len(cluster.pod_names()) == 1


def test_a_deleted_pod_is_replaced_at_once_and_goes_in_its_own_time() -> None:
    cluster, api = fake(ends_when_told=False)
    api.create_job(manifest())
    cluster.start("a")
    (first,) = cluster.pod_names()
    cluster.delete_pod("a")
    assert len(cluster.pod_names()) == 2
    assert cluster.pod(first)["metadata"]["deletionTimestamp"] == "2023-11-14T22:13:30Z"
    cluster.advance(9)
    assert first in cluster.pod_names()
    cluster.advance(1)
    assert first not in cluster.pod_names()
    (_, last) = list(api.watch_objects("pods", SELECTOR, "0"))[-2]
    assert last["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137


def test_parallelism_zero_takes_the_pods_away() -> None:
    cluster, api = fake()
    api.create_job(manifest())
    cluster.start("a")
    api.patch_job("a", {"spec": {"parallelism": 0}})
    assert cluster.pod_names() == []
    assert cluster.job_names() == ["a"]
    assert api.patch_job("b", {}) is None


def test_a_suspended_job_waits_for_its_queue() -> None:
    cluster, api = fake()
    api.create_job(manifest(suspend=True))
    assert cluster.pod_names() == []
    cluster.unsuspend("a")
    assert len(cluster.pod_names("a")) == 1


def test_a_deleted_job_takes_its_pods_along() -> None:
    cluster, api = fake()
    api.create_job(manifest())
    api.create_job(manifest("b"))
    cluster.start("a")
    api.delete_job("a")
    api.delete_job("a")
    assert cluster.job_names() == ["b"]
    assert cluster.pod_names() == cluster.pod_names("b")


def test_pods_that_admission_refuses_leave_an_event() -> None:
    cluster, api = fake()
    cluster.refuse_pods("exceeded quota: gpus")
    uid = api.create_job(manifest())["metadata"]["uid"]
    cluster.reconcile()
    assert cluster.pod_names() == []
    (event,) = api.events(uid)
    assert (event["reason"], "exceeded quota: gpus" in event["message"]) == ("FailedCreate", True)
    cluster.allow_pods()
    assert len(cluster.pod_names()) == 1
    with pytest.raises(KeyError, match="no pod b"):
        cluster.start("b")


def test_pods_of_a_lost_node_neither_end_nor_go() -> None:
    cluster, api = fake()
    api.create_job(manifest())
    cluster.start("a")
    (first,) = cluster.pod_names()
    cluster.lose_node()
    cluster.advance(1e6)
    assert cluster.pod(first)["metadata"]["deletionTimestamp"]
    assert "running" in cluster.pod(first)["status"]["containerStatuses"][0]["state"]


def test_a_watch_tells_what_happened_since_a_version_and_no_more() -> None:
    cluster, api = fake()
    items, version = api.list_objects("jobs", SELECTOR)
    assert items == []
    api.create_job(manifest())
    cluster.delete_job("a")
    other = manifest("b")
    other["metadata"]["labels"] = {"study": "another"}
    api.create_job(other)

    events = list(api.watch_objects("jobs", SELECTOR, version))
    assert [event for event, _ in events] == ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    versions = [int(item["metadata"]["resourceVersion"]) for _, item in events]
    assert versions == sorted(versions)
    assert next(api.watch_objects("jobs", SELECTOR, str(versions[-1])))[0] == "BOOKMARK"
    cluster.compact()
    with pytest.raises(VersionTooOld):
        list(api.watch_objects("jobs", SELECTOR, version))


def test_a_list_as_of_a_version_is_what_was_there_then() -> None:
    cluster, api = fake()
    api.create_job(manifest("a"))
    version = cluster.version
    api.create_job(manifest("b"))
    api.delete_job("a")
    api.list_as_of(version)
    items, told = api.list_objects("jobs", SELECTOR)
    assert ([item["metadata"]["name"] for item in items], told) == (["a"], version)
    api.list_as_of(None)
    assert [i["metadata"]["name"] for i in api.list_objects("jobs", SELECTOR)[0]] == ["b"]


def test_what_is_given_out_is_a_copy() -> None:
    cluster, api = fake()
    job = api.create_job(manifest())
    job["spec"]["parallelism"] = 7
    cluster.pod("a")["status"]["phase"] = "Failed"
    api.list_objects("jobs", SELECTOR)[0][0]["metadata"]["labels"].clear()
    for _, item in api.watch_objects("jobs", SELECTOR, "0"):
        item["metadata"].clear()
    assert cluster.job("a")["spec"]["parallelism"] == 1
    assert cluster.job("a")["metadata"]["labels"] == {"study": "demo"}
    assert cluster.pod("a")["status"]["phase"] == "Pending"


def test_requests_fail_as_often_and_as_late_as_a_test_says() -> None:
    cluster, api = fake()
    away = ExecutorUnavailable("away")
    api.interrupt("create jobs", away)
    api.interrupt("create jobs", away, is_after=True)
    for name in "ab":
        with pytest.raises(ExecutorUnavailable):
            api.create_job(manifest(name))
    api.create_job(manifest("c"))
    assert cluster.job_names() == ["b", "c"]
    assert api.n_requests == {"create jobs": 3}

    api.interrupt("get jobs", away, times=None)
    for _ in range(3):
        with pytest.raises(ExecutorUnavailable):
            api.get_job("b")
    api.come_back()
    assert api.get_job("b") is not None
    api.go_away()
    with pytest.raises(ExecutorUnavailable, match=r"away \(delete jobs\)"):
        api.delete_job("b")
    assert FakeClusterApi(cluster).get_job("b") is not None, "another client is not affected"


def test_a_log_is_cut_as_the_kubelet_cuts_it() -> None:
    cluster, api = fake()
    api.create_job(manifest())
    cluster.write_log("a", "one\ntwo\nthree\n")
    (pod,) = cluster.pod_names()
    stamp = b"2026-01-01T00:00:00.000000000Z "
    two = stamp + b"two\n" + stamp + b"three\n"
    assert api.read_log(pod) == stamp + b"one\n" + two
    assert api.read_log(pod, tail_lines=2) == two
    assert api.read_log(pod, tail_lines=2, limit_bytes=36) == two[:36]
    assert api.read_log(pod, tail_lines=9) == stamp + b"one\n" + two
    assert b"".join(api.follow_log(pod)) == stamp + b"one\n" + two
    cluster.delete_pod("a", grace_seconds=0)
    assert api.read_log(pod) == b""


def test_an_open_watch_hears_of_changes_by_another_thread() -> None:
    cluster = FakeCluster()
    api = FakeClusterApi(cluster, watch_seconds=10.0)
    watch = api.watch_objects("jobs", SELECTOR, cluster.version)
    thread = threading.Thread(target=lambda: FakeClusterApi(cluster).create_job(manifest()))
    thread.start()
    event, job = next(watch)
    thread.join()
    assert (event, job["metadata"]["name"]) == ("ADDED", "a")
    watch.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("base", "patch", "merged"),
    [
        ({"a": 1}, {"b": {"c": 2}}, {"a": 1, "b": {"c": 2}}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"c": 2}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": 1}, {"a": None}, {}),
        (None, {"a": None, "b": 1}, {"b": 1}),
        ({"a": 1}, 3, 3),
    ],
)
def test_a_merge_patch_follows_its_standard(base: Any, patch: Any, merged: Any) -> None:
    assert merge_patch(base, patch) == merged
