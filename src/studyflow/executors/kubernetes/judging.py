"""What the state of a Job and its pod means for an attempt: state, cause, reason.

Pure: takes what the API said, as dictionaries, and returns what to make of it, so that every rule
is a row in the tests, among them statuses recorded from real clusters.

An attempt is its Job's *first* pod. A pod that is deleted is replaced by the Job controller, and
that second start must not count: the attempt then ends, and the executor fences the Job.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from studyflow.executors.diagnosis import Ending, How, readable
from studyflow.executors.kubernetes.disruption import (
    deleted,
    disruption_of,
    refused,
    taken_back,
)
from studyflow.executors.kubernetes.fence import Fence
from studyflow.executors.kubernetes.objects import (
    Object,
    container_state,
    exit_code_of,
    image_id_of,
    is_leaving,
    node_of,
    own_container,
    phase_of,
    seconds,
    told_to_go_at,
)
from studyflow.executors.kubernetes.observation import (
    Judgement,
    Observation,
    ended,
    fenced,
    pending,
)
from studyflow.executors.kubernetes.waiting import (
    judge_job_without_pod,
    judge_waiting_pod,
)
from studyflow.executors.kubernetes.words import is_node_trouble
from studyflow.executors.protocol import AttemptState
from studyflow.reasons import Code, Reason
from studyflow.trial import Cause

LOST_SECONDS: Final = 60.0
"""How much longer than its grace a pod may take to go before its node counts as lost."""

_STOPPING: Final = Reason(Code.STOPPING, "It is being stopped.")


def judge(seen: Observation) -> Judgement:
    """Return what an attempt's Job and pod mean."""
    pod = seen.pod
    fence = Fence.read(seen.job)
    imposed = fence or taken_back(seen.job, pod, pod_is_gone=seen.pod_is_gone)
    terminated = None if pod is None else container_state(pod).get("terminated")
    if terminated is not None and pod is not None:
        return _judge_terminated(pod, terminated, imposed, is_fenced=fence is not None)
    if pod is None or seen.pod_is_gone:
        return _judge_without_pod(seen, fence, imposed)
    running = container_state(pod).get("running")
    has_failed = phase_of(pod) == "Failed"
    if has_failed and not running:
        return _judge_failed(pod, fence)
    # Kubelets before 1.22 call a pod failed before they end its container.
    if has_failed or is_leaving(pod):
        return _judge_leaving(seen, pod, fence, imposed)
    if running:
        return Judgement(
            AttemptState.RUNNING,
            started_at=seconds(running.get("startedAt")),
            image_id=image_id_of(pod),
        )
    if fence is not None:  # fenced, and the Job controller has not deleted the pod yet
        return pending(_STOPPING)
    return judge_waiting_pod(seen, pod)


def _judge_without_pod(seen: Observation, fence: Fence | None, imposed: Fence | None) -> Judgement:
    """Judge an attempt whose pod is gone, or was never there."""
    if fence is not None:
        return ended(fence.cause, fence.reason)
    if seen.job_is_gone:
        return ended(Cause.LOST, Reason(Cause.LOST, "Its Job was deleted by someone else."))
    if seen.pod is None:
        return judge_job_without_pod(seen)
    imposed = imposed or disruption_of(seen.pod)
    if imposed is None:
        return fenced(Cause.EVICTED, deleted(seen.pod))
    return fenced(imposed.cause, imposed.reason)


def _judge_terminated(
    pod: Object,
    terminated: Mapping[str, Any],
    outside: Fence | None,
    *,
    is_fenced: bool,
) -> Judgement:
    """Judge a pod whose container has ended.

    Args:
        pod: The pod.
        terminated: State of its container.
        outside: What ends the attempt whatever the pod says.
        is_fenced: Whether that stands on the Job already.
    """
    imposed = outside or disruption_of(pod)
    if terminated.get("reason") in ("StartError", "ContainerCannotRun"):
        if imposed is not None:
            return _judge_failed(pod, outside)  # told to go while it was being started
        return _judge_start_error(pod, terminated)
    code = exit_code_of(terminated)
    said = str(terminated.get("message") or "")
    judgement = Judgement(
        AttemptState.ENDED,
        started_at=seconds(terminated.get("startedAt")),
        ended_at=seconds(terminated.get("finishedAt")),
        ending=Ending(
            how=How.EXITED if imposed is None else imposed.how,
            exit_code=code,
            oom=terminated.get("reason") == "OOMKilled",
            finished_first=_finished_unasked(said),
            stop_cause=None if imposed is None else imposed.cause,
            stop_reason=None if imposed is None else imposed.reason,
        ),
        outcome=_said(pod, code, said),
        image_id=image_id_of(pod),
    )
    if imposed is not None and not is_fenced and phase_of(pod) != "Succeeded":
        # An eviction or a drain: durable on the Job before its replacement pod is noticed.
        return replace(judgement, fence=imposed)
    return judgement


def _judge_start_error(pod: Object, terminated: Mapping[str, Any]) -> Judgement:
    """Judge a pod whose container could not be started."""
    told = str(terminated.get("message") or "")
    cause = Cause.NODE_FAULT if is_node_trouble(told) else Cause.USER_ERROR
    reason = Reason(cause, f"The container could not start: {readable(told)}")
    return replace(
        ended(cause, reason),
        started_at=seconds(terminated.get("startedAt")),
        ended_at=seconds(terminated.get("finishedAt")),
        image_id=image_id_of(pod),
    )


def _judge_failed(pod: Object, fence: Fence | None) -> Judgement:
    """Judge a pod that failed before its container ran, or whose container nobody knows of."""
    imposed = fence or disruption_of(pod)
    if imposed is None:
        # A pod without a reason of its node's was ended by another of its containers.
        is_refused = bool((pod.get("status") or {}).get("reason"))
        cause = Cause.NODE_FAULT if is_refused else Cause.EVICTED
        return fenced(cause, refused(pod, cause))
    if fence is None and imposed.how is How.TIMEOUT:
        # The pod's deadline counts from before its image is pulled and its volumes are mounted.
        told = f"Its container never began. {imposed.message}".strip()
        return fenced(Cause.EVICTED, Reason(Cause.EVICTED, told))
    return fenced(imposed.cause, imposed.reason)


def _judge_leaving(
    seen: Observation, pod: Object, fence: Fence | None, imposed: Fence | None
) -> Judgement:
    """Judge a pod that was told to go and whose container has not ended yet."""
    imposed = imposed or disruption_of(pod)
    imposed = imposed or Fence.because(Cause.EVICTED, refused(pod, Cause.EVICTED))
    if seen.leaving_seconds > seen.grace_seconds + LOST_SECONDS:
        if fence is not None and fence.cause is not Cause.EVICTED:
            return ended(fence.cause, fence.reason)
        lost = fenced(
            Cause.NODE_LOST,
            Reason(
                Cause.NODE_LOST,
                f"Its pod does not end {seen.leaving_seconds:.0f} s after it was told to; its node "
                f"{node_of(pod) or ''} does not answer.",
            ),
        )
        # By the cluster's clock, and the same for all pods that went with this node.
        return replace(lost, ended_at=told_to_go_at(pod))
    running = container_state(pod).get("running") or {}
    # Fenced at once: the Job controller has made a second pod by now.
    return Judgement(
        AttemptState.RUNNING if running else AttemptState.PENDING,
        None if running else _STOPPING,
        started_at=seconds(running.get("startedAt")),
        fence=imposed if fence is None else None,
    )


def _said(pod: Object, code: int | None, termination: str) -> bytes | None:
    """Return what a script wrote into its termination message; `None` when it wrote nothing.

    The kubelet makes that file, so an empty one says nothing. A pod template may ask for the end of
    the log in place of an empty message; that is the log and nothing that the script said.
    """
    is_log = (
        own_container(pod).get("terminationMessagePolicy") == "FallbackToLogsOnError"
        and code != 0
        and not termination.startswith("{")
    )
    return None if not termination or is_log else termination.encode(errors="replace")


def _finished_unasked(termination: str) -> bool:
    """Return whether the script called finish() before it was asked to stop.

    The SDK says so itself: clocks of nodes and runners differ.
    """
    try:
        document = json.loads(termination)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and not document.get("stopped", False)
