"""What ended a pod that did not end by itself: a node, the scheduler, a queue, a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from studyflow.executors.diagnosis import How, readable
from studyflow.executors.kubernetes.fence import Fence
from studyflow.executors.kubernetes.names import queue_of
from studyflow.executors.kubernetes.objects import (
    Object,
    condition,
    is_leaving,
    is_suspended,
    node_of,
)
from studyflow.executors.kubernetes.words import is_out_of_disk
from studyflow.reasons import Code, Reason
from studyflow.trial import Cause


@dataclass(frozen=True, slots=True)
class _Disruption:
    """What a pod's reason means."""

    cause: Cause
    otherwise: str = ""
    """What is told when the cluster gives no message."""
    always: str = ""
    """What is told before the cluster's message, whatever it is."""
    how: How = How.STOPPED


_BY_POD_REASON: Final[Mapping[str, _Disruption]] = {
    "DeadlineExceeded": _Disruption(Cause.TIMEOUT, how=How.TIMEOUT),
    "Evicted": _Disruption(Cause.EVICTED, "The node evicted it."),
    "NodeLost": _Disruption(Cause.NODE_LOST, "Its node was lost."),
    "Preempting": _Disruption(Cause.PREEMPTED, "It was preempted."),
    "Preempted": _Disruption(Cause.PREEMPTED, "It was preempted."),
    "Shutdown": _Disruption(Cause.EVICTED, always="Its node shut down."),
    "NodeShutdown": _Disruption(Cause.EVICTED, always="Its node shut down."),
    "Terminated": _Disruption(Cause.EVICTED, always="Its node shut down."),
}
"""By `status.reason` of a pod, as kubelets and controllers write it."""

_BY_TARGET_REASON: Final[Mapping[str, Cause]] = {
    "PreemptionByScheduler": Cause.PREEMPTED,
    "DeletionByTaintManager": Cause.NODE_LOST,
    "DeletionByPodGC": Cause.NODE_LOST,
}
"""By the reason of the condition `DisruptionTarget`; any other is an eviction."""


def disruption_of(pod: Object) -> Fence | None:
    """Return what the cluster ended a pod for; `None` when its container ended by itself."""
    status = pod.get("status") or {}
    told = readable(str(status.get("message") or ""))
    end = str(status.get("reason") or "")
    known = _BY_POD_REASON.get(end)
    if known is not None and end == "Evicted" and is_out_of_disk(told):
        return Fence.because(
            Cause.USER_ERROR,
            Reason(
                Code.DISK_FULL,
                f"The trial wrote more than its disk space: {told}",
                "raise trial.kubernetes.scratch, or write less.",
            ),
        )
    if known is not None:
        text = f"{known.always} {told}".strip() or known.otherwise
        return Fence.because(known.cause, _reason(known.cause, text), known.how)
    target = condition(pod, "DisruptionTarget", "True")
    if target is not None:
        why = str(target.get("reason") or "")
        cause = _BY_TARGET_REASON.get(why, Cause.EVICTED)
        return Fence.because(cause, _reason(cause, readable(str(target.get("message") or why))))
    if is_leaving(pod):
        return Fence.because(Cause.EVICTED, deleted(pod))
    return None


def taken_back(job: Object, pod: Object | None, *, pod_is_gone: bool) -> Fence | None:
    """Return that a queue has taken back a Job whose pod it had let begin; `None` otherwise.

    Kueue suspends the Job, whose controller deletes the pod, and admits the same Job again when it
    has room. The attempt is over by then, as after any eviction: the next one waits in the queue.
    """
    if pod is None or not is_suspended(job) or not (pod_is_gone or is_leaving(pod)):
        return None
    queue = queue_of(job)
    its = f"Its queue {queue}" if queue else "Its queue"
    return Fence.because(
        Cause.EVICTED, _reason(Cause.EVICTED, f"{its} took its admission back (Kueue).")
    )


def deleted(pod: Object) -> Reason:
    """Return why a pod went that nobody gives another reason for."""
    node = node_of(pod)
    where = f" on node {node}" if node else ""
    return _reason(
        Cause.EVICTED,
        f"Its pod{where} was deleted by someone else: an eviction, a drain, or a person.",
    )


def refused(pod: Object, cause: Cause) -> Reason:
    """Return why a node did not take a pod that it was given."""
    # UnexpectedAdmissionError, OutOfcpu, OutOfnvidia.com/gpu, NodeAffinity, …: a race on the node.
    status: Mapping[str, Any] = pod.get("status") or {}
    reason = str(status.get("reason") or "Failed")
    told = readable(str(status.get("message") or ""))
    return _reason(cause, f"The node refused the pod ({reason}). {told}".strip())


def _reason(cause: Cause, message: str) -> Reason:
    return Reason(cause, message)
