"""The requests of a cluster's clients, answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from studyflow.executors.kubernetes.api import AlreadyExists
from studyflow.testing.fake_cluster.controller import JobController
from studyflow.testing.fake_cluster.kubelet import Kubelet
from studyflow.testing.fake_cluster.store import Change, ObjectStore, copied, merge_patch


@dataclass(frozen=True, slots=True)
class ApiServer:
    """Reads and writes a cluster's objects; the Job controller sees each write at once."""

    _store: ObjectStore
    _controller: JobController
    _kubelet: Kubelet

    def list_objects(
        self, kind: str, selector: str, version: str | None = None
    ) -> tuple[list[dict[str, Any]], str]:
        """Return the objects that carry a label, and their version; see `ObjectStore.find`."""
        return self._store.find(kind, selector, version)

    def changes_since(self, kind: str, selector: str, version: int) -> list[Change]:
        """Return the changes of labelled objects after a version.

        Raises:
            VersionTooOld: That part of the history was forgotten.
        """
        return self._store.since(kind, selector, version)

    def wait_for_change(self, version: int, seconds: float) -> bool:
        """Wait, in real time, for a version after this one; return whether it came."""
        return self._store.wait_for_change(version, seconds)

    def create_job(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Make a Job and return it.

        Raises:
            AlreadyExists: There is one of that name.
        """
        with self._store.changed:
            job: dict[str, Any] = json.loads(json.dumps(manifest))  # as it goes over the wire
            name = job["metadata"]["name"]
            if name in self._store.jobs:
                raise AlreadyExists(f'Cannot create jobs: jobs.batch "{name}" already exists')
            identity = self._store.new_identity()
            job["metadata"] |= identity
            own = {"controller-uid": identity["uid"], "job-name": name}
            job["spec"]["selector"] = {"matchLabels": {"controller-uid": identity["uid"]}}
            labels = job["spec"]["template"].setdefault("metadata", {}).setdefault("labels", {})
            labels.update(own)
            job["status"] = {}
            self._store.write("jobs", "ADDED", job)
            self._controller.reconcile()
            return copied(job)

    def get_job(self, name: str) -> dict[str, Any] | None:
        """Return a Job; `None` when there is none."""
        with self._store.changed:
            return copied(self._store.jobs.get(name))

    def patch_job(self, name: str, patch: Mapping[str, Any]) -> dict[str, Any] | None:
        """Merge a patch into a Job and return it; `None` when there is none."""
        with self._store.changed:
            job = self._store.jobs.get(name)
            if job is None:
                return None
            changed: dict[str, Any] = merge_patch(job, json.loads(json.dumps(patch)))
            self._store.write("jobs", "MODIFIED", changed)
            answer = copied(changed)  # before the controller has seen it
            self._controller.reconcile()
            return answer

    def events_about(self, uid: str) -> list[dict[str, Any]]:
        """Return the events about one object, oldest first."""
        return [copied(e) for e in self._store.events if e["involvedObject"]["uid"] == uid]

    def workloads(self) -> dict[str, dict[str, Any]]:
        """Return what Kueue keeps of Jobs, by their uid."""
        return copied(self._store.workloads)

    def log_lines(self, pod: str) -> list[bytes]:
        """Return a log as a kubelet gives it: its own words, or lines with timestamps."""
        return self._kubelet.log_lines(pod)
