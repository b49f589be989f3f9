"""What keeps an attempt from beginning, and whether it is worth waiting for."""

from __future__ import annotations

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
from studyflow.executors.kubernetes.words import (
    is_excluded_everywhere,
    is_hopeless,
    is_node_trouble,
    is_over_quota,
)
from studyflow.reasons import Code, Reason, ReasonCode
from studyflow.trial import Cause

QUIET_SECONDS: Final = 10.0
"""How long a pod may be without a reason of its own before its events are asked for."""

TROUBLE_SECONDS: Final = 120.0
"""How long a node may fail to make a container before another node is tried."""

_UNUSABLE_IMAGE: Final = frozenset({"InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
_UNMADE_CONTAINER: Final = frozenset({"CreateContainerConfigError", "CreateContainerError"})
_UNMADE_POD: Final = frozenset({"FailedCreate", "FailedMount", "FailedAttachVolume"})
"""Events of what a pod needs and cannot have."""


def judge_waiting_pod(seen: Observation, pod: Object) -> Judgement:
    """Judge a pod whose container has not begun."""
    unscheduled = condition(pod, "PodScheduled", "False")
    if unscheduled is not None:
        told = readable(str(unscheduled.get("message") or "no node takes it"))
        return _for_room(seen, Reason(Cause.UNSCHEDULABLE, f"Unschedulable: {told}"))
    waiting: Mapping[str, Any] = container_state(pod).get("waiting") or {}
    state = str(waiting.get("reason") or "")
    told = readable(str(waiting.get("message") or ""))
    image = image_of(pod)
    if state in PULL_FAILURES:
        return _without_image(seen, f"The image {image} cannot be pulled: {told or state}", told)
    if state in _UNUSABLE_IMAGE:
        unusable = f"The image {image} cannot be used: {told or state}"
        return blocking(Cause.IMAGE_PULL, Reason(Cause.IMAGE_PULL, unusable))
    if state == "CreateContainerError" and is_node_trouble(told):
        trouble = Reason(Cause.NODE_FAULT, f"Its node cannot make the container: {told}")
        if seen.waiting_seconds < TROUBLE_SECONDS:
            return pending(trouble)
        return fenced(Cause.NODE_FAULT, trouble)
    if state in _UNMADE_CONTAINER:
        return blocking(
            Cause.USER_ERROR,
            Reason(
                Code.NOT_STARTABLE,
                f"The container cannot be made: {told or state}.",
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
    event, told = str(newest.get("reason") or ""), readable(str(newest.get("message") or ""))
    if is_over_quota(told):
        return _for_room(seen, Reason(Cause.QUOTA, f"Quota: {told}"))
    is_refused = event == "FailedCreate"
    if event in _UNMADE_POD and is_hopeless(told):
        return blocking(
            Cause.USER_ERROR,
            Reason(
                Code.POD_REFUSED if is_refused else Code.NOT_STARTABLE,
                f"No pod can be made ({event}): {told}",
                "correct trial.kubernetes, or create what it names.",
            ),
        )
    why = Reason(Code.POD_REFUSED if is_refused else code, f"{event}: {told}")
    return pending(why, wants_events=True)


def _for_room(seen: Observation, reason: Reason) -> Judgement:
    """Judge an attempt that waits for a node or for quota."""
    if seen.avoids and is_excluded_everywhere(reason.message):
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


def _without_avoided(seen: Observation, reason: Reason) -> Judgement:
    """End an attempt that no node takes but those that it avoids: the next one may go there."""
    told = f"{reason.message} It avoids {', '.join(seen.avoids)}."
    return fenced(Cause.UNSCHEDULABLE, Reason(reason.code, told), missed_nodes=seen.avoids)
