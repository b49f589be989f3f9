"""`KubernetesApi`: the requests of `ClusterApi`, made of a real cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from studyflow.errors import ExecutorError, ExecutorUnavailable
from studyflow.executors.kubernetes.api import NotFound, Refused
from studyflow.executors.kubernetes.connection import Connection, failure_of, lines_of
from studyflow.executors.kubernetes.rights import Right

WATCH_SECONDS: Final = 60
"""How long the server keeps a watch open. Also bounds how long a connection that died in silence
goes unnoticed."""

LIST_LIMIT: Final = 500
"""Objects in one answer to a list; more come in pages."""


class KubernetesApi:
    """`ClusterApi` over the official client.

    Args:
        namespace: Namespace of the trials; `None` for the pod's own, or that of the kubeconfig.
        context: Context of the kubeconfig; `None` for its current one.
        clock: Seconds, monotonic.

    Raises:
        MissingExtra: The client is not installed.
        ExecutorError: There is neither a pod's service account nor a kubeconfig.
    """

    def __init__(
        self,
        namespace: str | None = None,
        context: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = Connection(namespace, context, clock)
        self.namespace = self._connection.namespace
        self.own_namespace = self._connection.own_namespace
        """Namespace of the pod that this process runs in; `None` outside a cluster."""
        self.host = self._connection.host
        self.cluster_id = self._connection.cluster_id
        self.n_requests = self._connection.n_requests
        """Requests so far, by verb and kind: what a study costs the API server."""

    def list_objects(self, kind: str, selector: str) -> tuple[list[dict[str, Any]], str]:
        items: list[dict[str, Any]] = []
        # No resourceVersion: the answer is read from etcd, so an object that is not in it is gone.
        query = {"labelSelector": selector, "limit": LIST_LIMIT}
        while True:
            page = self._connection.json("list", kind, "GET", query=query)
            items += page.get("items") or []
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return items, str(metadata.get("resourceVersion", ""))
            query = {**query, "continue": metadata["continue"]}

    def watch_objects(
        self, kind: str, selector: str, version: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        query = {
            "labelSelector": selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": WATCH_SECONDS,
        }
        chunks = self._connection.stream(
            "watch", kind, query=query, read_seconds=WATCH_SECONDS + 15.0
        )
        for line in lines_of(chunks):
            try:
                event = json.loads(line)
                kind_of_event, found = event["type"], event["object"]
            except (ValueError, KeyError, TypeError):
                return  # cut off in the middle: the next watch begins before it
            if kind_of_event == "ERROR":
                raise failure_of(int(found.get("code") or 500), found, f"watch {kind}")
            yield kind_of_event, found

    def create_job(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return self._connection.json("create", "jobs", "POST", body=manifest)
        except NotFound as error:
            raise Refused(
                error.message, hint="does the namespace exist (STUDYFLOW_NAMESPACE)?"
            ) from error

    def get_job(self, name: str) -> dict[str, Any] | None:
        try:
            return self._connection.json("get", "jobs", "GET", name=name)
        except NotFound:
            return None

    def patch_job(self, name: str, patch: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            return self._connection.json("patch", "jobs", "PATCH", name=name, body=patch)
        except NotFound:
            return None

    def delete_job(self, name: str) -> None:
        try:
            options = {"propagationPolicy": "Background"}
            self._connection.json("delete", "jobs", "DELETE", name=name, body=options)
        except NotFound:
            pass

    def events(self, uid: str) -> list[dict[str, Any]]:
        query = {"fieldSelector": f"involvedObject.uid={uid}", "limit": LIST_LIMIT}
        found = self._optional("list", "events", query=query)
        return sorted(found, key=lambda event: str(event.get("lastTimestamp") or ""))

    def workload(self, uid: str) -> dict[str, Any] | None:
        query = {"labelSelector": f"kueue.x-k8s.io/job-uid={uid}", "limit": 1}
        found = self._optional("list", "workloads", query=query)
        return found[0] if found else None

    def pending_workloads(self, queue: str) -> list[dict[str, Any]]:
        return self._optional("get", "localqueues", name=queue, below="pendingworkloads")

    def _optional(self, verb: str, kind: str, **options: Any) -> list[dict[str, Any]]:
        """Return the items of an answer that only explains things: a missing right is no failure.

        Nor is a cluster without Kueue, or one whose Kueue no longer serves this version.
        """
        try:
            return list(self._connection.json(verb, kind, "GET", **options).get("items") or ())
        except (Refused, NotFound):
            return []

    def read_log(
        self, pod: str, *, tail_lines: int | None = None, limit_bytes: int | None = None
    ) -> bytes:
        query = {"timestamps": "true", "tailLines": tail_lines, "limitBytes": limit_bytes}
        try:
            answer = self._connection.request(
                "log", "pods", "GET", name=pod, below="log", query=query, accept="*/*"
            )
            return self._connection.body(answer, f"log pods {pod}")
        except ExecutorError as error:
            if isinstance(error, ExecutorUnavailable):
                raise
            return b""  # the container was never made, or its log went with its node

    def follow_log(self, pod: str) -> Iterator[bytes]:
        query = {"timestamps": "true", "follow": "true"}
        yield from self._connection.stream(
            "log", "pods", name=pod, below="log", query=query, read_seconds=None, accept="*/*"
        )

    def may(self, right: Right) -> bool:
        """Whether this user has a right in the namespace, as the API server decides it."""
        resource, _, below = right.resource.partition("/")
        attributes = {
            "namespace": self.namespace,
            "group": right.group,
            "resource": resource,
            "subresource": below,
            "verb": right.verb,
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = self._connection.json("create", "selfsubjectaccessreviews", "POST", body=body)
        return bool((answer.get("status") or {}).get("allowed"))

    def rules(self, namespace: str | None = None) -> list[dict[str, Any]]:
        """Return the rules that hold for this user in a namespace, as far as they are known.

        Args:
            namespace: The namespace; `None` for that of the trials.
        """
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace or self.namespace},
        }
        answer = self._connection.json("create", "selfsubjectrulesreviews", "POST", body=body)
        return list((answer.get("status") or {}).get("resourceRules") or ())

    def server_time(self) -> float | None:
        return self._connection.server_time()

    def close(self) -> None:
        self._connection.close()
