"""What keeps an attempt from beginning, and whether it is worth waiting for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from studyflow.executors.diagnosis import readable
from studyflow.executors.kubernetes.names import queue_of
from studyflow.executors.kubernetes.objects import (
    Object,
    condition,
    container_state,
    image_of,
    is_suspended,
)
from studyflow.executors.kubernetes.observation import (
    PULL_FAILURES,
    Judgement,
    Observation,
    blocking,
    fenced,
    pending,
)
from studyflow.reasons import Code, Reason, ReasonCode
from studyflow.trial import Cause

QUIET_SECONDS: Final = 10.0
"""How long a pod may be without a reason of its own before its events are asked for."""

TROUBLE_SECONDS: Final = 120.0
"""How long a node may fail to make a container before another node is tried."""

_NODE_TROUBLE: Final = re.compile(
    r"deadline ?exceeded|failed to reserve|error reserving|is reserved for|connection refused|"
    r"connection error|error while dialing|transport is closing|ttrpc: closed",
    re.IGNORECASE,
)
"""What kubelets pass on of a container runtime that is too busy or was started again: the same
container can be made a little later, or on another node."""

_UNUSABLE_IMAGE: Final = frozenset({"InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
_UNMADE_CONTAINER: Final = frozenset({"CreateContainerConfigError", "CreateContainerError"})
_UNMADE_POD: Final = frozenset({"FailedCreate", "FailedMount", "FailedAttachVolume"})
"""Events of what a pod needs and cannot have."""

_NEVER: Final = re.compile(r"not found|forbidden|violates|invalid", re.IGNORECASE)
"""What such an event says when waiting does not help."""

_OVER_QUOTA: Final = "exceeded quota"
"""What the API server says of a pod that a ResourceQuota leaves no room for."""

_N_NODES: Final = re.compile(r"0/(\d+) nodes are available")
_N_EXCLUDED: Final = re.compile(
    r"(\d+) node\(s\) "
    r"(?:didn't match (?:Pod's )?node (?:affinity|selector)|had (?:untolerated )?taint|"
    r"were unschedulable)"
)
"""What the scheduler says of nodes that are out of bounds for a pod, whoever else ends there."""


def is_node_trouble(told: str) -> bool:
    """Return whether a kubelet says that its container runtime is in trouble.

    Args:
        told: What the kubelet says.
    """
    return _NODE_TROUBLE.search(told) is not None


def judge_waiting_pod(seen: Observation, pod: Object) -> Judgement:
    """Judge a pod whose container has not begun."""
    unscheduled = condition(pod, "PodScheduled", "False")
    if unscheduled is not None:
        told = readable(str(unscheduled.get("message") or "no node takes it"))
        return _for_room(seen, Reason(Cause.UNSCHEDULABLE, f"Unschedulable: {told}"))
    waiting: Mapping[str, Any] = container_state(pod).get("waiting") or {}
    reason = str(waiting.get("reason") or "")
    told = readable(str(waiting.get("message") or ""))
    image = image_of(pod)
    if reason in PULL_FAILURES:
        return _without_image(seen, f"The image {image} cannot be pulled: {told or reason}", told)
    if reason in _UNUSABLE_IMAGE:
        unusable = f"The image {image} cannot be used: {told or reason}"
        return blocking(Cause.IMAGE_PULL, Reason(Cause.IMAGE_PULL, unusable))
    if reason == "CreateContainerError" and is_node_trouble(told):
        trouble = Reason(Cause.NODE_FAULT, f"Its node cannot make the container: {told}")
        if seen.waiting_seconds < TROUBLE_SECONDS:
            return pending(trouble)
        return fenced(Cause.NODE_FAULT, trouble)
    if reason in _UNMADE_CONTAINER:
        return blocking(
            Cause.USER_ERROR,
            Reason(
                Code.NOT_STARTABLE,
                f"The container cannot be made: {told or reason}.",
                "does what trial.kubernetes names exist in the trials' namespace?",
            ),
        )
    if seen.waiting_seconds < QUIET_SECONDS:
        return pending()
    return _by_events(seen, Code.CONTAINER_WAITING, "The container is being made")


def judge_job_without_pod(seen: Observation) -> Judgement:
    """Judge a Job that has no pod yet."""
    failed = condition(seen.job, "Failed", "True")
    if failed is not None:  # its pod was cleaned away before anybody saw it
        told = readable(str(failed.get("message") or failed.get("reason") or ""))
        gone = f"Its Job failed and its pod is gone. {told}".strip()
        return fenced(Cause.LOST, Reason(Cause.LOST, gone))
    if is_suspended(seen.job):
        return pending(_why_suspended(seen), wants_queue=True)
    if seen.waiting_seconds < QUIET_SECONDS / 5:
        return pending()
    return _by_events(seen, Code.POD_MISSING, "The Job has no pod yet")


def _without_image(seen: Observation, message: str, told: str) -> Judgement:
    """Judge a pod whose image could not be pulled so far."""
    reason = Reason(Cause.IMAGE_PULL, message)
    if seen.waiting_seconds < seen.image_pull_seconds:
        return pending(reason, wants_events=not told)
    if seen.others_started:  # the image is there: this node has no access to it
        return fenced(Cause.IMAGE_PULL, reason)
    hint = (
        "is its name right, and does the node reach the registry and have the pull secret "
        "(trial.kubernetes.image_pull_secrets)?"
    )
    return blocking(Cause.IMAGE_PULL, Reason(Cause.IMAGE_PULL, message, hint))


def _why_suspended(seen: Observation) -> Reason:
    """Return why a Job is suspended, as far as its queue says it."""
    queue = queue_of(seen.job)
    its = f"its queue {queue}" if queue else "its queue"
    position = seen.queue_position
    before = "" if position is None else f" ({position} before it)"
    no_quota = condition(seen.workload or {}, "QuotaReserved", "False") or {}
    why = readable(str(no_quota.get("message") or ""))
    return Reason(Code.IN_QUEUE, f"Suspended: {its} has not admitted it yet{before}. {why}".strip())


def _by_events(seen: Observation, code: ReasonCode, otherwise: str) -> Judgement:
    """Judge by the newest warning among the events.

    Args:
        seen: What is known.
        code: What it waits for as far as the events say nothing else.
        otherwise: The same in words.
    """
    warnings = [event for event in seen.events if event.get("type") == "Warning"]
    if not warnings:
        is_long = seen.waiting_seconds > 3 * QUIET_SECONDS
        waited = Reason(code, f"{otherwise}, for {seen.waiting_seconds:.0f} s.")
        return pending(waited if is_long else None, wants_events=True)
    newest = warnings[-1]
    reason, told = str(newest.get("reason") or ""), readable(str(newest.get("message") or ""))
    if _OVER_QUOTA in told:
        return _for_room(seen, Reason(Cause.QUOTA, f"Quota: {told}"))
    is_refused = reason == "FailedCreate"
    if reason in _UNMADE_POD and _NEVER.search(told):
        return blocking(
            Cause.USER_ERROR,
            Reason(
                Code.POD_REFUSED if is_refused else Code.NOT_STARTABLE,
                f"No pod can be made ({reason}): {told}",
                "correct trial.kubernetes, or create what it names.",
            ),
        )
    why = Reason(Code.POD_REFUSED if is_refused else code, f"{reason}: {told}")
    return pending(why, wants_events=True)


def _for_room(seen: Observation, reason: Reason) -> Judgement:
    """Judge an attempt that waits for a node or for quota."""
    if seen.avoids and _is_excluded_everywhere(reason.message):
        return _without_avoided(seen, reason)
    # When the last of the others ends, the scheduler needs a moment to give its room away.
    stalled_seconds = min(seen.waiting_seconds, seen.stalled_seconds)
    if seen.others_running or stalled_seconds < seen.pending_seconds:
        return pending(reason, waits_for_room=True)
    if seen.avoids:
        return _without_avoided(seen, reason)
    return blocking(
        Cause.UNSCHEDULABLE,
        Reason(
            reason.code,
            f"{reason.message} No trial found room for {stalled_seconds:.0f} s "
            "(trial.kubernetes.pending_timeout_seconds).",
            "ask for less, or make room.",
        ),
    )


def _is_excluded_everywhere(told: str) -> bool:
    """Return whether no node would take the pod even if all of them were empty."""
    n_nodes = _N_NODES.search(told)
    n_excluded = sum(int(count) for count in _N_EXCLUDED.findall(told))
    return n_nodes is not None and n_excluded == int(n_nodes.group(1))


def _without_avoided(seen: Observation, reason: Reason) -> Judgement:
    """End an attempt that no node takes but those that it avoids: the next one may go there."""
    told = f"{reason.message} It avoids {', '.join(seen.avoids)}."
    return fenced(Cause.UNSCHEDULABLE, Reason(reason.code, told), missed_nodes=seen.avoids)
