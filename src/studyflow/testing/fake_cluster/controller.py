"""What the Job controller and the garbage collector do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from studyflow.testing.fake_cluster.kubelet import Kubelet
from studyflow.testing.fake_cluster.store import ObjectStore, copied, owner_of


class JobController:
    """Gives each Job the pods that it asks for.

    Args:
        store: The cluster's objects.
        kubelet: Its nodes.
        on_refusal: Is told the name of a Job whose pod admission refuses, and what it says.
    """

    def __init__(
        self, store: ObjectStore, kubelet: Kubelet, on_refusal: Callable[[str, str], None]
    ) -> None:
        self._store = store
        self._kubelet = kubelet
        self._on_refusal = on_refusal
        self.is_stopped = False
        """Whether it does nothing for now."""
        self.refusal: str | None = None
        """Why admission refuses every new pod; `None` while it takes them."""

    def reconcile(self) -> None:
        """Make pods that are missing, end those that are too many, conclude Jobs.

        Looks at what has changed since it last ran.
        """
        if self.is_stopped:
            return
        touched = self._store.take_touched()
        for name in touched:
            job = self._store.jobs.get(name)
            for pod in self._store.pods_of(name):
                is_own = job is not None and job["metadata"]["uid"] == owner_of(pod)["uid"]
                if not is_own and not pod["metadata"].get("deletionTimestamp"):
                    self._kubelet.tell_to_go(pod)
        for name in touched:
            job = self._store.jobs.get(name)
            if job is not None:
                uid, pods = job["metadata"]["uid"], self._store.pods_of(name)
                self._reconcile_job(job, [pod for pod in pods if owner_of(pod)["uid"] == uid])

    def _reconcile_job(self, job: dict[str, Any], pods: list[dict[str, Any]]) -> None:
        spec, status = job["spec"], dict(job["status"])
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
                self._kubelet.tell_to_go(pod)
            active = active[:wanted]
            if len(active) < wanted and (made := self._new_pod(job)) is not None:
                active.append(made)
        status["active"] = len(active)
        if status != job["status"]:
            job["status"] = status
            self._store.write("jobs", "MODIFIED", job)

    def _conclude_job(self, status: dict[str, Any], kind: str, reason: str) -> None:
        status["conditions"] = [
            {
                "type": kind,
                "status": "True",
                "reason": reason,
                "lastTransitionTime": self._store.now(),
            }
        ]

    def _new_pod(self, job: dict[str, Any]) -> dict[str, Any] | None:
        name = job["metadata"]["name"]
        if self.refusal is not None:
            message = f'Error creating: pods "{name}-" is forbidden: {self.refusal}'
            self._on_refusal(name, message)
            return None
        template = copied(job["spec"]["template"])
        identity = self._store.new_identity()
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
                "name": f"{name}-{self._store.suffix()}",
                "ownerReferences": [owner],
                **identity,
            },
            "spec": template["spec"],
            "status": {"phase": "Pending"},
        }
        self._store.write("pods", "ADDED", made)
        return made
