"""The objects of one namespace, and whoever acts on them: people, nodes, controllers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studyflow.testing.fake_clock import FakeClock
from studyflow.testing.fake_cluster.api_server import ApiServer
from studyflow.testing.fake_cluster.controller import JobController
from studyflow.testing.fake_cluster.kubelet import Kubelet, set_condition
from studyflow.testing.fake_cluster.store import ObjectStore, copied, merge_patch
from studyflow.trial import Outcome


class FakeCluster:
    """The objects of one namespace, and whoever acts on them.

    Methods that act on a pod take its name, or the name of its Job, which means its newest pod.

    Args:
        clock: Time of the API server, and of all nodes but for `node_skew_seconds`.
        namespace: Name of the namespace.
        ends_when_told: Whether a container ends (with 143) as soon as its pod is deleted. Otherwise
            it runs until `finish`, or until `advance` has passed its grace (then 137).
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
        self._store = ObjectStore(self.clock, namespace)
        self._kubelet = Kubelet(self._store, ends_when_told=ends_when_told)
        self._controller = JobController(self._store, self._kubelet, self._refuse_pod)
        self.api_server = ApiServer(self._store, self._controller, self._kubelet)
        """Answers the requests of clients."""

    @property
    def is_controller_stopped(self) -> bool:
        """Whether the Job controller does nothing for now."""
        return self._controller.is_stopped

    @is_controller_stopped.setter
    def is_controller_stopped(self, is_stopped: bool) -> None:
        self._controller.is_stopped = is_stopped

    @property
    def node_skew_seconds(self) -> float:
        """How far the clocks of all nodes are ahead of the API server's."""
        return self._kubelet.node_skew_seconds

    @node_skew_seconds.setter
    def node_skew_seconds(self, seconds: float) -> None:
        self._kubelet.node_skew_seconds = seconds

    @property
    def ends_when_told(self) -> bool:
        """Whether a container ends (with 143) as soon as its pod is deleted."""
        return self._kubelet.ends_when_told

    @ends_when_told.setter
    def ends_when_told(self, ends: bool) -> None:
        self._kubelet.ends_when_told = ends

    @property
    def started(self) -> list[str]:
        """Names of the pods whose container really began, in order."""
        return self._kubelet.started

    # What a test sees

    @property
    def version(self) -> str:
        """The newest resource version."""
        return str(self._store.version)

    def job_names(self) -> list[str]:
        """Return the names of all Jobs, oldest first."""
        return list(self._store.jobs)

    def pod_names(self, job: str | None = None) -> list[str]:
        """Return the names of all pods, or of one Job's, oldest first."""
        if job is None:
            return list(self._store.pods)
        return [pod["metadata"]["name"] for pod in self._store.pods_of(job)]

    def job(self, name: str) -> dict[str, Any]:
        """Return a copy of a Job."""
        return copied(self._store.jobs[name])

    def pod(self, name: str) -> dict[str, Any]:
        """Return a copy of a pod."""
        return copied(self._store.pod(name))

    # What people and the cluster's parts do

    def delete_job(self, name: str) -> None:
        """Delete a Job; its pods follow as soon as the garbage collector runs."""
        with self._store.changed:
            self._store.remove("jobs", name)
            self._controller.reconcile()

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
        with self._store.changed:
            pod = self._store.pod(name)
            if disruption is not None:
                condition = {"reason": disruption, "message": f"Made to leave: {disruption}."}
                set_condition(pod, "DisruptionTarget", "True", **condition)
            self._kubelet.tell_to_go(pod, grace_seconds)
            self._controller.reconcile()

    def preempt(self, name: str) -> None:
        """Let the scheduler take a pod's room for another."""
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
        with self._store.changed:
            self._kubelet.schedule(name, node)

    def unschedulable(
        self, name: str, message: str = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    ) -> None:
        """Let the scheduler find no node for a pod."""
        with self._store.changed:
            pod = self._store.pod(name)
            set_condition(pod, "PodScheduled", "False", reason="Unschedulable", message=message)
            self._store.write("pods", "MODIFIED", pod)

    def hold(self, name: str, reason: str, message: str = "") -> None:
        """Let a pod's container wait for a reason of the kubelet's, such as `ErrImagePull`."""
        with self._store.changed:
            self._kubelet.schedule_if_needed(name)
            pod = self._store.pod(name)
            self._kubelet.set_state(pod, {"waiting": {"reason": reason, "message": message}})
            self._store.write("pods", "MODIFIED", pod)

    def fail_pull(self, name: str, message: str = "manifest unknown") -> None:
        """Let the image of a pod not be pulled."""
        self.hold(name, "ErrImagePull", message)

    def start(self, name: str) -> None:
        """Let a pod's container begin; it is scheduled first if it is not yet."""
        with self._store.changed:
            self._kubelet.schedule_if_needed(name)
            self._kubelet.start(self._store.pod(name))

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
        with self._store.changed:
            pod = self._store.pod(name)
            self._kubelet.end(pod, exit_code, message, reason)
            self._controller.reconcile()

    def fail_start(self, name: str, message: str = "exec: python: not found") -> None:
        """Let the container runtime fail to start a pod's command."""
        self._kubelet.schedule_if_needed(name)
        self.finish(name, exit_code=128, message=message, reason="StartError")

    def fail_pod(self, name: str, reason: str, message: str = "") -> None:
        """Let a node end a pod for a reason of its own, such as `UnexpectedAdmissionError`.

        The status then shows no container, and what the script wrote is lost.
        """
        with self._store.changed:
            self._kubelet.schedule_if_needed(name)
            pod = self._store.pod(name)
            pod["status"] |= {"phase": "Failed", "reason": reason, "message": message}
            pod["status"].pop("containerStatuses", None)
            self._store.write("pods", "MODIFIED", pod)
            self._controller.reconcile()

    def evict(self, name: str, message: str = "The node was low on resource: memory.") -> None:
        """Let a node evict a pod."""
        self.fail_pod(name, "Evicted", message)

    def lose_node(self, node: str = "node-1") -> None:
        """Let a node fall silent: its pods are told to go, and nobody is there to hear it."""
        with self._store.changed:
            self._kubelet.lose_node(node)
            self._controller.reconcile()

    def refuse_pods(self, message: str) -> None:
        """Let admission refuse every new pod, as a quota or a policy does; Jobs get an event."""
        self._controller.refusal = message

    def allow_pods(self) -> None:
        """Let pods be made again, as soon as the Job controller runs."""
        with self._store.changed:
            self._controller.refusal = None
            self._store.touch_all()
            self._controller.reconcile()

    def set_quota(self, name: str, hard: Mapping[str, str], used: Mapping[str, str]) -> None:
        """Limit the namespace, and say how much of that is used; see also `refuse_pods`."""
        metadata = {"name": name, **self._store.new_identity()}
        status = {"hard": dict(hard), "used": dict(used)}
        self._store.write("resourcequotas", "ADDED", {"metadata": metadata, "status": status})

    def unsuspend(self, job: str) -> None:
        """Let a queue admit a Job."""
        with self._store.changed:
            self._store.jobs[job]["spec"]["suspend"] = False
            self._store.write("jobs", "MODIFIED", self._store.jobs[job])
            self._controller.reconcile()

    def suspend(self, job: str) -> None:
        """Let a queue take back the admission of a Job; its pods are told to go."""
        with self._store.changed:
            self._store.jobs[job]["spec"]["suspend"] = True
            self._store.write("jobs", "MODIFIED", self._store.jobs[job])
            self._controller.reconcile()

    def queue(self, job: str, position: int, message: str = "") -> None:
        """Let Kueue say how many Jobs are before one in its queue, and why it has no quota."""
        owner = self._store.jobs[job]["metadata"]
        no_quota = {"type": "QuotaReserved", "status": "False", "message": message}
        self._store.workloads[owner["uid"]] = {
            "metadata": {"name": f"job-{job}", "labels": dict(owner["labels"])},
            "positionInLocalQueue": position,
            "status": {"conditions": [no_quota]},
        }

    def add_event(self, name: str, reason: str, message: str, *, kind: str = "Warning") -> None:
        """Write an event about a Job or a pod."""
        about = self._store.jobs.get(name) or self._store.pod(name)
        self._store.events.append(
            {
                "type": kind,
                "reason": reason,
                "message": message,
                "involvedObject": {"uid": about["metadata"]["uid"], "name": name},
                "lastTimestamp": self._store.now(),
            }
        )

    def write_log(self, name: str, text: str | bytes) -> None:
        """Let a pod's container write."""
        added = text.encode() if isinstance(text, str) else text
        self._kubelet.write_log(self._store.pod(name)["metadata"]["name"], added)

    def remove_log(self, name: str, excuse: str) -> None:
        """Let the kubelet remove a pod's log; asked for it, it says this instead."""
        self._kubelet.remove_log(self._store.pod(name)["metadata"]["name"], excuse.encode())

    def change_pod(self, name: str, status: Mapping[str, Any]) -> None:
        """Merge anything at all into a pod's status."""
        with self._store.changed:
            pod = self._store.pod(name)
            pod["status"] = merge_patch(pod["status"], status)
            self._store.write("pods", "MODIFIED", pod)
            self._controller.reconcile()

    def advance(self, seconds: float) -> None:
        """Let time pass; containers whose grace is over are killed."""
        self.clock.advance(seconds)
        with self._store.changed:
            self._kubelet.kill_overdue()
            self._controller.reconcile()

    def compact(self, n_kept: int = 0) -> None:
        """Forget all but the newest changes: who watches from before them must list again."""
        with self._store.changed:
            self._store.compact(n_kept)

    def reconcile(self) -> None:
        """Let the Job controller look at everything; it looks by itself at what changes."""
        with self._store.changed:
            self._store.touch_all()
            self._controller.reconcile()

    def _refuse_pod(self, job: str, message: str) -> None:
        if not any(event["message"] == message for event in self._store.events):
            self.add_event(job, "FailedCreate", message)
