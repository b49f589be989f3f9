"""A Kubernetes API server over HTTP for a `FakeCluster`, which misbehaves when a test says so.

    with FakeClusterServer(cluster) as server:
        server.write_kubeconfig(path)            # for KUBECONFIG, and the real client
        server.fail("create jobs", 429, retry_after=5)

What is stored, watched and counted is `FakeClusterApi`'s; here are paths, status codes, streams and
broken connections, as the real client meets them. Requests have the names of `ClusterApi`'s, such
as `create jobs`. Answers carry the cluster's time as their `Date`.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from studyflow.executors.kubernetes.api import AlreadyExists, Event, VersionTooOld
from studyflow.testing.fake_cluster import FakeCluster, FakeClusterApi

_PATH: Final = re.compile(
    r"/apis?/[a-z0-9./-]*?/?v1(?:beta1)?/namespaces/(?P<namespace>[^/]+)/(?P<kind>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<below>[a-z]+))?"
)
_VERBS: Final = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}


@dataclass(slots=True)
class _Failure:
    """What the next requests of a name get instead of their answer."""

    status: int | None
    message: str
    reason: str
    retry_after: int | None
    n_left: int
    is_after: bool


class FakeClusterServer:
    """Serves a cluster on a free port of this machine while it is entered.

    Args:
        cluster: The cluster.
        watch_seconds: How long a watch without news stays open, in real seconds.
        answer_seconds: How long every other request takes, in real seconds.

    Attributes:
        change_watch: Is given the events of a watch and returns those that are sent: repeated,
            reordered, left out, or without an end.
    """

    def __init__(
        self, cluster: FakeCluster, *, watch_seconds: float = 0.0, answer_seconds: float = 0.0
    ) -> None:
        self.cluster = cluster
        self.answer_seconds = answer_seconds
        self.api = FakeClusterApi(cluster, watch_seconds=watch_seconds)
        """What the requests are answered by; `list_as_of` makes lists stale."""
        self.change_watch: Callable[[Iterator[Event]], Iterator[Event]] = iter
        self._failures: dict[str, deque[_Failure]] = {}
        self._torn: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def write_kubeconfig(self, path: Path) -> None:
        """Write a kubeconfig whose only context is this cluster and its namespace."""
        context = {"cluster": "fake", "user": "fake", "namespace": self.cluster.namespace}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "fake", "user": {"token": "fake"}}],
            "contexts": [{"name": "fake", "context": context}],
        }
        path.write_text(json.dumps(document))

    def fail(
        self,
        request: str,
        status: int,
        message: str = "",
        *,
        reason: str = "",
        retry_after: int | None = None,
        times: int = 1,
        is_after: bool = False,
    ) -> None:
        """Let the next requests of a name fail.

        Args:
            request: Such as `create jobs`.
            status: HTTP status of the answer.
            message: What its `Status` document says.
            reason: Its machine-readable reason, such as `AlreadyExists`.
            retry_after: Seconds of the header `Retry-After`.
            times: How many requests.
            is_after: Whether the cluster has done by then what was asked.
        """
        failure = _Failure(status, message, reason, retry_after, times, is_after)
        self._failures.setdefault(request, deque()).append(failure)

    def cut(self, request: str, *, times: int = 1, is_after: bool = False) -> None:
        """Let the next requests of a name end without any answer, as one that timed out."""
        failure = _Failure(None, "", "", None, times, is_after)
        self._failures.setdefault(request, deque()).append(failure)

    def tear(self, request: str) -> None:
        """Let the next watch of a name end in the middle of its first event."""
        self._torn.add(request)

    def _take_failure(self, request: str, *, is_after: bool) -> _Failure | None:
        queue = self._failures.get(request)
        if not queue or queue[0].is_after is not is_after:
            return None
        failure = queue[0]
        failure.n_left -= 1
        if failure.n_left <= 0:
            queue.popleft()
        return failure


def _handler_of(fake: FakeClusterServer) -> type[BaseHTTPRequestHandler]:
    """Return the class that answers one connection of a server."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            parts = urlsplit(self.path)
            found = _PATH.fullmatch(parts.path)
            if found is None or found["namespace"] != fake.cluster.namespace:
                self.refuse(404, "the server could not find the requested resource")
                return
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            is_watch = query.get("watch") == "true"
            verb = _verb(self.command, found["name"], found["below"], is_watch=is_watch)
            request = f"{verb} {found['kind']}"
            if self.fails(fake._take_failure(request, is_after=False)):
                return
            try:
                if is_watch:
                    self.watch(request, found["kind"], query)
                    return
                if fake.answer_seconds:
                    time.sleep(fake.answer_seconds)
                document = _do(fake.api, request, found, query, json.loads(body or b"null"))
            except AlreadyExists as error:
                self.refuse(409, error.message, "AlreadyExists")
                return
            except VersionTooOld as error:
                self.refuse(410, error.message, "Expired")
                return
            if self.fails(fake._take_failure(request, is_after=True)):
                return
            if document is None:
                self.refuse(404, f"{request} {found['name']}: not found", "NotFound")
            else:
                self.send(200, document)

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

        def watch(self, request: str, kind: str, query: Mapping[str, str]) -> None:
            selector, version = query.get("labelSelector", ""), query["resourceVersion"]
            events = fake.change_watch(fake.api.watch_objects(kind, selector, version))
            first = next(events, None)  # a version that is too old is known before any event
            self.head(200, {})
            while first is not None:
                line = json.dumps({"type": first[0], "object": first[1]}).encode() + b"\n"
                if request in fake._torn:
                    fake._torn.discard(request)
                    self.wfile.write(line[: len(line) // 2])
                    return
                self.wfile.write(line)
                self.wfile.flush()
                first = next(events, None)

        def fails(self, failure: _Failure | None) -> bool:
            if failure is not None and failure.status is not None:
                self.refuse(failure.status, failure.message, failure.reason, failure.retry_after)
            self.close_connection = True
            return failure is not None

        def refuse(
            self, status: int, message: str, reason: str = "", retry_after: int | None = None
        ) -> None:
            document = {"kind": "Status", "code": status, "message": message, "reason": reason}
            self.send(status, document, retry_after)

        def send(
            self, status: int, document: bytes | Mapping[str, Any], retry_after: int | None = None
        ) -> None:
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            pause = {} if retry_after is None else {"Retry-After": str(retry_after)}
            self.head(status, {"Content-Length": str(len(body)), **pause})
            self.wfile.write(body)

        def head(self, status: int, headers: Mapping[str, str]) -> None:
            self.send_response_only(status)
            now = datetime.fromtimestamp(fake.cluster.clock(), UTC)
            self.send_header("Date", format_datetime(now, usegmt=True))
            self.send_header("Content-Type", "application/json")
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    return Handler


def _verb(method: str, name: str | None, below: str | None, *, is_watch: bool) -> str:
    if below == "log":
        return "log"
    if method == "GET":
        return "watch" if is_watch else "list" if name is None else "get"
    return _VERBS[method]


def _do(
    api: FakeClusterApi,
    request: str,
    found: re.Match[str],
    query: Mapping[str, str],
    body: Any,
) -> dict[str, Any] | bytes | None:
    """Do what a request asks for and return its answer; `None` when there is no such object."""
    name = found["name"] or ""
    match request:
        case "list jobs" | "list pods":
            items, version = api.list_objects(found["kind"], query.get("labelSelector", ""))
            return {"items": items, "metadata": {"resourceVersion": version}}
        case "create jobs":
            return api.create_job(body)
        case "get jobs":
            return api.get_job(name)
        case "patch jobs":
            return api.patch_job(name, body)
        case "delete jobs":
            api.delete_job(name)
            return {"kind": "Status", "status": "Success"}
        case "list events":
            return {"items": api.events(query["fieldSelector"].partition("=")[2])}
        case "list workloads":
            workload = api.workload(query["labelSelector"].partition("=")[2])
            return {"items": [] if workload is None else [workload]}
        case "get localqueues":
            return {"items": api.pending_workloads(name)}
        case "log pods":
            tail, limit = query.get("tailLines"), query.get("limitBytes")
            return api.read_log(
                name,
                tail_lines=None if tail is None else int(tail),
                limit_bytes=None if limit is None else int(limit),
            )
    return None
