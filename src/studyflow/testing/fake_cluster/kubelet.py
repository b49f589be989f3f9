"""What nodes do with pods: start and end containers, keep logs, tell or fail to tell of both."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping
from typing import Any, Final

from studyflow.spec.pods.ours import CONTAINER
from studyflow.spec.pods.placement import HOST_LABEL
from studyflow.testing.fake_cluster.store import ObjectStore, rfc3339
from studyflow.trial import Outcome

DIGEST: Final = "sha256:" + "5eed" * 16
"""What every image turns out to be."""


class Kubelet:
    """All nodes of a cluster, and the scheduler that gives them pods.

    Args:
        store: The cluster's objects.
        ends_when_told: Whether a container ends (with 143) as soon as its pod is deleted.
    """

    def __init__(self, store: ObjectStore, *, ends_when_told: bool) -> None:
        self._store = store
        self.ends_when_told = ends_when_told
        self.node_skew_seconds = 0.0
        """How far the clocks of all nodes are ahead of the API server's."""
        self.started: list[str] = []
        """Names of the pods whose container really began, in order."""
        self._logs: dict[str, bytes] = {}
        self._excuses: dict[str, bytes] = {}
        """What is said instead of logs that are gone, by pod."""
        self._lost_nodes: set[str] = set()

    def schedule(self, name: str, node: str | None = None) -> None:
        """Give a pod a node, where its container is being made.

        Args:
            name: The pod, or its Job.
            node: The node; `None` for the first of `node-1`, `node-2`, ... that the pod's node
                affinity allows.

        Raises:
            ValueError: Its node affinity does not allow this node.
        """
        pod = self._store.pod(name)
        numbered = (f"node-{i}" for i in itertools.count(1))
        node = node or next(n for n in numbered if may_run_on(pod, n))
        if not may_run_on(pod, node):
            raise ValueError(f"the node affinity of pod {name} does not allow node {node}")
        pod["spec"]["nodeName"] = node
        pod["status"]["startTime"] = self._now()
        set_condition(pod, "PodScheduled", "True", lastTransitionTime=self._store.now())
        self.set_state(pod, {"waiting": {"reason": "ContainerCreating"}})
        self._store.write("pods", "MODIFIED", pod)

    def schedule_if_needed(self, name: str) -> None:
        """Give a pod a node unless it has one."""
        if not self._store.pod(name)["spec"].get("nodeName"):
            self.schedule(name)

    def start(self, pod: dict[str, Any]) -> None:
        """Begin a pod's container."""
        self.started.append(pod["metadata"]["name"])
        pod["status"]["phase"] = "Running"
        self.set_state(pod, {"running": {"startedAt": self._now()}})
        self._store.write("pods", "MODIFIED", pod)

    def end(
        self,
        pod: dict[str, Any],
        exit_code: int,
        message: str | Outcome = "",
        reason: str | None = None,
    ) -> None:
        """End a pod's container; a pod that was told to go is gone then."""
        began = _own_state(pod).get("running", {}).get("startedAt")
        terminated = {
            "exitCode": exit_code,
            "reason": reason or ("Completed" if exit_code == 0 else "Error"),
            "message": message.to_json() if isinstance(message, Outcome) else message,
            "startedAt": began,
            "finishedAt": self._now(),
        }
        self.set_state(pod, {"terminated": {k: v for k, v in terminated.items() if v != ""}})
        pod["status"]["phase"] = "Succeeded" if exit_code == 0 else "Failed"
        self._store.write("pods", "MODIFIED", pod)
        if pod["metadata"].get("deletionTimestamp"):
            self._store.remove("pods", pod["metadata"]["name"])

    def tell_to_go(self, pod: dict[str, Any], grace_seconds: float | None = None) -> None:
        """Delete a pod: at once where nobody has to be asked, else when its container has ended.

        Args:
            pod: The pod.
            grace_seconds: Time until SIGKILL; `None` for the pod's own.
        """
        grace = float(pod["spec"].get("terminationGracePeriodSeconds", 30))
        grace = grace if grace_seconds is None else grace_seconds
        node = pod["spec"].get("nodeName")
        if grace == 0 or node is None:
            self._store.remove("pods", pod["metadata"]["name"])
            return
        if not pod["metadata"].get("deletionTimestamp"):
            pod["metadata"]["deletionTimestamp"] = rfc3339(self._store.clock() + grace)
            pod["metadata"]["deletionGracePeriodSeconds"] = int(grace)
            self._store.write("pods", "MODIFIED", pod)
        if node in self._lost_nodes:
            return
        if "running" not in _own_state(pod):
            self._store.remove("pods", pod["metadata"]["name"])
        elif self.ends_when_told:
            self.end(pod, 143)

    def kill_overdue(self) -> None:
        """Kill the containers whose grace is over, where the node still listens."""
        for pod in list(self._store.pods.values()):
            until = pod["metadata"].get("deletionTimestamp")
            is_reachable = pod["spec"].get("nodeName") not in self._lost_nodes
            if until is not None and is_reachable and until <= self._store.now():
                self.end(pod, 137)

    def lose_node(self, node: str) -> None:
        """Let a node fall silent: its pods are told to go, and nobody is there to hear it."""
        self._lost_nodes.add(node)
        for pod in list(self._store.pods.values()):
            if pod["spec"].get("nodeName") == node:
                self.tell_to_go(pod)

    def set_state(self, pod: dict[str, Any], state: Mapping[str, Any]) -> None:
        """Write the state of a pod's container into its status."""
        image = next(c["image"] for c in pod["spec"]["containers"] if c["name"] == CONTAINER)
        has_begun = not state.keys() & {"waiting"}
        pod["status"]["containerStatuses"] = [
            {
                "name": CONTAINER,
                "image": image,
                "imageID": _by_digest(image) if has_begun else "",
                "restartCount": 0,
                "state": dict(state),
            }
        ]

    def write_log(self, pod: str, text: bytes) -> None:
        """Add to the log of a pod's container."""
        self._logs[pod] = self._logs.get(pod, b"") + text

    def remove_log(self, pod: str, excuse: bytes) -> None:
        """Remove a pod's log, and say this in its place from now on."""
        self._logs.pop(pod, None)
        self._excuses[pod] = excuse

    def log_lines(self, pod: str) -> list[bytes]:
        """Return a log as the API gives it: lines with timestamps, or what is said in its place."""
        if pod not in self._store.pods:
            return []
        if pod in self._excuses:
            return [self._excuses[pod]]
        stamp = b"2026-01-01T00:00:00.000000000Z "
        return [stamp + line for line in io.BytesIO(self._logs.get(pod, b""))]

    def _now(self) -> str:
        return rfc3339(self._store.clock() + self.node_skew_seconds)


def set_condition(pod: dict[str, Any], kind: str, status: str, **more: str) -> None:
    """Give a pod a condition, in place of the one of this type."""
    others = [c for c in pod["status"].get("conditions") or () if c["type"] != kind]
    pod["status"]["conditions"] = [*others, {"type": kind, "status": status, **more}]


def may_run_on(pod: Mapping[str, Any], node: str) -> bool:
    """Whether a pod's required node affinity allows a node that has its name as its only label."""
    required = ((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if required is None:
        return True
    return any(
        all(
            condition["operator"] != "NotIn" or node not in condition["values"]
            for condition in term.get("matchExpressions") or ()
            if condition["key"] == HOST_LABEL
        )
        for term in required["nodeSelectorTerms"]
    )


def _own_state(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    statuses = pod["status"].get("containerStatuses") or [{}]
    state: Mapping[str, Any] = statuses[0].get("state") or {}
    return state


def _by_digest(image: str) -> str:
    if "@" in image:
        return image
    folder, slash, last = image.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}@{DIGEST}"
