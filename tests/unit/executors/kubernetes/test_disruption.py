"""What ended a pod that did not end by itself."""

from __future__ import annotations

from typing import Any

import pytest

from studyflow.executors.diagnosis import How
from studyflow.executors.kubernetes.disruption import deleted, disruption_of, refused, taken_back
from studyflow.reasons import Code
from studyflow.trial import Cause

NOW = "2026-11-30T12:00:00Z"


def pod(reason: str = "", message: str = "", **more: Any) -> dict[str, Any]:
    status = {"reason": reason, "message": message, "conditions": more.pop("conditions", [])}
    return {"metadata": {"name": "demo-0-1-x", **more}, "spec": {"nodeName": "a"}, "status": status}


def target(reason: str, message: str = "") -> list[dict[str, str]]:
    return [
        {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message},
    ]


@pytest.mark.parametrize(
    ("reason", "message", "cause", "told"),
    [
        ("Evicted", "The node was low on memory.", Cause.EVICTED, "The node was low on memory."),
        ("Evicted", "", Cause.EVICTED, "The node evicted it."),
        ("NodeLost", "", Cause.NODE_LOST, "Its node was lost."),
        ("Preempting", "", Cause.PREEMPTED, "It was preempted."),
        ("Preempted", "by b", Cause.PREEMPTED, "by b"),
        ("Shutdown", "", Cause.EVICTED, "Its node shut down."),
        ("NodeShutdown", "Pod was terminated.", Cause.EVICTED, "Its node shut down. Pod was"),
        ("Terminated", "", Cause.EVICTED, "Its node shut down."),
        ("DeadlineExceeded", "Pod was active too long", Cause.TIMEOUT, "Pod was active too long"),
    ],
)
def test_a_pod_s_own_reason_says_who_ended_it(
    reason: str, message: str, cause: Cause, told: str
) -> None:
    fence = disruption_of(pod(reason, message))

    assert fence is not None
    assert (fence.cause, fence.reason.code) == (cause, cause)
    assert fence.message.startswith(told)
    assert fence.how is (How.TIMEOUT if cause is Cause.TIMEOUT else How.STOPPED)


@pytest.mark.parametrize(
    "message",
    [
        "Container trial exceeded its local ephemeral storage limit 1Gi.",
        'Usage of EmptyDir volume "scratch" exceeds the limit "10Gi".',
    ],
)
def test_a_pod_that_filled_its_disk_is_the_script_s_doing(message: str) -> None:
    fence = disruption_of(pod("Evicted", message))

    assert fence is not None
    assert (fence.cause, fence.reason.code) == (Cause.USER_ERROR, Code.DISK_FULL)
    assert message in fence.message
    assert fence.hint == "raise trial.kubernetes.scratch, or write less."


@pytest.mark.parametrize(
    ("reason", "message", "cause", "told"),
    [
        ("PreemptionByScheduler", "for a pod of more priority", Cause.PREEMPTED, "for a pod"),
        ("DeletionByTaintManager", "", Cause.NODE_LOST, "DeletionByTaintManager"),
        ("DeletionByPodGC", "", Cause.NODE_LOST, "DeletionByPodGC"),
        ("EvictionByEvictionAPI", "drained", Cause.EVICTED, "drained"),
        ("OfALaterVersion", "", Cause.EVICTED, "OfALaterVersion"),
    ],
)
def test_a_target_of_a_disruption_says_who_ended_it(
    reason: str, message: str, cause: Cause, told: str
) -> None:
    fence = disruption_of(pod(conditions=target(reason, message)))

    assert fence is not None
    assert fence.cause is cause
    assert fence.message.startswith(told)


def test_a_pod_s_own_reason_comes_before_what_it_was_the_target_of() -> None:
    fence = disruption_of(pod("NodeLost", conditions=target("PreemptionByScheduler")))
    assert fence is not None
    assert fence.cause is Cause.NODE_LOST


def test_a_pod_that_somebody_deleted_was_evicted_from_its_node() -> None:
    gone = pod(deletionTimestamp=NOW)
    fence = disruption_of(gone)

    assert fence is not None
    assert fence.reason == deleted(gone)
    assert "on node a was deleted by someone else" in fence.message


@pytest.mark.parametrize(
    "by_itself",
    [
        pod(),
        {"metadata": {"name": "x"}},
        pod("Error", "exit code 1"),
        pod(conditions=[{"type": "DisruptionTarget", "status": "False", "reason": "x"}]),
    ],
)
def test_a_pod_that_ended_by_itself_was_ended_by_nobody(by_itself: dict[str, Any]) -> None:
    assert disruption_of(by_itself) is None


@pytest.mark.parametrize(
    ("is_suspended", "leaving", "is_gone", "is_taken_back"),
    [
        (True, {"deletionTimestamp": NOW}, False, True),
        (True, {}, True, True),
        (True, {}, False, False),
        (False, {"deletionTimestamp": NOW}, False, False),
        (False, {}, True, False),
    ],
)
def test_a_queue_takes_back_what_it_suspends_once_its_pod_goes(
    is_suspended: bool, leaving: dict[str, str], is_gone: bool, is_taken_back: bool
) -> None:
    labels = {"kueue.x-k8s.io/queue-name": "gpus"}
    job = {"metadata": {"name": "j", "labels": labels}, "spec": {"suspend": is_suspended}}
    fence = taken_back(job, pod(**leaving), pod_is_gone=is_gone)

    assert (fence is not None) is is_taken_back
    if fence is not None:
        assert fence.message == "Its queue gpus took its admission back (Kueue)."
        assert fence.cause is Cause.EVICTED


def test_a_job_that_never_had_a_pod_was_not_taken_back() -> None:
    job = {"metadata": {"name": "j"}, "spec": {"suspend": True}}
    assert taken_back(job, None, pod_is_gone=True) is None


@pytest.mark.parametrize(
    ("reason", "message", "told"),
    [
        ("OutOfcpu", "Node didn't have enough", "The node refused the pod (OutOfcpu). Node didn't"),
        ("", "", "The node refused the pod (Failed)."),
    ],
)
def test_a_refusal_of_a_node_is_told_in_its_words(reason: str, message: str, told: str) -> None:
    found = refused(pod(reason, message), Cause.NODE_FAULT)
    assert found.code is Cause.NODE_FAULT
    assert found.message.startswith(told)
