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
"""

from __future__ import annotations

import copy
import io
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from studyflow.errors import ExecutorUnavailable
from studyflow.executors.kubernetes.api import AlreadyExists, Event, VersionTooOld
from studyflow.executors.kubernetes.manifest import CONTAINER, NODE_LABEL
from studyflow.executors.kubernetes.names import QUEUE_LABEL
from studyflow.testing.fake_clock import FakeClock
from studyflow.trial import Outcome

DIGEST: Final = "sha256:" + "5eed" * 16
"""What every image turns out to be."""

_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
"""What the suffixes of generated names are made of."""


@dataclass(frozen=True, slots=True)
class _Change:
    """One line of the cluster's history."""

    version: int
    kind: str
    event: str
    item: dict[str, Any]


class FakeCluster:
    """The objects of one namespace, and whoever acts on them.

    Methods that act on a pod take its name, or the name of its Job, which means its newest pod.

    Args:
        clock: Time of the API server, and of all nodes but for `node_skew_seconds`.
        namespace: Name of the namespace.
        ends_when_told: Whether a container ends (with 143) as soon as its pod is deleted. Otherwise
            it runs until `finish`, or until `advance` has passed its grace (then 137).

    Attributes:
        is_controller_stopped: Whether the Job controller does nothing for now.
        node_skew_seconds: How far the clocks of all nodes are ahead of the API server's.
    """

    def __init__(
        self,
        clock: FakeClock | None = None,
        *,
        namespace: str = "trials",
        ends_when_told: bool = True,
    ) -> None:
        self.clock = clock or FakeClock()
        self.namespace = namespace
        self.ends_when_told = ends_when_told
        self.is_controller_stopped = False
        self.node_skew_seconds = 0.0
        self.started: list[str] = []
        """Names of the pods whose container really began, in order."""
        self._changed = threading.Condition(threading.RLock())
        self._objects: dict[str, dict[str, dict[str, Any]]] = {
            "jobs": {},
            "pods": {},
            "resourcequotas": {},
        }
        self._events: list[dict[str, Any]] = []
        self._workloads: dict[str, dict[str, Any]] = {}
        self._history: list[_Change] = []
        self._version = 1000
        self._compacted = 0
        self._n_uids = 0
        self._logs: dict[str, bytes] = {}
        self._excuses: dict[str, bytes] = {}
        """What kubelets say in the place of logs that are gone, by pod."""
        self._lost_nodes: set[str] = set()
        self._pod_refusal: str | None = None

    # What a test sees

    @property
    def version(self) -> str:
        """The newest resource version."""
        return str(self._version)

    def job_names(self) -> list[str]:
        """Return the names of all Jobs, oldest first."""
        return list(self._objects["jobs"])

    def pod_names(self, job: str | None = None) -> list[str]:
        """Return the names of all pods, or of one Job's, oldest first."""
        return [
            name
            for name, pod in self._objects["pods"].items()
            if job is None or _owner(pod).get("name") == job
        ]

    def job(self, name: str) -> dict[str, Any]:
        """Return a copy of a Job."""
        return copy.deepcopy(self._objects["jobs"][name])

    def pod(self, name: str) -> dict[str, Any]:
        """Return a copy of a pod."""
        return copy.deepcopy(self._pod(name))

    # What people and the cluster's parts do

    def delete_job(self, name: str) -> None:
        """Delete a Job; its pods follow as soon as the garbage collector looks."""
        with self._changed:
            self._remove("jobs", name)
            self._reconcile()

    def delete_pod(
        self, name: str, *, grace_seconds: float | None = None, disruption: str | None = None
    ) -> None:
        """Tell a pod to go, as an eviction, a drain or a person would.

        Args:
            name: The pod, or its Job.
            grace_seconds: Time until SIGKILL; `None` for the pod's own. With 0 the object is gone
                at once, whatever its container does.
            disruption: Reason of the condition `DisruptionTarget`; `None` for no such condition.
        """
        with self._changed:
            pod = self._pod(name)
            if disruption is not None:
                condition = {"reason": disruption, "message": f"Made to leave: {disruption}."}
                _set_condition(pod, "DisruptionTarget", "True", **condition)
            self._tell_to_go(pod, grace_seconds)
            self._reconcile()

    def preempt(self, name: str) -> None:
        """Let the scheduler take a pod's place for another."""
        self.delete_pod(name, disruption="PreemptionByScheduler")

    def schedule(self, name: str, node: str | None = None) -> None:
        """Give a pod a node, where its container is being made.

        Args:
            name: The pod, or its Job.
            node: The node; `None` for the first of `node-1`, `node-2`, ... that the pod's node
                affinity allows.

        Raises:
            ValueError: Its node affinity does not allow this node, so no scheduler would do that.
        """
        with self._changed:
            pod = self._pod(name)
            numbered = (f"node-{i}" for i in itertools.count(1))
            node = node or next(n for n in numbered if _may_run_on(pod, n))
            if not _may_run_on(pod, node):
                raise ValueError(f"the node affinity of pod {name} does not allow node {node}")
            pod["spec"]["nodeName"] = node
            pod["status"]["startTime"] = self._node_now()
            _set_condition(pod, "PodScheduled", "True", lastTransitionTime=self._now())
            self._set_state(pod, {"waiting": {"reason": "ContainerCreating"}})
            self._write("pods", "MODIFIED", pod)

    def unschedulable(
        self, name: str, message: str = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    ) -> None:
        """Let the scheduler find no node for a pod."""
        with self._changed:
            pod = self._pod(name)
            _set_condition(pod, "PodScheduled", "False", reason="Unschedulable", message=message)
            self._write("pods", "MODIFIED", pod)

    def hold(self, name: str, reason: str, message: str = "") -> None:
        """Let a pod's container wait for a reason of the kubelet's, such as `ErrImagePull`."""
        with self._changed:
            self._scheduled(name)
            pod = self._pod(name)
            self._set_state(pod, {"waiting": {"reason": reason, "message": message}})
            self._write("pods", "MODIFIED", pod)

    def fail_pull(self, name: str, message: str = "manifest unknown") -> None:
        """Let the image of a pod not be pulled."""
        self.hold(name, "ErrImagePull", message)

    def start(self, name: str) -> None:
        """Let a pod's container begin; it is scheduled first if it is not yet."""
        with self._changed:
            self._scheduled(name)
            pod = self._pod(name)
            self.started.append(pod["metadata"]["name"])
            pod["status"]["phase"] = "Running"
            self._set_state(pod, {"running": {"startedAt": self._node_now()}})
            self._write("pods", "MODIFIED", pod)

    def finish(
        self,
        name: str,
        *,
        exit_code: int = 0,
        message: str | Outcome = "",
        reason: str | None = None,
    ) -> None:
        """Let a pod's container end; a pod that was told to go is gone then.

        Args:
            name: The pod, or its Job.
            exit_code: As the container runtime says it: 128 plus its number for a signal.
            message: The termination message: what `sdk.finish` wrote.
            reason: Such as `OOMKilled`; `None` for `Completed` or `Error`.
        """
        with self._changed:
            pod = self._pod(name)
            self._end(pod, exit_code, message, reason)
            self._reconcile()

    def fail_start(self, name: str, message: str = "exec: python: not found") -> None:
        """Let the container runtime fail to start a pod's command."""
        self._scheduled(name)
        self.finish(name, exit_code=128, message=message, reason="StartError")

    def fail_pod(self, name: str, reason: str, message: str = "") -> None:
        """Let a node end a pod for a reason of its own, such as `UnexpectedAdmissionError`.

        The status then shows no container, and what the script wrote is lost.
        """
        with self._changed:
            self._scheduled(name)
            pod = self._pod(name)
            pod["status"] |= {"phase": "Failed", "reason": reason, "message": message}
            pod["status"].pop("containerStatuses", None)
            self._write("pods", "MODIFIED", pod)
            self._reconcile()

    def evict(self, name: str, message: str = "The node was low on resource: memory.") -> None:
        """Let a node evict a pod."""
        self.fail_pod(name, "Evicted", message)

    def lose_node(self, node: str = "node-1") -> None:
        """Let a node fall silent: its pods are told to go, and nobody is there to hear it."""
        with self._changed:
            self._lost_nodes.add(node)
            for pod in list(self._objects["pods"].values()):
                if pod["spec"].get("nodeName") == node:
                    self._tell_to_go(pod, None)
            self._reconcile()

    def refuse_pods(self, message: str) -> None:
        """Let admission refuse every new pod, as a quota or a policy does; Jobs get an event."""
        self._pod_refusal = message

    def allow_pods(self) -> None:
        """Let pods be made again, as soon as the Job controller looks."""
        with self._changed:
            self._pod_refusal = None
            self._reconcile()

    def set_quota(self, name: str, hard: Mapping[str, str], used: Mapping[str, str]) -> None:
        """Limit the namespace, and say how much of that is used; see also `refuse_pods`."""
        metadata = {"name": name, **self._identity(self._new_uid())}
        status = {"hard": dict(hard), "used": dict(used)}
        self._write("resourcequotas", "ADDED", {"metadata": metadata, "status": status})

    def unsuspend(self, job: str) -> None:
        """Let a queue admit a Job."""
        with self._changed:
            self._objects["jobs"][job]["spec"]["suspend"] = False
            self._write("jobs", "MODIFIED", self._objects["jobs"][job])
            self._reconcile()

    def suspend(self, job: str) -> None:
        """Let a queue take back the place of a Job; its pods are told to go."""
        with self._changed:
            self._objects["jobs"][job]["spec"]["suspend"] = True
            self._write("jobs", "MODIFIED", self._objects["jobs"][job])
            self._reconcile()

    def queue(self, job: str, position: int, message: str = "") -> None:
        """Let Kueue say how many Jobs are before one in its queue, and why it has no quota."""
        owner = self._objects["jobs"][job]["metadata"]
        no_quota = {"type": "QuotaReserved", "status": "False", "message": message}
        self._workloads[owner["uid"]] = {
            "metadata": {"name": f"job-{job}", "labels": dict(owner["labels"])},
            "positionInLocalQueue": position,
            "status": {"conditions": [no_quota]},
        }

    def add_event(self, name: str, reason: str, message: str, *, kind: str = "Warning") -> None:
        """Write an event about a Job or a pod."""
        about = self._objects["jobs"].get(name) or self._pod(name)
        self._events.append(
            {
                "type": kind,
                "reason": reason,
                "message": message,
                "involvedObject": {"uid": about["metadata"]["uid"], "name": name},
                "lastTimestamp": self._now(),
            }
        )

    def write_log(self, name: str, text: str | bytes) -> None:
        """Let a pod's container write."""
        key = self._pod(name)["metadata"]["name"]
        added = text.encode() if isinstance(text, str) else text
        self._logs[key] = self._logs.get(key, b"") + added

    def remove_log(self, name: str, excuse: str) -> None:
        """Let the kubelet remove a pod's log; asked for it, it says this instead."""
        key = self._pod(name)["metadata"]["name"]
        self._logs.pop(key, None)
        self._excuses[key] = excuse.encode()

    def change_pod(self, name: str, status: Mapping[str, Any]) -> None:
        """Merge anything at all into a pod's status."""
        with self._changed:
            pod = self._pod(name)
            pod["status"] = merge_patch(pod["status"], status)
            self._write("pods", "MODIFIED", pod)
            self._reconcile()

    def advance(self, seconds: float) -> None:
        """Let time pass; containers whose grace is over are killed."""
        self.clock.advance(seconds)
        with self._changed:
            for pod in list(self._objects["pods"].values()):
                until = pod["metadata"].get("deletionTimestamp")
                is_reachable = pod["spec"].get("nodeName") not in self._lost_nodes
                if until is not None and is_reachable and until <= self._now():
                    self._end(pod, 137, "", None)
            self._reconcile()

    def compact(self) -> None:
        """Forget the history: who watches from a version before now must list again."""
        with self._changed:
            self._compacted = self._version
            self._history.clear()

    # How the clients see it

    def _list(
        self, kind: str, selector: str, version: str | None
    ) -> tuple[list[dict[str, Any]], str]:
        with self._changed:
            objects = self._objects[kind] if version is None else self._as_of(kind, int(version))
            found = [copy.deepcopy(o) for o in objects.values() if _matches(o, selector)]
            return found, version or self.version

    def _as_of(self, kind: str, version: int) -> dict[str, dict[str, Any]]:
        objects: dict[str, dict[str, Any]] = {}
        for change in self._history:
            if change.kind == kind and change.version <= version:
                name = change.item["metadata"]["name"]
                objects.pop(name, None)
                if change.event != "DELETED":
                    objects[name] = change.item
        return objects

    def _since(self, kind: str, selector: str, version: int) -> list[_Change]:
        with self._changed:
            if version < self._compacted:
                raise VersionTooOld(f"Cannot watch {kind}: too old resource version: {version}")
            newer = [c for c in self._history if c.version > version and c.kind == kind]
            return [change for change in newer if _matches(change.item, selector)]

    def _wait_for_change(self, version: int, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._version > version, seconds)

    def _create_job(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        with self._changed:
            job: dict[str, Any] = json.loads(json.dumps(manifest))  # as it goes over the wire
            name = job["metadata"]["name"]
            if name in self._objects["jobs"]:
                raise AlreadyExists(f'Cannot create jobs: jobs.batch "{name}" already exists')
            uid = self._new_uid()
            job["metadata"] |= self._identity(uid)
            own = {"controller-uid": uid, "job-name": name}
            job["spec"]["selector"] = {"matchLabels": {"controller-uid": uid}}
            labels = job["spec"]["template"].setdefault("metadata", {}).setdefault("labels", {})
            labels.update(own)
            job["status"] = {}
            self._write("jobs", "ADDED", job)
            self._reconcile()
            return copy.deepcopy(job)

    def _patch_job(self, name: str, patch: Mapping[str, Any]) -> dict[str, Any] | None:
        with self._changed:
            job = self._objects["jobs"].get(name)
            if job is None:
                return None
            changed: dict[str, Any] = merge_patch(job, json.loads(json.dumps(patch)))
            self._write("jobs", "MODIFIED", changed)
            answer = copy.deepcopy(changed)  # before the controller has seen it
            self._reconcile()
            return answer

    def _log_lines(self, pod: str) -> list[bytes]:
        """Return a log as a kubelet gives it: its own words, or lines with timestamps."""
        if pod not in self._objects["pods"]:
            return []
        if pod in self._excuses:
            return [self._excuses[pod]]
        stamp = b"2026-01-01T00:00:00.000000000Z "
        return [stamp + line for line in io.BytesIO(self._logs.get(pod, b""))]

    # The Job controller and the garbage collector

    def reconcile(self) -> None:
        """Let the Job controller look; it does by itself after every change."""
        with self._changed:
            self._reconcile()

    def _reconcile(self) -> None:
        if self.is_controller_stopped:
            return
        for pod in list(self._objects["pods"].values()):
            owner = self._objects["jobs"].get(_owner(pod).get("name", ""))
            is_orphan = owner is None or owner["metadata"]["uid"] != _owner(pod)["uid"]
            if is_orphan and not pod["metadata"].get("deletionTimestamp"):
                self._tell_to_go(pod, None)
        for job in list(self._objects["jobs"].values()):
            self._reconcile_job(job)

    def _reconcile_job(self, job: dict[str, Any]) -> None:
        spec, status = job["spec"], dict(job["status"])
        pods = [p for p in self._objects["pods"].values() if _is_owned(p, job)]
        phases = [pod["status"]["phase"] for pod in pods]
        active = [
            pod
            for pod in pods
            if pod["status"]["phase"] in ("Pending", "Running")
            and not pod["metadata"].get("deletionTimestamp")
        ]
        is_finished = any(
            c["type"] in ("Complete", "Failed") for c in status.get("conditions") or ()
        )
        if not is_finished and "Succeeded" in phases:
            self._conclude_job(status, "Complete", "")
        elif not is_finished and phases.count("Failed") > spec.get("backoffLimit", 6):
            self._conclude_job(status, "Failed", "BackoffLimitExceeded")
        elif not is_finished:
            wanted = 0 if spec.get("suspend") else int(spec.get("parallelism", 1))
            for pod in active[wanted:]:
                self._tell_to_go(pod, None)
            active = active[:wanted]
            if len(active) < wanted and (made := self._new_pod(job)) is not None:
                active.append(made)
        status["active"] = len(active)
        if status != job["status"]:
            job["status"] = status
            self._write("jobs", "MODIFIED", job)

    def _conclude_job(self, status: dict[str, Any], kind: str, reason: str) -> None:
        status["conditions"] = [
            {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": self._now()}
        ]

    def _new_pod(self, job: dict[str, Any]) -> dict[str, Any] | None:
        name = job["metadata"]["name"]
        if self._pod_refusal is not None:
            message = f'Error creating: pods "{name}-" is forbidden: {self._pod_refusal}'
            if not any(event["message"] == message for event in self._events):
                self.add_event(name, "FailedCreate", message)
            return None
        template = copy.deepcopy(job["spec"]["template"])
        uid = self._new_uid()
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": name,
            "uid": job["metadata"]["uid"],
            "controller": True,
        }
        made: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **template.get("metadata", {}),
                "name": f"{name}-{self._suffix()}",
                "ownerReferences": [owner],
                **self._identity(uid),
            },
            "spec": template["spec"],
            "status": {"phase": "Pending"},
        }
        self._write("pods", "ADDED", made)
        return made

    # The kubelet

    def _scheduled(self, name: str) -> None:
        if not self._pod(name)["spec"].get("nodeName"):
            self.schedule(name)

    def _tell_to_go(self, pod: dict[str, Any], grace_seconds: float | None) -> None:
        grace = float(pod["spec"].get("terminationGracePeriodSeconds", 30))
        grace = grace if grace_seconds is None else grace_seconds
        node = pod["spec"].get("nodeName")
        if grace == 0 or node is None:  # nobody has to be asked
            self._remove("pods", pod["metadata"]["name"])
            return
        if not pod["metadata"].get("deletionTimestamp"):
            pod["metadata"]["deletionTimestamp"] = _rfc3339(self.clock() + grace)
            pod["metadata"]["deletionGracePeriodSeconds"] = int(grace)
            self._write("pods", "MODIFIED", pod)
        if node in self._lost_nodes:
            return
        is_running = "running" in _own_state(pod)
        if not is_running:
            self._remove("pods", pod["metadata"]["name"])
        elif self.ends_when_told:
            self._end(pod, 143, "", None)

    def _end(
        self, pod: dict[str, Any], exit_code: int, message: str | Outcome, reason: str | None
    ) -> None:
        began = _own_state(pod).get("running", {}).get("startedAt")
        terminated = {
            "exitCode": exit_code,
            "reason": reason or ("Completed" if exit_code == 0 else "Error"),
            "message": message.to_json() if isinstance(message, Outcome) else message,
            "startedAt": began,
            "finishedAt": self._node_now(),
        }
        self._set_state(pod, {"terminated": {k: v for k, v in terminated.items() if v != ""}})
        pod["status"]["phase"] = "Succeeded" if exit_code == 0 else "Failed"
        self._write("pods", "MODIFIED", pod)
        if pod["metadata"].get("deletionTimestamp"):
            self._remove("pods", pod["metadata"]["name"])

    def _set_state(self, pod: dict[str, Any], state: Mapping[str, Any]) -> None:
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

    # Bookkeeping

    def _pod(self, name: str) -> dict[str, Any]:
        if name in self._objects["pods"]:
            return self._objects["pods"][name]
        own = self.pod_names(name)
        if not own:
            raise KeyError(f"there is no pod {name}, and no Job of that name that has one")
        return self._objects["pods"][own[-1]]

    def _write(self, kind: str, event: str, item: dict[str, Any]) -> None:
        """Store an object under the next version and tell the watchers."""
        with self._changed:
            self._version += 1
            item["metadata"]["resourceVersion"] = str(self._version)
            name = item["metadata"]["name"]
            if event == "DELETED":
                self._objects[kind].pop(name, None)
            else:
                self._objects[kind][name] = item
            self._history.append(_Change(self._version, kind, event, copy.deepcopy(item)))
            self._changed.notify_all()

    def _remove(self, kind: str, name: str) -> None:
        item = self._objects[kind].get(name)
        if item is not None:
            self._write(kind, "DELETED", item)

    def _identity(self, uid: str) -> dict[str, Any]:
        return {"uid": uid, "namespace": self.namespace, "creationTimestamp": self._now()}

    def _new_uid(self) -> str:
        self._n_uids += 1
        return f"00000000-0000-4000-8000-{self._n_uids:012x}"

    def _suffix(self) -> str:
        number, text = self._n_uids, ""
        for _ in range(5):
            number, digit = divmod(number, len(_LETTERS))
            text = _LETTERS[digit] + text
        return text

    def _now(self) -> str:
        return _rfc3339(self.clock())

    def _node_now(self) -> str:
        return _rfc3339(self.clock() + self.node_skew_seconds)


@dataclass(slots=True)
class _Interruption:
    """What happens instead of, or after, the next requests of one kind."""

    action: Exception | Callable[[], None]
    n_left: int | None
    is_after: bool


class FakeClusterApi:
    """A client of a `FakeCluster`; fulfils `ClusterApi`.

    Requests are named as `KubernetesApi.n_requests` names them: `list`, `watch`, `create`, `get`,
    `patch` and `delete jobs`; `list`, `watch` and `log pods`; `list events`; `list resourcequotas`.

    Args:
        cluster: The cluster.
        watch_seconds: How long a watch without news stays open, in real seconds. 0 ends it as soon
            as it has told everything, which is what a test without threads needs.
    """

    def __init__(self, cluster: FakeCluster, *, watch_seconds: float = 0.0) -> None:
        self.cluster = cluster
        self.namespace = cluster.namespace
        self.cluster_id = "fake"
        self.n_requests: dict[str, int] = {}
        """Requests so far, by name; failed ones count too."""
        self.is_closed = False
        self._watch_seconds = watch_seconds
        self._is_away = False
        self._stale_version: str | None = None
        self._interruptions: dict[str, list[_Interruption]] = {}

    # What a test makes happen

    def go_away(self) -> None:
        """Let every request raise `ExecutorUnavailable`; the cluster goes on."""
        self._is_away = True

    def come_back(self) -> None:
        """Let requests succeed again, those too that `interrupt` was to fail."""
        self._is_away = False
        self._interruptions.clear()

    def interrupt(
        self,
        request: str,
        action: Exception | Callable[[], None],
        *,
        times: int | None = 1,
        is_after: bool = False,
    ) -> None:
        """Let the next requests of a name fail, or let something else happen meanwhile.

        Args:
            request: Such as `create jobs`.
            action: Is raised, or called.
            times: How many requests; `None` for all until `come_back`.
            is_after: Whether the cluster has done what was asked by then, so that only the answer
                is lost, or late.
        """
        queue = self._interruptions.setdefault(request, [])
        queue.append(_Interruption(action, times, is_after))

    def list_as_of(self, version: str | None) -> None:
        """Let lists answer from an older version, as a cache that lags does; `None` ends it."""
        self._stale_version = version

    # The requests

    def list_objects(self, kind: str, selector: str) -> tuple[list[dict[str, Any]], str]:
        self._begin(f"list {kind}")
        found = self.cluster._list(kind, selector, self._stale_version)
        self._end(f"list {kind}")
        return found

    def watch_objects(self, kind: str, selector: str, version: str) -> Iterator[Event]:
        self._begin(f"watch {kind}")
        seen = int(version)
        while True:
            newest = int(self.cluster.version)
            for change in self.cluster._since(kind, selector, seen):
                yield change.event, copy.deepcopy(change.item)
                self._answer(f"watch {kind}")
            seen = newest
            if self._watch_seconds <= 0 or not self.cluster._wait_for_change(
                seen, self._watch_seconds
            ):
                break
        yield "BOOKMARK", {"metadata": {"resourceVersion": str(seen)}}
        self._end(f"watch {kind}")

    def create_job(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        self._begin("create jobs")
        job = self.cluster._create_job(manifest)
        self._end("create jobs")
        return job

    def get_job(self, name: str) -> dict[str, Any] | None:
        self._begin("get jobs")
        job = self.cluster.job(name) if name in self.cluster.job_names() else None
        self._end("get jobs")
        return job

    def patch_job(self, name: str, patch: Mapping[str, Any]) -> dict[str, Any] | None:
        self._begin("patch jobs")
        job = self.cluster._patch_job(name, patch)
        self._end("patch jobs")
        return job

    def delete_job(self, name: str) -> None:
        self._begin("delete jobs")
        self.cluster.delete_job(name)
        self._end("delete jobs")

    def events(self, uid: str) -> list[dict[str, Any]]:
        self._begin("list events")
        found = [
            copy.deepcopy(e) for e in self.cluster._events if e["involvedObject"]["uid"] == uid
        ]
        self._end("list events")
        return found

    def workload(self, uid: str) -> dict[str, Any] | None:
        self._begin("list workloads")
        found = copy.deepcopy(self.cluster._workloads.get(uid))
        self._end("list workloads")
        return found

    def pending_workloads(self, queue: str) -> list[dict[str, Any]]:
        self._begin("get localqueues")
        found = [
            copy.deepcopy(workload)
            for workload in self.cluster._workloads.values()
            if workload["metadata"]["labels"].get(QUEUE_LABEL) == queue
        ]
        self._end("get localqueues")
        return found

    def read_log(
        self, pod: str, *, tail_lines: int | None = None, limit_bytes: int | None = None
    ) -> bytes:
        self._begin("log pods")
        lines = self.cluster._log_lines(pod)
        tail = lines if tail_lines is None else lines[len(lines) - min(tail_lines, len(lines)) :]
        self._end("log pods")
        return b"".join(tail)[:limit_bytes]  # as the kubelet does: the limit counts from the first

    def follow_log(self, pod: str) -> Iterator[bytes]:
        self._begin("log pods")
        yield from self.cluster._log_lines(pod)
        self._end("log pods")

    def server_time(self) -> float | None:
        return self.cluster.clock() if self.n_requests else None

    def close(self) -> None:
        self.is_closed = True

    def _begin(self, request: str) -> None:
        self.n_requests[request] = self.n_requests.get(request, 0) + 1
        self._answer(request)
        self._interrupt(request, is_after=False)

    def _end(self, request: str) -> None:
        self._interrupt(request, is_after=True)

    def _answer(self, request: str) -> None:
        if self._is_away:
            raise ExecutorUnavailable(f"The fake cluster was told to be away ({request}).")

    def _interrupt(self, request: str, *, is_after: bool) -> None:
        queue = self._interruptions.get(request)
        if not queue or queue[0].is_after != is_after:
            return
        first = queue[0]
        if first.n_left is not None:
            first.n_left -= 1
            if first.n_left <= 0:
                queue.pop(0)
        if isinstance(first.action, Exception):
            raise first.action
        first.action()


def merge_patch(base: Any, patch: Any) -> Any:
    """Return `base` changed by a JSON merge patch (RFC 7396)."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    merged = dict(base) if isinstance(base, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def _matches(item: Mapping[str, Any], selector: str) -> bool:
    labels = item["metadata"].get("labels") or {}
    wanted = (term.partition("=") for term in selector.split(",") if term)
    return all(labels.get(key) == value for key, _, value in wanted)


def _owner(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    owner: Mapping[str, Any] = pod["metadata"]["ownerReferences"][0]
    return owner


def _is_owned(pod: Mapping[str, Any], job: Mapping[str, Any]) -> bool:
    return bool(_owner(pod)["uid"] == job["metadata"]["uid"])


def _may_run_on(pod: Mapping[str, Any], node: str) -> bool:
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
            if condition["key"] == NODE_LABEL
        )
        for term in required["nodeSelectorTerms"]
    )


def _own_state(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    statuses = pod["status"].get("containerStatuses") or [{}]
    state: Mapping[str, Any] = statuses[0].get("state") or {}
    return state


def _set_condition(pod: dict[str, Any], kind: str, status: str, **more: str) -> None:
    others = [c for c in pod["status"].get("conditions") or () if c["type"] != kind]
    pod["status"]["conditions"] = [*others, {"type": kind, "status": status, **more}]


def _by_digest(image: str) -> str:
    if "@" in image:
        return image
    folder, slash, last = image.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}@{DIGEST}"


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
