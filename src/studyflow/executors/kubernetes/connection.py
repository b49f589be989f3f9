"""One connection to an API server: how a request is made, and what its failure means.

The only module that imports the Kubernetes client. Its authentication and connections are used, its
models are not: they refuse fields that are younger than themselves, in requests and in answers.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from json import loads
from pathlib import Path
from typing import Any, Final

import yaml

from studyflow.errors import ExecutorError, ExecutorUnavailable, MissingExtra
from studyflow.executors.kubernetes.api import (
    AlreadyExists,
    NotFound,
    Refused,
    ServerBusy,
    VersionTooOld,
)
from studyflow.executors.kubernetes.words import is_over_quota
from studyflow.reasons import Cause

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 20.0
"""Longest waits of one request; a write whose answer does not come is repeated by its name."""

LONGEST_RETRY_AFTER_SECONDS: Final = 60.0
"""Longest pause that the server is granted; what lies in front of it may ask for hours."""

FIRST_BACKOFF_SECONDS: Final = 1.0
"""Shortest pause after a 429; doubled for each that follows without a success between."""

CONNECTIONS: Final = 32
"""Connections that are kept: two watches, and all requests that are made side by side."""

_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

_MISSING_RIGHT: Final = (
    "is STUDYFLOW_NAMESPACE a namespace of trials, and the Role of k8s/base/team/rbac.yaml applied "
    "there?"
)
"""What to do where the API server refuses a request of ours."""

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


class Connection:
    """Sends requests to one API server, about one namespace.

    Args:
        namespace: Namespace of the trials; `None` for the pod's own, or that of the kubeconfig.
        context: Context of the kubeconfig; `None` for its current one.
        clock: Seconds, monotonic.

    Raises:
        MissingExtra: The client is not installed.
        ExecutorError: There is neither a pod's service account nor a kubeconfig.
    """

    def __init__(
        self, namespace: str | None, context: str | None, clock: Callable[[], float]
    ) -> None:
        configuration, default = _configuration(context)
        self._client = _client_of(configuration)
        self.namespace = namespace or default
        self.own_namespace = default if _is_inside() else None
        """Namespace of the pod that this process runs in; `None` outside a cluster."""
        self.host = str(configuration.host)
        self.cluster_id = cluster_id_of(self.host, configuration.ssl_ca_cert)
        self.n_requests: dict[str, int] = {}
        """Requests so far, by verb and kind."""
        self._lock = threading.Lock()
        self._clock = clock
        self._paused_until = -math.inf
        """Until when the server asked to be left alone: by all threads."""
        self._n_pauses = 0
        """Pauses since the last request that succeeded."""
        self._pause_said = ""
        """What the server said when it asked for the pause."""
        self._server_ahead: float | None = None
        """The server's time minus `clock`, by its last answer."""

    def json(self, verb: str, kind: str, method: str, **options: Any) -> dict[str, Any]:
        """Send one request and return the answer's document; see `request`.

        Raises:
            ExecutorUnavailable: The server does not answer, or not in JSON.
            ExecutorError: It refuses; see `failure_of`.
        """
        answer = self.request(verb, kind, method, **options)
        try:
            document = loads(self.body(answer, f"{verb} {kind}") or b"{}")
        except ValueError as error:
            raise ExecutorUnavailable(
                f"The Kubernetes API at {self.host} did not answer in JSON ({verb} {kind}).",
                hint="is that the API server, or a proxy's error page?",
            ) from error
        return document if isinstance(document, dict) else {}

    def stream(
        self, verb: str, kind: str, *, read_seconds: float | None, **options: Any
    ) -> Iterator[bytes]:
        """Yield an answer in pieces as they come; see `request`.

        Raises:
            ExecutorUnavailable: The server does not answer, or no longer.
            ExecutorError: It refuses; see `failure_of`.
        """
        answer = self.request(verb, kind, "GET", read_seconds=read_seconds, **options)
        response = answer.response
        try:
            yield from response.stream(65536, decode_content=False)
        except _read_failures() as error:
            raise self._unreachable(error, f"{verb} {kind}") from error
        finally:
            response.close()
            response.release_conn()

    def request(
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
        """Send one request and return the client's answer, whose status is a success.

        Args:
            verb: What is done, such as `list`; for counting and for messages.
            kind: To what, such as `pods`.
            method: The same as HTTP has it.
            name: Name of one object; `None` for all.
            below: Subresource, such as `log`; `None` for the object itself.
            query: Parameters; those that are `None` are left out.
            body: Document to send; `None` for none.
            accept: What the answer may be.
            read_seconds: Longest wait for the answer's next piece; `None` for no limit.

        Raises:
            ExecutorUnavailable: The server does not answer, or wants to be left alone for now.
            ExecutorError: It refuses; see `failure_of`.
        """
        what = f"{verb} {kind}{f' {name}' if name else ''}"
        if self._clock() < self._paused_until:
            raise self._busy()
        counted = f"{verb} {kind}"
        with self._lock:
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
        except Exception as error:  # plugins that log in raise anything; none means "refused"
            raise self._unreachable(error, what) from error
        if not 200 <= answer.status < 300:
            try:
                status = loads(self.body(answer, what) or b"{}")
            except ValueError:
                status = {}
            failure = failure_of(answer.status, status if isinstance(status, dict) else {}, what)
            self._begin_pause(answer, failure.message)
            raise self._busy() if answer.status == 429 else failure
        self._n_pauses = 0
        self._note_time(answer)
        return answer

    def _note_time(self, answer: Any) -> None:
        """Learn the server's time from an answer's `Date`."""
        try:
            date = parsedate_to_datetime(str(answer.getheader("Date")))
        except ValueError:
            return  # left out, or rewritten, by what lies in front of the server
        self._server_ahead = date.timestamp() - self._clock()

    def _begin_pause(self, answer: Any, said: str) -> None:
        """Heed `Retry-After`, which a server sends that has too much to do, and any 429.

        Requests that were under way side by side are turned away together, and begin one pause.
        """
        text = str(answer.getheader("Retry-After") or "")
        seconds = float(text) if text.isdecimal() else 0.0
        with self._lock:
            now = self._clock()
            is_new = now >= self._paused_until
            if answer.status == 429:
                self._n_pauses += is_new
                backoff = FIRST_BACKOFF_SECONDS * 2.0 ** min(self._n_pauses - 1, 16)
                seconds = max(seconds, backoff)
            seconds = min(seconds, LONGEST_RETRY_AFTER_SECONDS)
            if seconds > 0:
                self._paused_until = max(self._paused_until, now + seconds)
                self._pause_said = said if is_new else self._pause_said

    def _busy(self) -> ServerBusy:
        """Return the error of every request in one pause: the same words, which are told once."""
        return ServerBusy(
            f"{self._pause_said} The Kubernetes API at {self.host} has too much to do, and asked "
            "to be left alone for a while."
        )

    def body(self, answer: Any, what: str) -> bytes:
        """Return the body of an answer.

        Args:
            answer: As `request` returns it.
            what: The request in words.

        Raises:
            ExecutorUnavailable: The connection broke in the middle of it.
        """
        try:
            return bytes(answer.read() or b"")
        except _read_failures() as error:
            raise self._unreachable(error, what) from error

    def _unreachable(self, error: Exception, what: str) -> ExecutorUnavailable:
        return ExecutorUnavailable(
            f"The Kubernetes API at {self.host} does not answer ({what}): {_short(error)}.",
            hint="is the cluster up, and reachable from here?",
        )

    def server_time(self) -> float | None:
        """Return the API server's time now, in seconds since the epoch; `None` while unknown."""
        return None if self._server_ahead is None else self._clock() + self._server_ahead

    def close(self) -> None:
        """Let go of the connections."""
        self._client.rest_client.pool_manager.clear()


def _configuration(context: str | None) -> tuple[Any, str]:
    """Return the client's configuration, and the namespace that is meant where none is named."""
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise MissingExtra("Running trials on Kubernetes", "kubernetes") from error
    configuration = client.Configuration()
    try:
        # Chosen by what is there, not by what works: a runner in a pod never uses a kubeconfig
        # that happens to lie in its image, unless it is told to.
        if _is_inside():
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
    configuration.connection_pool_maxsize = CONNECTIONS
    return configuration, default


def _is_inside() -> bool:
    """Return whether this process is to reach the cluster as one of its pods."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ


def _read_failures() -> tuple[type[Exception], ...]:
    """Return what a connection raises that breaks in the middle of an answer."""
    from urllib3.exceptions import HTTPError

    return HTTPError, HTTPException, OSError, ValueError


def _client_of(configuration: Any) -> Any:
    from kubernetes import client

    return client.ApiClient(configuration)


def cluster_id_of(host: str, ca_file: str | None) -> str:
    """Return what tells a cluster from others.

    Inside, many clusters have the same address but each its own certificates; outside it may be the
    other way round.
    """
    authority = b"" if ca_file is None else Path(ca_file).read_bytes()
    return hashlib.sha256(host.encode() + authority).hexdigest()[:8]


def lines_of(chunks: Iterator[bytes]) -> Iterator[bytes]:
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


def failure_of(code: int, status: Mapping[str, Any], what: str) -> ExecutorError:
    """Return the exception for an answer that is no success.

    Args:
        code: The answer's status.
        status: Its document, if it is a `Status`.
        what: The request in words.
    """
    said = str(status.get("message") or status.get("reason") or f"HTTP {code}")[:500]
    if code == 404:
        return NotFound(f"Cannot {what}: {said}")
    if code == 409 and status.get("reason") == "AlreadyExists":
        return AlreadyExists(f"Cannot {what}: {said}")
    if code == 410:
        return VersionTooOld(f"Cannot {what}: {said}")
    if code == 403 and is_over_quota(said):
        return ExecutorUnavailable(
            f"Cannot {what} now: {said}",
            hint="trials wait until the quota has room.",
            code=Cause.QUOTA,
        )
    if code in (401, 408, 409, 429) or code >= 500:
        # 401: a token that is being renewed. 409: a conflict with somebody else's write.
        return ExecutorUnavailable(f"Cannot {what} now: {code} {said}.")
    return Refused(f"Cannot {what}: {code} {said}", hint=_MISSING_RIGHT if code == 403 else None)


def _short(error: Exception) -> str:
    inner = getattr(error, "reason", None) or error  # urllib3's, in its own exceptions
    return " ".join(str(inner).split())[:200]
