"""What the executor asks of the Kubernetes API: ten requests, plain dictionaries, our own errors.

The only place that imports the Kubernetes client. Its authentication and connections are used, its
models are not: they refuse fields that are younger than themselves, in requests and in answers.

Nothing here retries. A request that fails raises, and whoever called decides what follows; the
runner's loop is the one place where anything is tried again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final, Protocol

import yaml

from studyflow.errors import ExecutorBlocked, ExecutorError, ExecutorUnavailable, MissingExtra
from studyflow.executors.kubernetes.rights import Right

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 20.0
"""Longest waits of one request; a write whose answer does not come is repeated by its name."""

WATCH_SECONDS: Final = 60
"""How long the server keeps a watch open. Also bounds how long a connection that died in silence
goes unnoticed."""

LONGEST_RETRY_AFTER_SECONDS: Final = 60.0
"""Longest pause that the server is granted; what lies in front of it may ask for hours."""

LIST_LIMIT: Final = 500
"""Objects in one answer to a list; more come in pages."""

_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

_PATHS: Final[Mapping[str, str]] = {
    "jobs": "/apis/batch/v1/namespaces/{namespace}/jobs",
    "pods": "/api/v1/namespaces/{namespace}/pods",
    "events": "/api/v1/namespaces/{namespace}/events",
    "workloads": "/apis/kueue.x-k8s.io/v1beta1/namespaces/{namespace}/workloads",
    "localqueues": "/apis/visibility.kueue.x-k8s.io/v1beta1/namespaces/{namespace}/localqueues",
    "resourcequotas": "/api/v1/namespaces/{namespace}/resourcequotas",
    "selfsubjectaccessreviews": "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "selfsubjectrulesreviews": "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
}


Event = tuple[str, dict[str, Any]]
"""What happened, and the object as it is since."""


class AlreadyExists(ExecutorError):
    """An object of this name is there already."""


class NotFound(ExecutorError):
    """There is no object of this name."""


class VersionTooOld(ExecutorError):
    """The server no longer knows what happened since this version: list again."""


class Refused(ExecutorBlocked):
    """The server understood and refused, and would refuse the same again: rights, admission."""


class ClusterApi(Protocol):
    """The requests. `studyflow.testing.fake_cluster` has one in memory."""

    namespace: str
    cluster_id: str
    """Tells clusters apart: two that are the same here are one."""
    n_requests: dict[str, int]
    """Requests so far, by verb and kind, such as `list pods`."""

    def list_objects(self, kind: str, selector: str) -> tuple[list[dict[str, Any]], str]:
        """Return the objects, as they are now and not as some cache has them, and their version."""

    def watch_objects(
        self, kind: str, selector: str, version: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (`ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`, object) from a version on.

        Ends after `WATCH_SECONDS`, or earlier without a reason.

        Raises:
            VersionTooOld: List again.
        """

    def create_job(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create a Job and return it.

        Raises:
            AlreadyExists: There is one of that name.
        """

    def get_job(self, name: str) -> dict[str, Any] | None:
        """Return a Job, or `None` when there is none."""

    def patch_job(self, name: str, patch: Mapping[str, Any]) -> dict[str, Any] | None:
        """Merge a patch into a Job and return it, or `None` when there is none."""

    def delete_job(self, name: str) -> None:
        """Delete a Job and, in the background, its pods; silent when there is none."""

    def events(self, uid: str) -> list[dict[str, Any]]:
        """Return the events about one object, oldest first; empty without the right to see them."""

    def workload(self, uid: str) -> dict[str, Any] | None:
        """Return what Kueue keeps of the Job of this uid; `None` where that cannot be read."""

    def pending_workloads(self, queue: str) -> list[dict[str, Any]]:
        """Return who waits in a local queue of Kueue's; empty where that cannot be read."""

    def read_log(
        self, pod: str, *, tail_lines: int | None = None, limit_bytes: int | None = None
    ) -> bytes:
        """Return the log of a pod's container with timestamps; empty when there is none (any more).

        `pod_log.written` takes the timestamps off, and what the kubelet said in the log's place.

        Args:
            pod: Name of the pod.
            tail_lines: Only so many lines at its end.
            limit_bytes: Only the first so many bytes of these, timestamps included.
        """

    def follow_log(self, pod: str) -> Iterator[bytes]:
        """Yield the log of a pod's container with timestamps as it is written, until its end."""

    def server_time(self) -> float | None:
        """Return the API server's time now, in seconds since the epoch; `None` while unknown.

        Asks nothing: the last answer said it, and a monotonic clock has counted since.
        """

    def close(self) -> None:
        """Let go of the connections."""


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
        try:
            from kubernetes import client, config
        except ImportError as error:
            raise MissingExtra("Running trials on Kubernetes", "kubernetes") from error
        configuration = client.Configuration()
        try:
            # Chosen by what is there, not by what works: a runner in a pod never uses a kubeconfig
            # that happens to lie in its image, unless it is told to.
            if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
                default = _NAMESPACE_FILE.read_text().strip()
            else:
                config.load_kube_config(  # type: ignore[no-untyped-call]
                    context=context, client_configuration=configuration
                )
                _, active = config.list_kube_config_contexts()  # type: ignore[no-untyped-call]
                default = (active or {}).get("context", {}).get("namespace") or "default"
        except (config.ConfigException, OSError, TypeError, yaml.YAMLError) as error:
            raise ExecutorError(
                f"No Kubernetes cluster is configured here: {error}.",
                hint="set KUBECONFIG, or run inside a pod with a service account.",
            ) from error
        configuration.retries = False
        self._client = client.ApiClient(configuration)
        self.namespace = namespace or default
        self.host = str(configuration.host)
        self.cluster_id = _cluster_id(self.host, configuration.ssl_ca_cert)
        self.n_requests: dict[str, int] = {}
        """Requests so far, by verb and kind: what a study costs the API server."""
        self._clock = clock
        self._paused_until = -math.inf
        """Until when the server asked to be left alone."""
        self._server_ahead: float | None = None
        """The server's time minus `clock`, by its last answer."""

    def list_objects(self, kind: str, selector: str) -> tuple[list[dict[str, Any]], str]:
        items: list[dict[str, Any]] = []
        # No resourceVersion: the answer is read from etcd, so an object that is not in it is gone.
        query = {"labelSelector": selector, "limit": LIST_LIMIT}
        while True:
            page = self._json("list", kind, "GET", query=query)
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
        chunks = self._stream("watch", kind, query=query, read_seconds=WATCH_SECONDS + 15.0)
        for line in _lines(chunks):
            try:
                event = json.loads(line)
                kind_of_event, found = event["type"], event["object"]
            except (ValueError, KeyError, TypeError):
                return  # cut off in the middle: the next watch begins before it
            if kind_of_event == "ERROR":
                raise _failure(int(found.get("code") or 500), found, f"watch {kind}")
            yield kind_of_event, found

    def create_job(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return self._json("create", "jobs", "POST", body=manifest)
        except NotFound as error:
            raise Refused(
                error.message, hint="does the namespace exist (STUDYFLOW_NAMESPACE)?"
            ) from error

    def get_job(self, name: str) -> dict[str, Any] | None:
        try:
            return self._json("get", "jobs", "GET", name=name)
        except NotFound:
            return None

    def patch_job(self, name: str, patch: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            return self._json("patch", "jobs", "PATCH", name=name, body=patch)
        except NotFound:
            return None

    def delete_job(self, name: str) -> None:
        try:
            options = {"propagationPolicy": "Background"}
            self._json("delete", "jobs", "DELETE", name=name, body=options)
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
            return list(self._json(verb, kind, "GET", **options).get("items") or ())
        except (Refused, NotFound):
            return []

    def read_log(
        self, pod: str, *, tail_lines: int | None = None, limit_bytes: int | None = None
    ) -> bytes:
        query = {"timestamps": "true", "tailLines": tail_lines, "limitBytes": limit_bytes}
        try:
            answer = self._request(
                "log", "pods", "GET", name=pod, below="log", query=query, accept="*/*"
            )
            return self._body(answer, f"log pods {pod}")
        except ExecutorError as error:
            if isinstance(error, ExecutorUnavailable):
                raise
            return b""  # the container was never made, or its log went with its node

    def follow_log(self, pod: str) -> Iterator[bytes]:
        query = {"timestamps": "true", "follow": "true"}
        yield from self._stream(
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
        answer = self._json("create", "selfsubjectaccessreviews", "POST", body=body)
        return bool((answer.get("status") or {}).get("allowed"))

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules that hold for this user in the namespace, as far as they are known."""
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": self.namespace},
        }
        answer = self._json("create", "selfsubjectrulesreviews", "POST", body=body)
        return list((answer.get("status") or {}).get("resourceRules") or ())

    def server_time(self) -> float | None:
        return None if self._server_ahead is None else self._clock() + self._server_ahead

    def close(self) -> None:
        self._client.rest_client.pool_manager.clear()

    # How a request is made

    def _json(self, verb: str, kind: str, method: str, **options: Any) -> dict[str, Any]:
        answer = self._request(verb, kind, method, **options)
        try:
            document = json.loads(self._body(answer, f"{verb} {kind}") or b"{}")
        except ValueError as error:
            raise ExecutorUnavailable(
                f"The Kubernetes API at {self.host} did not answer in JSON ({verb} {kind}).",
                hint="is that the API server, or a proxy's error page?",
            ) from error
        return document if isinstance(document, dict) else {}

    def _stream(
        self, verb: str, kind: str, *, read_seconds: float | None, **options: Any
    ) -> Iterator[bytes]:
        """Yield an answer in pieces as they come."""
        answer = self._request(verb, kind, "GET", read_seconds=read_seconds, **options)
        response = answer.response
        try:
            yield from response.stream(65536, decode_content=False)
        except Exception as error:
            raise self._unreachable(error, f"{verb} {kind}") from error
        finally:
            response.close()
            response.release_conn()

    def _request(
        self,
        verb: str,
        kind: str,
        method: str,
        *,
        name: str | None = None,
        below: str | None = None,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        accept: str = "application/json",
        read_seconds: float | None = READ_SECONDS,
    ) -> Any:
        """Send one request and return the client's answer, whose status is a success."""
        what = f"{verb} {kind}{f' {name}' if name else ''}"
        self._keep_pause(what)
        counted = f"{verb} {kind}"
        self.n_requests[counted] = self.n_requests.get(counted, 0) + 1
        path = "/".join(part for part in (_PATHS[kind], name, below) if part)
        headers = {"Accept": accept}
        if body is not None:
            is_patch = method == "PATCH"
            headers["Content-Type"] = (
                "application/merge-patch+json" if is_patch else "application/json"
            )
        prepared = self._client.param_serialize(
            method,
            path.format(namespace=self.namespace),
            query_params=[(k, v) for k, v in (query or {}).items() if v is not None],
            header_params=headers,
            body=None if body is None else dict(body),
            auth_settings=["BearerToken"],
        )
        try:
            answer = self._client.call_api(
                *prepared, _request_timeout=(CONNECT_SECONDS, read_seconds)
            )
        except Exception as error:  # urllib3's, ssl's and the client's own; none means "refused"
            raise self._unreachable(error, what) from error
        if not 200 <= answer.status < 300:
            self._begin_pause(answer)
            try:
                status = json.loads(self._body(answer, what) or b"{}")
            except ValueError:
                status = {}
            raise _failure(answer.status, status if isinstance(status, dict) else {}, what)
        self._note_time(answer)
        return answer

    def _note_time(self, answer: Any) -> None:
        """Learn the server's time from an answer's `Date`."""
        try:
            date = parsedate_to_datetime(str(answer.getheader("Date")))
        except ValueError:
            return  # left out, or rewritten, by what lies in front of the server
        self._server_ahead = date.timestamp() - self._clock()

    def _begin_pause(self, answer: Any) -> None:
        """Heed `Retry-After`, which a server sends that has too much to do."""
        text = str(answer.getheader("Retry-After") or "")
        if text.isdecimal():
            seconds = min(float(text), LONGEST_RETRY_AFTER_SECONDS)
            self._paused_until = max(self._paused_until, self._clock() + seconds)

    def _keep_pause(self, what: str) -> None:
        """Send nothing before the server wants to hear of us again."""
        left = self._paused_until - self._clock()
        if left > 0:
            raise ExecutorUnavailable(
                f"Cannot {what} now: the Kubernetes API at {self.host} has too much to do, and "
                "asked to be left alone for a while."
            )

    def _body(self, answer: Any, what: str) -> bytes:
        try:
            return bytes(answer.read() or b"")
        except Exception as error:  # a connection that breaks in the middle of the answer
            raise self._unreachable(error, what) from error

    def _unreachable(self, error: Exception, what: str) -> ExecutorUnavailable:
        return ExecutorUnavailable(
            f"The Kubernetes API at {self.host} does not answer ({what}): {_short(error)}.",
            hint="is the cluster up, and reachable from here?",
        )


def _cluster_id(host: str, ca_file: str | None) -> str:
    """Return what tells a cluster from others.

    Inside, many clusters have the same address but each its own certificates; outside it may be the
    other way round.
    """
    authority = b"" if ca_file is None else Path(ca_file).read_bytes()
    return hashlib.sha256(host.encode() + authority).hexdigest()[:8]


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the lines that are not blank; the last one may have no end."""
    parts: list[bytes] = []
    for chunk in chunks:
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line = b"".join((*parts, end))
            parts.clear()
            if line.strip():
                yield line
        parts.append(rest)
    if last := b"".join(parts).strip():
        yield last


def _failure(code: int, status: Mapping[str, Any], what: str) -> ExecutorError:
    """Return the exception for an answer that is no success."""
    message = str(status.get("message") or status.get("reason") or f"HTTP {code}")[:500]
    if code == 404:
        return NotFound(f"Cannot {what}: {message}")
    if code == 409 and status.get("reason") == "AlreadyExists":
        return AlreadyExists(f"Cannot {what}: {message}")
    if code == 410:
        return VersionTooOld(f"Cannot {what}: {message}")
    if code == 403 and "exceeded quota" in message:
        return ExecutorUnavailable(
            f"Cannot {what} now: {message}",
            hint="trials wait until the quota has room.",
        )
    if code in (401, 408, 409, 429) or code >= 500:
        # 401: a token that is being renewed. 409: a conflict with somebody else's write.
        return ExecutorUnavailable(f"Cannot {what} now: {code} {message}.")
    hint = "does k8s/base/rbac.yaml grant it, and is it applied?" if code == 403 else None
    return Refused(f"Cannot {what}: {code} {message}", hint=hint)


def _short(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return " ".join(str(reason).split())[:200]
