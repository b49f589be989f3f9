"""Where a webhook is, and how often a message is tried."""

from __future__ import annotations

import http.client
import http.server
import threading
import urllib.error
from email.message import Message
from pathlib import Path
from typing import ClassVar

import pytest

from studyflow.errors import StudyflowError
from studyflow.observers.webhook import describe_failure, post_json, read_url, send
from studyflow.reasons import Code
from studyflow.spec import NotifySpec

URL = "http://hook/s3cret"


def refusal(code: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError(URL, code, f"no {URL}", Message(), None)


class Hook:
    """Fails as a test wants, then takes the message."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.received: list[bytes] = []
        self.pauses: list[float] = []

    def post(self, url: str, body: bytes) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.received.append(body)

    def send(self) -> None:
        send(self.post, URL, b"{}", self.pauses.append)


@pytest.mark.parametrize(
    "error", [refusal(503), refusal(429), ConnectionResetError(), http.client.BadStatusLine("x")]
)
def test_a_message_is_tried_three_times(error: Exception) -> None:
    hook = Hook(error, error)
    hook.send()
    assert (hook.received, hook.pauses) == ([b"{}"], [1.0, 5.0])

    hook = Hook(*[error] * 3)
    with pytest.raises(type(error)):
        hook.send()
    assert hook.received == []


def test_a_message_that_is_refused_is_not_tried_again() -> None:
    hook = Hook(refusal(404))
    with pytest.raises(urllib.error.HTTPError):
        hook.send()
    assert (hook.received, hook.pauses) == ([], [])


def test_a_failure_is_described_without_the_address() -> None:
    assert describe_failure(refusal(404)) == "HTTP 404"
    refused = urllib.error.URLError(ConnectionRefusedError(111, "Connection refused"))
    assert describe_failure(refused) == "Connection refused"
    assert describe_failure(ValueError(URL)) == "ValueError"


def test_the_address_comes_from_a_variable_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "hook"
    file.write_text("https://hooks.example/x\n")

    assert read_url(NotifySpec(url_env="HOOK"), {"HOOK": "https://h/x"}) == "https://h/x"
    assert read_url(NotifySpec(url_file=str(file))) == "https://hooks.example/x"


@pytest.mark.parametrize(
    "value", ["", "file:///etc/passwd", "s3cret", "http://h/s3cret x", "https://", "http://[s3cret"]
)
def test_an_address_that_is_none_is_told_and_not_shown(value: str) -> None:
    with pytest.raises(StudyflowError, match="Nobody is notified") as refused:
        read_url(NotifySpec(url_env="HOOK"), {"HOOK": value})

    assert "s3cret" not in str(refused.value)
    with pytest.raises(StudyflowError, match="No such file"):
        read_url(NotifySpec(url_file="/nosuch/hook"))


@pytest.mark.parametrize(
    "url",
    ["http://hooks.example/s3cret", "http://10.0.0.7/s3cret", "http://127.0.0.1@hooks.example/x",
     "http://localhost.example/s3cret"],
)  # fmt: skip
def test_an_address_without_tls_is_refused_without_being_shown(url: str, tmp_path: Path) -> None:
    file = tmp_path / "hook"
    file.write_text(url)
    for notify in (NotifySpec(url_env="HOOK"), NotifySpec(url_file=str(file))):
        with pytest.raises(StudyflowError) as refused:
            read_url(notify, {"HOOK": url})
        assert refused.value.code is Code.WEBHOOK_UNENCRYPTED
        assert "allow_http: true" in str(refused.value)
        assert "s3cret" not in str(refused.value)
    allowed = NotifySpec(url_env="HOOK", allow_http=True)
    assert read_url(allowed, {"HOOK": url}) == url


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8:9", "[::1]", "a.localhost"])
def test_an_address_of_this_machine_needs_no_tls(host: str) -> None:
    url = f"http://{host}/x"

    assert read_url(NotifySpec(url_env="HOOK"), {"HOOK": url}) == url


class Redirecting(http.server.BaseHTTPRequestHandler):
    """Sends whoever asks to another place, and keeps what it was sent."""

    seen: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.seen.append(f"POST {self.path}")
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(int(self.path[1:]))
        self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/stolen")  # type: ignore[attr-defined]
        self.end_headers()

    def do_GET(self) -> None:
        self.seen.append(f"GET {self.path}")
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(Redirecting, "seen", [])
    with http.server.HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with pytest.raises(urllib.error.HTTPError) as refused:
                post_json(f"http://127.0.0.1:{server.server_port}/{code}", b"{}")
            with refused.value as error:
                told = describe_failure(error)
        finally:
            server.shutdown()
            thread.join()

    assert Redirecting.seen == [f"POST /{code}"]
    assert told.startswith(f"HTTP {code}, a redirect, which is not followed")
    assert "stolen" not in told
