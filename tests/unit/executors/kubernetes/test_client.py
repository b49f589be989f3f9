"""The real client against a server that answers what a test wants: requests, answers, failures."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from studyflow.errors import ExecutorBlocked, ExecutorError, ExecutorUnavailable
from studyflow.executors.kubernetes.api import (
    AlreadyExists,
    ClusterApi,
    NotFound,
    Refused,
    ServerBusy,
    VersionTooOld,
)
from studyflow.executors.kubernetes.client import KubernetesApi
from studyflow.executors.kubernetes.connection import cluster_id_of
from studyflow.executors.kubernetes.rights import Right
from studyflow.testing.fake_clock import FakeClock

JOBS = "/apis/batch/v1/namespaces/trials/jobs"
PODS = "/api/v1/namespaces/trials/pods"


class Server(ThreadingHTTPServer):
    """Answers requests in order with what `answers` holds; keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, bytes, int]] = []
        self.retry_after: str | None = None
        """Sent with every answer."""
        self.date: str | None = None
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[Any] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, document: Any, status: int = 200, *, cut: int = 0) -> None:
        """Add an answer; with `cut` the connection breaks so many bytes before its end."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.answers.append((status, body, cut))

    def refuse(self, status: int, message: str = "", reason: str = "") -> None:
        self.answer({"kind": "Status", "message": message, "reason": reason}, status)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def handle_request(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.server.requests.append((self.command, parts.path, query))
        self.server.headers.append({k.lower(): v for k, v in self.headers.items()})
        self.server.bodies.append(json.loads(body) if body else None)
        status, answer, cut = self.server.answers.pop(0)
        self.send_response_only(status)
        if self.server.date is not None:
            self.send_header("Date", self.server.date)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        if self.server.retry_after is not None:
            self.send_header("Retry-After", self.server.retry_after)
        self.end_headers()
        self.wfile.write(answer[: len(answer) - cut])
        self.close_connection = True

    do_GET = do_POST = do_PATCH = do_DELETE = handle_request  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


def write_kubeconfig(path: Path, url: str, monkeypatch: pytest.MonkeyPatch, **context: str) -> None:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "t0ken"}}],
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u", **context}},
            {"name": "there", "context": {"cluster": "c", "user": "u", "namespace": "yonder"}},
        ],
    }
    path.write_text(yaml.safe_dump(document))
    use_kubeconfig(path, monkeypatch)


def use_kubeconfig(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(path))
    # The client reads the variable when it is imported, which another test may have done.
    default = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
    monkeypatch.setattr(default, str(path))


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def api(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesApi]:
    write_kubeconfig(tmp_path / "config", server.url, monkeypatch)
    api = KubernetesApi("trials")
    yield api
    api.close()


# ---- where the cluster is ---------------------------------------------------------------------


def test_the_namespace_is_the_one_given_or_the_contexts_or_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kubeconfig(tmp_path / "config", "http://a:1", monkeypatch, namespace="team")
    api: ClusterApi = KubernetesApi()
    assert (api.namespace, KubernetesApi("mine").namespace) == ("team", "mine")
    write_kubeconfig(tmp_path / "config", "http://a:1", monkeypatch)
    assert KubernetesApi().namespace == "default"
    assert KubernetesApi().host == "http://a:1"


def test_clusters_of_one_address_are_told_apart_by_their_certificates(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)

    ids = {cluster_id_of("https://10.96.0.1", str(tmp_path / name)) for name in ("a", "b", "a")}

    assert len(ids) == 2
    assert cluster_id_of("https://10.96.0.1", None) not in ids


@pytest.mark.parametrize("text", [None, "", "[]", "{", "current-context: nowhere\n"])
def test_without_a_cluster_the_error_says_how_to_name_one(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kubeconfig(tmp_path / "config", "http://a:1", monkeypatch)
    (tmp_path / "config").unlink()
    if text is not None:
        (tmp_path / "config").write_text(text)
    with pytest.raises(ExecutorError, match="No Kubernetes cluster is configured") as caught:
        KubernetesApi()
    assert "set KUBECONFIG" in str(caught.value)


def test_a_runner_in_a_pod_knows_its_own_namespace_beside_that_of_the_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("token", "t0ken"), ("ca.crt", "cert"), ("namespace", "servers\n")):
        (tmp_path / name).write_text(text)
    incluster = "kubernetes.config.incluster_config"
    monkeypatch.setattr(f"{incluster}.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(f"{incluster}.SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(
        "studyflow.executors.kubernetes.connection._NAMESPACE_FILE", tmp_path / "namespace"
    )
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")

    api = KubernetesApi("trials")

    assert (api.own_namespace, api.namespace) == ("servers", "trials")
    assert KubernetesApi().namespace == "servers"


def test_a_pod_without_a_service_account_token_has_no_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(ExecutorError, match="No Kubernetes cluster is configured"):
        KubernetesApi()


# ---- requests and answers ---------------------------------------------------------------------


def test_each_request_is_what_the_api_wants(server: Server, api: KubernetesApi) -> None:
    job = {"metadata": {"name": "a"}, "spec": {"field-from-the-future": {"x": 1}}}
    for _ in range(5):
        server.answer(job)
    assert api.create_job(job) == job
    assert api.get_job("a") == job
    assert api.patch_job("a", {"spec": {"parallelism": 0}}) == job
    api.delete_job("a")
    api.list_objects("pods", "a=b,c=d")

    assert server.requests == [
        ("POST", JOBS, {}),
        ("GET", f"{JOBS}/a", {}),
        ("PATCH", f"{JOBS}/a", {}),
        ("DELETE", f"{JOBS}/a", {}),
        ("GET", PODS, {"labelSelector": "a=b,c=d", "limit": "500"}),
    ]
    assert server.bodies == [
        job,
        None,
        {"spec": {"parallelism": 0}},
        {"propagationPolicy": "Background"},
        None,
    ]
    types = [headers.get("content-type") for headers in server.headers]
    assert (types[0], types[2]) == ("application/json", "application/merge-patch+json")
    assert {headers["authorization"] for headers in server.headers} == {"Bearer t0ken"}
    assert api.n_requests == {
        "create jobs": 1,
        "get jobs": 1,
        "patch jobs": 1,
        "delete jobs": 1,
        "list pods": 1,
    }


def test_a_long_list_comes_in_pages(server: Server, api: KubernetesApi) -> None:
    server.answer({"metadata": {"continue": "more", "resourceVersion": "7"}, "items": [{"n": 1}]})
    server.answer({"metadata": {"continue": "yet", "resourceVersion": "7"}, "items": None})
    server.answer({"metadata": {"resourceVersion": "7"}, "items": [{"n": 2}]})

    assert api.list_objects("jobs", "a=b") == ([{"n": 1}, {"n": 2}], "7")
    assert [query.get("continue") for _, _, query in server.requests] == [None, "more", "yet"]
    assert {query["labelSelector"] for _, _, query in server.requests} == {"a=b"}


@pytest.mark.parametrize(
    ("status", "reason", "message", "error", "retryable"),
    [
        (409, "AlreadyExists", 'jobs.batch "a" already exists', AlreadyExists, False),
        (409, "Conflict", "the object has been modified", ExecutorUnavailable, True),
        (401, "Unauthorized", "Unauthorized", ExecutorUnavailable, True),
        (403, "Forbidden", 'cannot create resource "jobs"', Refused, False),
        (403, "Forbidden", "exceeded quota: jobs, requested: 1", ExecutorUnavailable, True),
        (403, "Forbidden", 'admission webhook "x" denied the request', Refused, False),
        (403, "Forbidden", "namespace trials is being terminated", Refused, False),
        (404, "NotFound", 'namespaces "trials" not found', Refused, False),
        (422, "Invalid", "spec.template: Invalid value", Refused, False),
        (400, "BadRequest", "unknown field", Refused, False),
        (413, "", "too large", Refused, False),
        (410, "Expired", "too old resource version", VersionTooOld, False),
        (408, "Timeout", "timed out", ExecutorUnavailable, True),
        (429, "TooManyRequests", "slow down", ServerBusy, True),
        (500, "InternalError", "etcd", ExecutorUnavailable, True),
        (503, "ServiceUnavailable", "no endpoints", ExecutorUnavailable, True),
        (504, "", "", ExecutorUnavailable, True),
    ],
)
@pytest.mark.fault("F09", "F13", "F18", "F19")
def test_a_failure_is_an_exception_that_says_what_follows(
    server: Server,
    api: KubernetesApi,
    status: int,
    reason: str,
    message: str,
    error: type[ExecutorError],
    retryable: bool,
) -> None:
    server.refuse(status, message, reason)
    with pytest.raises(ExecutorError) as caught:
        api.create_job({"metadata": {"name": "a"}})

    assert type(caught.value) is error
    assert caught.value.retryable is retryable
    assert (message or f"HTTP {status}") in str(caught.value)
    assert "create jobs" in str(caught.value)
    assert "t0ken" not in str(caught.value)
    assert isinstance(caught.value, ExecutorBlocked) is (error is Refused)


@pytest.mark.fault("F13")
@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_asks_to_be_left_alone_is_until_its_time_is_over(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    write_kubeconfig(tmp_path / "config", server.url, monkeypatch)
    clock = FakeClock()
    api = KubernetesApi("trials", clock=clock)
    server.retry_after = "7"
    server.refuse(status, "too many requests")
    with pytest.raises(ExecutorUnavailable, match="too many requests"):
        api.create_job({"metadata": {"name": "a"}})

    clock.advance(6.9)
    for ask in (lambda: api.get_job("a"), lambda: api.list_objects("pods", "")):
        with pytest.raises(ExecutorUnavailable, match="has too much to do"):
            ask()
    assert len(server.requests) == 1

    server.retry_after = None
    clock.advance(0.1)
    server.answer({"metadata": {"name": "a"}})
    assert api.get_job("a") == {"metadata": {"name": "a"}}
    api.close()


@pytest.mark.fault("F13")
@pytest.mark.parametrize(
    ("header", "seconds"),
    [("86400", 60.0), ("0", 1.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 1.0), ("-5", 1.0), ("", 1.0)],
)
def test_nobody_waits_longer_than_a_minute_or_less_than_a_second(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    header: str,
    seconds: float,
) -> None:
    write_kubeconfig(tmp_path / "config", server.url, monkeypatch)
    clock = FakeClock()
    api = KubernetesApi("trials", clock=clock)
    server.retry_after = header
    server.refuse(429)
    with pytest.raises(ExecutorUnavailable):
        api.get_job("a")

    clock.advance(seconds - 0.1)
    with pytest.raises(ServerBusy):
        api.get_job("a")
    clock.advance(0.1)
    server.answer({})
    assert api.get_job("a") == {}
    api.close()


@pytest.mark.fault("F13")
def test_a_server_that_turns_requests_away_again_is_left_alone_for_longer_each_time(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kubeconfig(tmp_path / "config", server.url, monkeypatch)
    clock = FakeClock()
    api = KubernetesApi("trials", clock=clock)
    said = set()
    for pause in (1.0, 2.0, 4.0):
        server.refuse(429, "too many requests")
        for name in ("a", "b", "c"):  # the first is turned away, the others are not sent
            with pytest.raises(ServerBusy) as caught:
                api.get_job(name)
            said.add(str(caught.value))
        clock.advance(pause - 0.1)
        with pytest.raises(ServerBusy):
            api.get_job("a")
        clock.advance(0.1)
    assert len(server.requests) == 3
    assert len(said) == 1, "a person is told once"

    server.answer({})
    assert api.get_job("a") == {}
    server.refuse(429)
    with pytest.raises(ServerBusy):
        api.get_job("a")
    clock.advance(1.0)
    server.answer({})
    assert api.get_job("a") == {}, "the next pause is a short one again"
    api.close()


@pytest.mark.fault("F18")
def test_a_missing_right_names_the_role(server: Server, api: KubernetesApi) -> None:
    server.refuse(403, 'jobs.batch is forbidden: cannot create resource "jobs"', "Forbidden")
    with pytest.raises(Refused, match=r"rbac\.yaml"):
        api.create_job({})


def test_a_failure_that_is_no_json_is_told_by_its_number(
    server: Server, api: KubernetesApi
) -> None:
    for body in (b"<html>bad gateway</html>", b"[1]", b""):
        server.answer(body, 502)
        with pytest.raises(ExecutorUnavailable, match="502"):
            api.get_job("a")


def test_a_proxys_page_is_not_taken_for_an_answer(server: Server, api: KubernetesApi) -> None:
    server.answer(b"<html>log in, please</html>")
    with pytest.raises(ExecutorUnavailable, match="did not answer in JSON"):
        api.list_objects("jobs", "a=b")


def test_what_is_not_there_is_none_or_silence(server: Server, api: KubernetesApi) -> None:
    for _ in range(3):
        server.refuse(404, 'jobs.batch "a" not found', "NotFound")
    assert api.get_job("a") is None
    assert api.patch_job("a", {}) is None
    api.delete_job("a")
    assert server.answers == []


def test_a_list_of_what_the_server_does_not_know_is_not_empty(
    server: Server, api: KubernetesApi
) -> None:
    server.refuse(404, "the server could not find the requested resource", "NotFound")
    with pytest.raises(NotFound):
        api.list_objects("jobs", "a=b")


@pytest.mark.fault("F14")
def test_a_server_that_is_not_there_or_hangs_up_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server, api: KubernetesApi
) -> None:
    server.answer({"metadata": {"name": "a"}}, cut=5)
    with pytest.raises(ExecutorUnavailable, match=r"does not answer \(get jobs"):
        api.get_job("a")
    write_kubeconfig(tmp_path / "config", "http://127.0.0.1:1", monkeypatch)
    nowhere = KubernetesApi("trials")
    calls: list[Callable[[], Any]] = [
        lambda: nowhere.list_objects("jobs", ""),
        lambda: list(nowhere.watch_objects("jobs", "", "1")),
        lambda: nowhere.create_job({}),
        lambda: nowhere.read_log("p"),
        lambda: list(nowhere.follow_log("p")),
        lambda: nowhere.events("u"),
    ]
    for call in calls:
        with pytest.raises(ExecutorUnavailable, match=r"http://127\.0\.0\.1:1 does not answer"):
            call()


# ---- watches ----------------------------------------------------------------------------------


def lines(*events: tuple[str, dict[str, Any]]) -> bytes:
    return b"".join(json.dumps({"type": t, "object": o}).encode() + b"\n" for t, o in events)


ADDED = ("ADDED", {"metadata": {"name": "a", "resourceVersion": "8"}})
BOOKMARK = ("BOOKMARK", {"metadata": {"resourceVersion": "9"}})


def test_a_watch_yields_events_from_a_version_on(server: Server, api: KubernetesApi) -> None:
    server.answer(lines(ADDED, BOOKMARK))

    assert list(api.watch_objects("pods", "a=b", "7")) == [ADDED, BOOKMARK]
    assert server.requests == [
        (
            "GET",
            PODS,
            {
                "labelSelector": "a=b",
                "watch": "true",
                "allowWatchBookmarks": "true",
                "resourceVersion": "7",
                "timeoutSeconds": "60",
            },
        )
    ]


@pytest.mark.parametrize("torn", [b'{"type": "MODI', b"\n\n", b"[]\n", b'{"type": "ADDED"}\n', b""])
def test_a_watch_that_is_torn_ends_after_what_was_whole(
    server: Server, api: KubernetesApi, torn: bytes
) -> None:
    server.answer(lines(ADDED) + torn)
    assert list(api.watch_objects("jobs", "a=b", "7")) == [ADDED]


def test_a_watch_whose_connection_breaks_is_unavailable_after_what_was_whole(
    server: Server, api: KubernetesApi
) -> None:
    server.answer(lines(ADDED, BOOKMARK), cut=20)
    seen: list[Any] = []
    with pytest.raises(ExecutorUnavailable, match="watch jobs"):
        seen.extend(api.watch_objects("jobs", "a=b", "7"))
    server.answer(lines(ADDED, BOOKMARK), cut=20)
    watch = api.watch_objects("jobs", "a=b", "7")
    assert next(watch) == ADDED


@pytest.mark.parametrize("is_event", [False, True])
def test_a_version_that_is_too_old_is_told_in_either_way(
    server: Server, api: KubernetesApi, is_event: bool
) -> None:
    status = {"code": 410, "reason": "Expired", "message": "too old resource version: 1 (999)"}
    if is_event:
        server.answer(lines(("ERROR", status)))
    else:
        server.answer(status, 410)
    with pytest.raises(VersionTooOld, match="too old resource version"):
        list(api.watch_objects("jobs", "a=b", "1"))


def test_an_event_of_many_pieces_is_one_event(server: Server, api: KubernetesApi) -> None:
    long = ("MODIFIED", {"metadata": {"name": "a", "annotations": {"x": "ü" * 200_000}}})
    server.answer(lines(ADDED, long, BOOKMARK))
    assert list(api.watch_objects("jobs", "a=b", "7")) == [ADDED, long, BOOKMARK]


# ---- events and logs --------------------------------------------------------------------------


def test_events_come_oldest_first_and_a_missing_right_only_hides_them(
    server: Server, api: KubernetesApi
) -> None:
    early, late = {"lastTimestamp": "2026-01-01T00:00:00Z"}, {"lastTimestamp": "2026-02-01"}
    server.answer({"items": [late, {"lastTimestamp": None}, early]})
    assert api.events("uid-1") == [{"lastTimestamp": None}, early, late]
    path = "/api/v1/namespaces/trials/events"
    query = {"fieldSelector": "involvedObject.uid=uid-1", "limit": "500"}
    assert server.requests == [("GET", path, query)]

    server.refuse(403, "events is forbidden", "Forbidden")
    assert api.events("uid-1") == []
    server.refuse(503)
    with pytest.raises(ExecutorUnavailable):
        api.events("uid-1")


def test_a_log_is_read_as_it_is(server: Server, api: KubernetesApi) -> None:
    server.answer(b"\xff\x00 one\r\n\n\ntwo")
    assert api.read_log("p", tail_lines=5, limit_bytes=9) == b"\xff\x00 one\r\n\n\ntwo"
    query = {"timestamps": "true", "tailLines": "5", "limitBytes": "9"}
    assert server.requests == [("GET", f"{PODS}/p/log", query)]
    server.refuse(404, 'pods "p" not found', "NotFound")
    assert api.read_log("p") == b""
    server.refuse(400, 'container "trial" in pod "p" is waiting to start', "BadRequest")
    assert api.read_log("p") == b""
    server.refuse(500, "Get https://node:10250/containerLogs: dial tcp: no route to host")
    with pytest.raises(ExecutorUnavailable):
        api.read_log("p")


def test_a_log_is_followed_as_it_is(server: Server, api: KubernetesApi) -> None:
    text = b"\xff one\r\n\n\ntwo\rthree" + b"x" * 300_000
    server.answer(text)
    assert b"".join(api.follow_log("p")) == text
    query = {"timestamps": "true", "follow": "true"}
    assert server.requests == [("GET", f"{PODS}/p/log", query)]


def test_a_log_that_cannot_be_followed_says_why(server: Server, api: KubernetesApi) -> None:
    server.refuse(404, 'pods "p" not found', "NotFound")
    with pytest.raises(NotFound):
        list(api.follow_log("p"))


# ---- who may do what --------------------------------------------------------------------------


def test_a_right_is_asked_of_the_server_with_its_group_and_subresource(
    api: KubernetesApi, server: Server
) -> None:
    server.answer({"status": {"allowed": True}}, 201)
    server.answer({"status": {"allowed": False, "reason": "no RBAC policy matched"}}, 201)

    assert api.may(Right("", "pods/log", "get"))
    assert not api.may(Right("batch", "jobs", "create"))

    method, path, _ = server.requests[0]
    assert (method, path) == ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
    asked = [body["spec"]["resourceAttributes"] for body in server.bodies]
    assert asked == [
        {
            "namespace": "trials",
            "group": "",
            "resource": "pods",
            "subresource": "log",
            "verb": "get",
        },
        {
            "namespace": "trials",
            "group": "batch",
            "resource": "jobs",
            "subresource": "",
            "verb": "create",
        },
    ]


def test_the_rules_of_a_user_are_those_of_the_namespace(api: KubernetesApi, server: Server) -> None:
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
    server.answer({"status": {"resourceRules": [rule], "incomplete": False}}, 201)

    assert api.rules() == [rule]
    assert server.bodies == [
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": "trials"},
        }
    ]


def test_the_rules_of_another_namespace_can_be_asked_for(
    api: KubernetesApi, server: Server
) -> None:
    server.answer({"status": {}}, 201)

    assert api.rules("servers") == []
    assert server.bodies[-1]["spec"] == {"namespace": "servers"}
    assert api.own_namespace is None, "no pod"


@pytest.mark.fault("F45")
def test_the_servers_time_is_what_its_answers_say_and_counted_on_by_a_monotonic_clock(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kubeconfig(tmp_path / "config", server.url, monkeypatch)
    clock = FakeClock()
    api = KubernetesApi("trials", clock=clock)
    assert api.server_time() is None
    for date, seconds in (
        ("Thu, 01 Jan 2026 12:00:00 GMT", 1767268800.0),
        ("Thu, 01 Jan 2026 13:00:00 GMT", 1767272400.0),
        ("half past nine", 1767272430.0),
        (None, 1767272460.0),
    ):
        server.date = date
        server.answer({"items": []})
        api.list_objects("jobs", "")
        assert api.server_time() == seconds
        clock.advance(30.0)
    api.close()


@pytest.mark.fault("F11")
def test_what_kueue_says_of_a_job_is_read_where_it_may_be(
    server: Server, api: KubernetesApi
) -> None:
    kueue = "/apis/{}.x-k8s.io/v1beta1/namespaces/trials/{}"
    server.answer({"items": [{"metadata": {"name": "job-a"}}]})
    server.answer({"items": [{"metadata": {"name": "job-a"}, "positionInLocalQueue": 2}]})
    assert api.workload("u-1") == {"metadata": {"name": "job-a"}}
    assert [w["positionInLocalQueue"] for w in api.pending_workloads("team-a")] == [2]
    assert [request[:2] for request in server.requests] == [
        ("GET", kueue.format("kueue", "workloads")),
        ("GET", kueue.format("visibility.kueue", "localqueues/team-a/pendingworkloads")),
    ]
    assert server.requests[0][2]["labelSelector"] == "kueue.x-k8s.io/job-uid=u-1"

    for status in (403, 404):
        server.refuse(status)
        server.refuse(status)
        assert api.workload("u-1") is None
        assert api.pending_workloads("team-a") == []
    server.refuse(503)
    with pytest.raises(ExecutorUnavailable):
        api.workload("u-1")
