"""What a Job and a pod of the API say, field by field. A field that is missing is no error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from studyflow.spec.pods.ours import CONTAINER
from studyflow.trial.cost import Allocation

Object = Mapping[str, Any]
"""A Job or a pod as the API gave it."""


def name_of(item: Object) -> str:
    """Return an object's name."""
    return str(item["metadata"]["name"])


def uid_of(item: Object) -> str:
    """Return what tells an object from another one of its name."""
    return str(item["metadata"].get("uid"))


def created_at(item: Object) -> float | None:
    """Return when an object was made, seconds since the epoch; `None` when that is not known."""
    return seconds(item["metadata"].get("creationTimestamp"))


def told_to_go_at(item: Object) -> float | None:
    """Return until when an object may take to go that was deleted; `None` for another one."""
    return seconds(item["metadata"].get("deletionTimestamp"))


def is_leaving(item: Object) -> bool:
    """Return whether an object was deleted and is still there."""
    return bool(item["metadata"].get("deletionTimestamp"))


def is_suspended(job: Object) -> bool:
    """Return whether a Job waits to be let begin."""
    return bool((job.get("spec") or {}).get("suspend"))


def condition(item: Object, kind: str, status: str | None = None) -> Mapping[str, Any] | None:
    """Return a condition of an object; `None` when it has none.

    Args:
        item: The object.
        kind: Such as `PodScheduled`.
        status: `True` or `False`; `None` for any.
    """
    for found in (item.get("status") or {}).get("conditions") or ():
        if found.get("type") == kind and status in (None, found.get("status")):
            return dict(found)
    return None


def owners_of(item: Object) -> tuple[str, ...]:
    """Return the uids of the objects that an object belongs to: of a pod, its Job's."""
    return tuple(str(owner.get("uid")) for owner in item["metadata"].get("ownerReferences") or ())


def by_owner(items: Iterable[Object]) -> dict[str, list[Object]]:
    """Return objects by the uid of the object that they belong to."""
    owned: dict[str, list[Object]] = {}
    for item in items:
        for uid in owners_of(item):
            owned.setdefault(uid, []).append(item)
    return owned


def first_pod(job: Object, pods: Iterable[Object]) -> Object | None:
    """Return a Job's first pod: an attempt is that one, and no replacement of it.

    Args:
        job: The Job.
        pods: Pods, its own among them.
    """
    uid = uid_of(job)
    return min(
        (pod for pod in pods if uid in owners_of(pod)),
        key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"]),
        default=None,
    )


def node_of(pod: Object | None) -> str | None:
    """Return the node of a pod; `None` before it has one."""
    return None if pod is None else (pod.get("spec") or {}).get("nodeName") or None


def allocation_of(pod: Object, resource: str) -> Allocation:
    """Return what a pod keeps from others: its GPUs, and the labels of the nodes that it asks for.

    Args:
        pod: The pod.
        resource: Name of its GPUs, such as `nvidia.com/gpu`.
    """
    spec = pod.get("spec") or {}
    asked = [
        (container.get("resources") or {}).get("requests") or {}
        for container in spec.get("containers") or ()
    ]
    counts = (str(amounts.get(resource, 0)) for amounts in asked)
    gpus = sum(int(count) for count in counts if count.isdecimal())
    labels = {str(k): str(v) for k, v in (spec.get("nodeSelector") or {}).items()}
    return Allocation(gpus, resource if gpus else None, labels)


def phase_of(pod: Object) -> str:
    """Return a pod's phase, such as `Running`; empty when it has none."""
    return str((pod.get("status") or {}).get("phase") or "")


def own_container(pod: Object) -> Mapping[str, Any]:
    """Return the trial's container as the pod asks for it; empty when there is none."""
    containers = (pod.get("spec") or {}).get("containers") or ()
    return next((c for c in containers if c.get("name") == CONTAINER), {})


def container_state(pod: Object) -> Mapping[str, Any]:
    """Return the state of the trial's container; a sidecar's, if an admission added one, is not."""
    state = _own_status(pod).get("state") or {}
    return state if isinstance(state, Mapping) else {}


def image_of(pod: Object) -> str:
    """Return the image that the trial's container asks for."""
    return str(own_container(pod).get("image", ""))


def image_id_of(pod: Object) -> str:
    """Return the image that the trial's container runs, as its node names it; empty if unknown."""
    return str(_own_status(pod).get("imageID") or "")


def exit_code_of(terminated: Mapping[str, Any]) -> int | None:
    """Return the exit code, negative for a signal, which container runtimes report as 128 more."""
    code = terminated.get("exitCode")
    if not isinstance(code, int):
        return None
    return -(code - 128) if 128 < code < 128 + 65 else code


def running_seconds(pod: Object, server_time: float | None) -> float | None:
    """Return how long a pod's container has run; `None` when that cannot be said.

    The times of a pod come from two clocks, the API server's and its node's, which may be an hour
    apart; each difference taken here is one clock's. What lies between them is the moment in which
    the node learns of the pod.

    Args:
        pod: A pod whose container runs.
        server_time: The API server's time now; `None` when it is not known.
    """
    scheduled = condition(pod, "PodScheduled") or {}
    bound = seconds(scheduled.get("lastTransitionTime")) or created_at(pod)  # the API server's
    taken = seconds((pod.get("status") or {}).get("startTime"))  # the node's, as the next one
    began = seconds((container_state(pod).get("running") or {}).get("startedAt"))
    if server_time is None or bound is None or taken is None or began is None:
        return None
    return max((server_time - bound) - max(began - taken, 0.0), 0.0)


def repository_of(image: str) -> str:
    """Return an image's name in full, without tag and digest."""
    folder, slash, last = image.partition("@")[0].rpartition("/")
    host = folder.partition("/")[0]
    if not folder:
        folder, slash = "docker.io/library", "/"
    elif not ("." in host or ":" in host or host == "localhost"):
        folder = f"docker.io/{folder}"
    return f"{folder}{slash}{last.partition(':')[0]}"


def seconds(timestamp: object) -> float | None:
    """Return a time of the API in seconds since the epoch; `None` for what is no time."""
    try:
        return datetime.fromisoformat(str(timestamp)).timestamp()
    except ValueError:
        return None


def _own_status(pod: Object) -> Mapping[str, Any]:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((s for s in statuses if s.get("name") == CONTAINER), None) or {}
