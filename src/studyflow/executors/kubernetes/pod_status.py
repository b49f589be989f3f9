"""What the state of a Job and its pod means for an attempt: state, cause, one sentence, a way out.

Pure: takes what the API said, as dictionaries, and returns what to make of it, so that every rule
is a row in the tests, among them statuses recorded from real clusters.

An attempt is its Job's *first* pod. A pod that is deleted is replaced by the Job controller, and
that second start must not count: the attempt then ends, and the executor fences the Job.
"""

from __future__ import annotations

import enum
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from studyflow.executors.diagnosis import Ending, How, readable
from studyflow.executors.kubernetes.names import queue_of
from studyflow.executors.protocol import AttemptState
from studyflow.trial import Cause

FENCE_ANNOTATION: Final = "studyflow.dev/ended"
"""On a Job: what its attempt ends with, as decided by a runner (JSON of a `Fence`)."""

LOST_SECONDS: Final = 60.0
"""How much longer than its grace a pod may take to go before its node counts as lost."""

QUIET_SECONDS: Final = 10.0
"""How long a pod may be without a reason of its own before its events are asked for."""

_N_NODES: Final = re.compile(r"0/(\d+) nodes are available")
_N_EXCLUDED: Final = re.compile(
    r"(\d+) node\(s\) "
    r"(?:didn't match (?:Pod's )?node (?:affinity|selector)|had (?:untolerated )?taint|"
    r"were unschedulable)"
)
"""What the scheduler says of nodes that are out of bounds for a pod, whoever else ends there."""

TROUBLE_SECONDS: Final = 120.0
"""How long a node may fail to make a container before another node is tried."""

_NODE_TROUBLE: Final = re.compile(
    r"deadline ?exceeded|failed to reserve|error reserving|is reserved for|connection refused|"
    r"connection error|error while dialing|transport is closing|ttrpc: closed",
    re.IGNORECASE,
)
"""What kubelets pass on of a container runtime that is too busy or was started again: the same
container can be made a little later, or on another node."""

_PULL_FAILURES: Final = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable")


@dataclass(frozen=True, slots=True)
class Fence:
    """Why a runner ended an attempt. Stored on the Job, so that the next runner knows it too."""

    how: How
    cause: Cause
    message: str

    def to_json(self) -> str:
        """Return the annotation's value."""
        return json.dumps({"how": self.how, "cause": self.cause, "message": self.message[:1000]})

    @classmethod
    def read(cls, job: Mapping[str, Any]) -> Fence | None:
        """Return the fence of a Job; `None` when it has none that can be read."""
        text = (job["metadata"].get("annotations") or {}).get(FENCE_ANNOTATION)
        try:
            document = json.loads(text or "")
            return cls(How(document["how"]), Cause(document["cause"]), str(document["message"]))
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is known of one attempt at one moment."""

    job: Mapping[str, Any]
    """Its newest state, or its last."""
    job_is_gone: bool = False
    pod: Mapping[str, Any] | None = None
    """The attempt's pod in its newest state, or its last; `None` when there was none yet."""
    pod_is_gone: bool = False
    events: Sequence[Mapping[str, Any]] = ()
    """About the pod, or about the Job while there is no pod; oldest first."""
    waiting_seconds: float = 0.0
    """Since the attempt was first seen to wait for what it waits for now: see `wait_of`."""
    stalled_seconds: float = math.inf
    """Since any attempt of the study was last seen running; infinite when none ever was."""
    leaving_seconds: float = 0.0
    """Since its pod was first seen to be on its way out."""
    grace_seconds: float = 30.0
    image_pull_seconds: float = 300.0
    pending_seconds: float = 3600.0
    others_started: bool = False
    """Whether any attempt of the study has run a container since this runner began."""
    others_running: bool = False
    """Whether another attempt of the study runs now."""
    avoids: tuple[str, ...] = ()
    """Nodes where its pod must not run, by our own decision."""
    workload: Mapping[str, Any] | None = None
    """What Kueue keeps of its Job, while it is suspended; `None` when that is not known."""
    queue_position: int | None = None
    """How many are before it in its queue; `None` when that is not known."""


@dataclass(frozen=True, slots=True)
class Look:
    """What to make of a sighting."""

    state: AttemptState
    reason: str = ""
    """Why it has not begun, one sentence; empty when nothing is out of the ordinary."""
    started_at: float | None = None
    ended_at: float | None = None
    ending: Ending | None = None
    """How its container ended, for `diagnose`; `None` when `cause` says it all."""
    outcome: bytes | None = None
    """The termination message: what `sdk.finish` wrote; `None` when the script said nothing."""
    cause: Cause | None = None
    """The cause, when neither script nor outcome has a say in it."""
    message: str = ""
    fence: Fence | None = None
    """Write this on the Job: the attempt has ended and must not start anything more."""
    blocks_study: bool = False
    """Whether no attempt of the study can begin, whatever its parameters."""
    waits_for_room: bool = False
    """Whether it waits for a node or for quota: further trials would only wait beside it."""
    missed_nodes: tuple[str, ...] = ()
    """Nodes that it was told to avoid and without which it found no place."""
    wants_events: bool = False
    """Whether its events would say more."""
    wants_queue: bool = False
    """Whether its queue would say more."""
    image_id: str = field(default="", compare=False)


class Wait(enum.StrEnum):
    """What an attempt that has not begun waits for; each has a patience of its own."""

    QUEUE = "queue"
    """A queue's admission of its Job."""
    POD = "pod"
    """The Job controller, or whatever keeps it from making the pod."""
    ROOM = "room"
    """A node."""
    IMAGE = "image"
    CONTAINER = "container"


def wait_of(job: Mapping[str, Any], pod: Mapping[str, Any] | None) -> Wait:
    """Return what an attempt waits for, if it waits at all."""
    if pod is None:
        return Wait.QUEUE if (job.get("spec") or {}).get("suspend") else Wait.POD
    if _scheduled(pod).get("status") == "False":
        return Wait.ROOM
    reason = (_container_state(pod).get("waiting") or {}).get("reason")
    return Wait.IMAGE if reason in _PULL_FAILURES else Wait.CONTAINER


def running_seconds(pod: Mapping[str, Any], server_time: float | None) -> float | None:
    """Return how long a pod's container has run; `None` when that cannot be said.

    The times of a pod come from two clocks, the API server's and its node's, which may be an hour
    apart; each difference taken here is one clock's. What lies between them is the moment in which
    the node learns of the pod.

    Args:
        pod: A pod whose container runs.
        server_time: The API server's time now; `None` when it is not known.
    """
    status = pod.get("status") or {}
    created = _seconds(pod["metadata"].get("creationTimestamp"))
    bound = _seconds(_scheduled(pod).get("lastTransitionTime")) or created  # the API server's
    taken = _seconds(status.get("startTime"))  # the node's, as the next one
    began = _seconds((_container_state(pod).get("running") or {}).get("startedAt"))
    if server_time is None or bound is None or taken is None or began is None:
        return None
    return max((server_time - bound) - max(began - taken, 0.0), 0.0)


def look(seen: Sighting) -> Look:
    """Return what an attempt's Job and pod mean."""
    pod = seen.pod
    fence = Fence.read(seen.job)
    imposed = fence or _taken_back(seen)
    terminated = None if pod is None else _container_state(pod).get("terminated")
    if terminated is not None and pod is not None:
        return _ended(pod, terminated, imposed, is_fenced=fence is not None)
    if pod is None or seen.pod_is_gone:
        if fence is not None:
            return _imposed(fence)
        if seen.job_is_gone:
            return _end(Cause.LOST, "Its Job was deleted by someone else.")
        if pod is not None:
            imposed = imposed or _imposed_by_cluster(pod)
            if imposed is None:
                return _fenced(Cause.EVICTED, _why_deleted(pod))
            return _fenced(imposed.cause, imposed.message)
        return _without_pod(seen)
    is_running = bool(_container_state(pod).get("running"))
    has_failed = (pod.get("status") or {}).get("phase") == "Failed"
    if has_failed and not is_running:
        return _failed_without_container(pod, fence)
    # Kubelets before 1.22 call a pod failed before they end its container.
    if has_failed or pod["metadata"].get("deletionTimestamp"):
        return _leaving(seen, pod, fence, imposed)
    if is_running:
        return Look(
            AttemptState.RUNNING,
            started_at=_seconds(_container_state(pod)["running"].get("startedAt")),
            image_id=_image_id(pod),
        )
    if fence is not None:  # fenced, and the Job controller has not deleted the pod yet
        return Look(AttemptState.PENDING, reason="It is being stopped.")
    return _waiting(seen, pod)


def _taken_back(seen: Sighting) -> Fence | None:
    """Return that a queue has taken back the place of a Job whose pod it had let begin.

    Kueue suspends the Job, whose controller deletes the pod, and admits the same Job again when it
    has room. The attempt is over by then, as after any eviction: the next one waits in the queue.
    """
    pod = seen.pod
    is_suspended = bool((seen.job.get("spec") or {}).get("suspend"))
    if pod is None or not is_suspended:
        return None
    if not (seen.pod_is_gone or pod["metadata"].get("deletionTimestamp")):
        return None
    return Fence(
        How.STOPPED, Cause.EVICTED, f"Its queue{_queue(seen.job)} took its place back (Kueue)."
    )


def _ended(
    pod: Mapping[str, Any],
    terminated: Mapping[str, Any],
    outside: Fence | None,
    *,
    is_fenced: bool,
) -> Look:
    code = _exit_code(terminated)
    status = pod.get("status") or {}
    message = str(terminated.get("message") or "")
    started = terminated.get("reason") not in ("StartError", "ContainerCannotRun")
    imposed = outside or _imposed_by_cluster(pod)
    ending = Ending(
        how=How.EXITED if imposed is None else imposed.how,
        exit_code=code,
        oom=terminated.get("reason") == "OOMKilled",
        finished_first=_finished_unasked(message),
        stop_cause=None if imposed is None else imposed.cause,
        stop_reason="" if imposed is None else imposed.message,
    )
    look = Look(
        AttemptState.ENDED,
        started_at=_seconds(terminated.get("startedAt")),
        ended_at=_seconds(terminated.get("finishedAt")),
        ending=ending,
        outcome=_said(pod, code, message) if started else None,
        image_id=_image_id(pod),
    )
    if not started and imposed is not None:
        return _failed_without_container(pod, outside)  # told to go while it was being started
    if not started:
        return replace(
            look,
            ending=None,
            cause=Cause.NODE_FAULT if _NODE_TROUBLE.search(message) else Cause.USER_ERROR,
            message=f"The container could not start: {readable(message)}",
        )
    if imposed is not None and not is_fenced and status.get("phase") != "Succeeded":
        # An eviction or a drain: durable on the Job before its replacement pod is noticed.
        return replace(look, fence=imposed)
    return look


def _said(pod: Mapping[str, Any], code: int | None, message: str) -> bytes | None:
    """Return what a script wrote into its termination message; `None` when it wrote nothing.

    The kubelet makes that file, so an empty one says nothing. A pod template may ask for the end of
    the log in place of an empty message; that is the log and nothing that the script said.
    """
    is_log = (
        _own_container(pod).get("terminationMessagePolicy") == "FallbackToLogsOnError"
        and code != 0
        and not message.startswith("{")
    )
    return None if not message or is_log else message.encode(errors="replace")


def _finished_unasked(message: str) -> bool:
    """Return whether the script called finish() before it was asked to stop.

    The SDK says so itself: clocks of nodes and runners differ.
    """
    try:
        document = json.loads(message)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and not document.get("stopped", False)


def _imposed_by_cluster(pod: Mapping[str, Any]) -> Fence | None:
    """Return what the cluster ended a pod for; `None` when its container ended by itself."""
    status = pod.get("status") or {}
    reason, message = str(status.get("reason") or ""), readable(str(status.get("message") or ""))
    disruption = next(
        (
            condition
            for condition in status.get("conditions") or ()
            if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True"
        ),
        None,
    )
    if reason == "DeadlineExceeded":
        return Fence(How.TIMEOUT, Cause.TIMEOUT, message)
    if reason == "Evicted":
        if "ephemeral" in message or "EmptyDir" in message or "emptyDir" in message:
            return Fence(
                How.STOPPED,
                Cause.USER_ERROR,
                f"The trial wrote more than its disk space: {message} Hint: raise "
                "trial.kubernetes.scratch, or write less.",
            )
        return Fence(How.STOPPED, Cause.EVICTED, message or "The node evicted it.")
    if reason == "NodeLost":
        return Fence(How.STOPPED, Cause.NODE_LOST, message or "Its node was lost.")
    if reason in ("Preempting", "Preempted"):
        return Fence(How.STOPPED, Cause.PREEMPTED, message or "It was preempted.")
    if reason in ("Shutdown", "NodeShutdown", "Terminated"):
        return Fence(How.STOPPED, Cause.EVICTED, f"Its node shut down. {message}".strip())
    if disruption is not None:
        why = str(disruption.get("reason") or "")
        cause = {
            "PreemptionByScheduler": Cause.PREEMPTED,
            "DeletionByTaintManager": Cause.NODE_LOST,
            "DeletionByPodGC": Cause.NODE_LOST,
        }.get(why, Cause.EVICTED)
        told = readable(str(disruption.get("message") or why))
        return Fence(How.STOPPED, cause, told)
    if pod["metadata"].get("deletionTimestamp"):
        return Fence(How.STOPPED, Cause.EVICTED, _why_deleted(pod))
    return None


def _failed_without_container(pod: Mapping[str, Any], fence: Fence | None) -> Look:
    """Judge a pod that failed before its container ran, or whose container nobody knows of."""
    imposed = fence or _imposed_by_cluster(pod)
    if imposed is None:
        # A pod without a reason of its node's was ended by another of its containers.
        is_refused = bool((pod.get("status") or {}).get("reason"))
        return _fenced(Cause.NODE_FAULT if is_refused else Cause.EVICTED, _why_refused(pod))
    if fence is None and imposed.how is How.TIMEOUT:
        # The pod's deadline counts from before its image is pulled and its volumes are mounted.
        return _fenced(Cause.EVICTED, f"Its container never began. {imposed.message}".strip())
    return _fenced(imposed.cause, imposed.message)


def _leaving(
    seen: Sighting, pod: Mapping[str, Any], fence: Fence | None, imposed: Fence | None
) -> Look:
    """Judge a pod that was told to go and whose container has not ended yet."""
    imposed = (
        imposed or _imposed_by_cluster(pod) or Fence(How.STOPPED, Cause.EVICTED, _why_refused(pod))
    )
    if seen.leaving_seconds > seen.grace_seconds + LOST_SECONDS:
        if fence is not None and fence.cause is not Cause.EVICTED:
            return _imposed(fence)
        lost = _fenced(
            Cause.NODE_LOST,
            f"Its pod does not end {seen.leaving_seconds:.0f} s after it was told to; its node "
            f"{(pod.get('spec') or {}).get('nodeName', '')} does not answer.",
        )
        # By the cluster's clock, and the same for all pods that went with this node.
        return replace(lost, ended_at=_seconds(pod["metadata"].get("deletionTimestamp")))
    running = _container_state(pod).get("running") or {}
    state = AttemptState.RUNNING if running else AttemptState.PENDING
    # Fenced at once: the Job controller has made a second pod by now.
    return Look(
        state,
        reason="" if running else "It is being stopped.",
        started_at=_seconds(running.get("startedAt")),
        fence=imposed if fence is None else None,
    )


def _waiting(seen: Sighting, pod: Mapping[str, Any]) -> Look:
    """Judge a pod whose container has not begun."""
    scheduled = _scheduled(pod)
    if scheduled.get("status") == "False":
        message = readable(str(scheduled.get("message") or "no node takes it"))
        return _for_room(seen, f"Unschedulable: {message}")
    waiting = _container_state(pod).get("waiting") or {}
    reason = str(waiting.get("reason") or "")
    message = readable(str(waiting.get("message") or ""))
    image = _image(pod)
    if reason in _PULL_FAILURES:
        told = f"The image {image} cannot be pulled: {message or reason}"
        if seen.waiting_seconds < seen.image_pull_seconds:
            return Look(AttemptState.PENDING, reason=told, wants_events=not message)
        if not seen.others_started:
            return _blocking(
                Cause.IMAGE_PULL,
                f"{told} Hint: is its name right, and does the node reach the registry and have "
                "the pull secret (trial.kubernetes.image_pull_secrets)?",
            )
        return _fenced(Cause.IMAGE_PULL, told)
    if reason in ("InvalidImageName", "ErrImageNeverPull", "ImageInspectError"):
        return _blocking(Cause.IMAGE_PULL, f"The image {image} cannot be used: {message or reason}")
    if reason == "CreateContainerError" and _NODE_TROUBLE.search(message):
        told = f"Its node cannot make the container: {message}"
        if seen.waiting_seconds < TROUBLE_SECONDS:
            return Look(AttemptState.PENDING, reason=told)
        return _fenced(Cause.NODE_FAULT, told)
    if reason in ("CreateContainerConfigError", "CreateContainerError"):
        return _blocking(
            Cause.USER_ERROR,
            f"The container cannot be made: {message or reason}. Hint: does what "
            "trial.kubernetes names exist in the trials' namespace?",
        )
    if seen.waiting_seconds < QUIET_SECONDS:
        return Look(AttemptState.PENDING)
    return _by_events(seen, "The container is being made")


def _without_pod(seen: Sighting) -> Look:
    """Judge a Job that has no pod yet."""
    conditions = (seen.job.get("status") or {}).get("conditions") or ()
    failed = next(
        (c for c in conditions if c.get("type") == "Failed" and c.get("status") == "True"), None
    )
    if failed is not None:  # its pod was cleaned away before anybody looked
        message = readable(str(failed.get("message") or failed.get("reason") or ""))
        return _fenced(Cause.LOST, f"Its Job failed and its pod is gone. {message}".strip())
    if (seen.job.get("spec") or {}).get("suspend"):
        return Look(AttemptState.PENDING, reason=_why_suspended(seen), wants_queue=True)
    if seen.waiting_seconds < QUIET_SECONDS / 5:
        return Look(AttemptState.PENDING)
    return _by_events(seen, "The Job has no pod yet")


def _why_suspended(seen: Sighting) -> str:
    """Return why a Job is suspended, as far as its queue says it."""
    place = seen.queue_position
    before = "" if place is None else f" ({place} before it)"
    why = _why_no_quota(seen.workload)
    return f"Suspended: its queue{_queue(seen.job)} has not admitted it yet{before}. {why}".strip()


def _queue(job: Mapping[str, Any]) -> str:
    """Return the name of a Job's queue, behind a blank; empty without one."""
    name = queue_of(job)
    return f" {name}" if name else ""


def _why_no_quota(workload: Mapping[str, Any] | None) -> str:
    """Return what Kueue says of a workload that has no quota."""
    for condition in ((workload or {}).get("status") or {}).get("conditions") or ():
        if condition.get("type") == "QuotaReserved" and condition.get("status") == "False":
            return readable(str(condition.get("message") or ""))
    return ""


def _by_events(seen: Sighting, otherwise: str) -> Look:
    """Judge by the newest warning among the events."""
    warnings = [event for event in seen.events if event.get("type") == "Warning"]
    if not warnings:
        is_long = seen.waiting_seconds > 3 * QUIET_SECONDS
        reason = f"{otherwise}, for {seen.waiting_seconds:.0f} s." if is_long else ""
        return Look(AttemptState.PENDING, reason=reason, wants_events=True)
    newest = warnings[-1]
    reason, message = str(newest.get("reason") or ""), readable(str(newest.get("message") or ""))
    if "exceeded quota" in message:
        return _for_room(seen, f"Quota: {message}")
    is_missing = re.search(r"not found|forbidden|violates|invalid", message, re.IGNORECASE)
    if reason in ("FailedCreate", "FailedMount", "FailedAttachVolume") and is_missing:
        return _blocking(
            Cause.USER_ERROR,
            f"No pod can be made ({reason}): {message} Hint: correct trial.kubernetes, or create "
            "what it names.",
        )
    return Look(AttemptState.PENDING, reason=f"{reason}: {message}", wants_events=True)


def _for_room(seen: Sighting, reason: str) -> Look:
    if seen.avoids and _is_excluded_everywhere(reason):
        return _without_avoided(seen, reason)
    # When the last of the others ends, the scheduler needs a moment to give its place away.
    stalled_seconds = min(seen.waiting_seconds, seen.stalled_seconds)
    if seen.others_running or stalled_seconds < seen.pending_seconds:
        return Look(AttemptState.PENDING, reason=reason, waits_for_room=True)
    if seen.avoids:
        return _without_avoided(seen, reason)
    return _blocking(
        Cause.UNSCHEDULABLE,
        f"{reason} No trial found room for {stalled_seconds:.0f} s "
        "(trial.kubernetes.pending_timeout_seconds). Hint: ask for less, or make room.",
    )


def _is_excluded_everywhere(reason: str) -> bool:
    """Return whether no node would take the pod even if all of them were empty."""
    n_nodes = _N_NODES.search(reason)
    n_excluded = sum(int(count) for count in _N_EXCLUDED.findall(reason))
    return n_nodes is not None and n_excluded == int(n_nodes.group(1))


def _without_avoided(seen: Sighting, reason: str) -> Look:
    """End an attempt that finds no place but on the nodes that it avoids: the next one may go."""
    found = _fenced(Cause.UNSCHEDULABLE, f"{reason} It avoids {', '.join(seen.avoids)}.")
    return replace(found, missed_nodes=seen.avoids)


def _imposed(fence: Fence) -> Look:
    return _end(fence.cause, fence.message)


def _end(cause: Cause, message: str) -> Look:
    return Look(AttemptState.ENDED, cause=cause, message=message)


def _fenced(cause: Cause, message: str) -> Look:
    return Look(
        AttemptState.ENDED,
        cause=cause,
        message=message,
        fence=Fence(How.STOPPED, cause, message),
    )


def _blocking(cause: Cause, message: str) -> Look:
    return Look(
        AttemptState.ENDED,
        cause=cause,
        message=message,
        fence=Fence(How.STOPPED, cause, message),
        blocks_study=True,
    )


def _why_deleted(pod: Mapping[str, Any]) -> str:
    node = (pod.get("spec") or {}).get("nodeName")
    place = f" on node {node}" if node else ""
    return f"Its pod{place} was deleted by someone else: an eviction, a drain, or a person."


def _why_refused(pod: Mapping[str, Any]) -> str:
    # UnexpectedAdmissionError, OutOfcpu, OutOfnvidia.com/gpu, NodeAffinity, …: a race on the node.
    status = pod.get("status") or {}
    reason = str(status.get("reason") or "Failed")
    message = readable(str(status.get("message") or ""))
    return f"The node refused the pod ({reason}). {message}".strip()


def _scheduled(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c.get("type") == "PodScheduled"), {})


def _container_state(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state of the trial's container; a sidecar's, if an admission added one, is not."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    own = next((s for s in statuses if s.get("name") == "trial"), None)
    state = (own or {}).get("state") or {}
    return state if isinstance(state, Mapping) else {}


def _own_container(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    containers = (pod.get("spec") or {}).get("containers") or ()
    return next((c for c in containers if c.get("name") == "trial"), {})


def _image(pod: Mapping[str, Any]) -> str:
    return str(_own_container(pod).get("image", ""))


def _image_id(pod: Mapping[str, Any]) -> str:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return str(next((s.get("imageID") for s in statuses if s.get("name") == "trial"), "") or "")


def _exit_code(terminated: Mapping[str, Any]) -> int | None:
    """Return the exit code, negative for a signal, which container runtimes report as 128 more."""
    code = terminated.get("exitCode")
    if not isinstance(code, int):
        return None
    return -(code - 128) if 128 < code < 128 + 65 else code


def _seconds(timestamp: Any) -> float | None:
    try:
        return datetime.fromisoformat(str(timestamp)).timestamp()
    except ValueError:
        return None
