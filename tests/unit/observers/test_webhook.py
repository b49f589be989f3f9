"""Where a webhook is, and how often a message is tried."""

from __future__ import annotations

import http.client
import urllib.error
from email.message import Message
from pathlib import Path

import pytest

from studyflow.errors import StudyflowError
from studyflow.observers.webhook import describe_failure, read_url, send
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

    assert read_url(NotifySpec(url_env="HOOK"), {"HOOK": "http://h/x"}) == "http://h/x"
    assert read_url(NotifySpec(url_file=str(file))) == "https://hooks.example/x"


@pytest.mark.parametrize("value", ["", "file:///etc/passwd", "s3cret", "http://h/s3cret x"])
def test_an_address_that_is_none_is_told_and_not_shown(value: str) -> None:
    with pytest.raises(StudyflowError, match="Nobody is notified") as refused:
        read_url(NotifySpec(url_env="HOOK"), {"HOOK": value})

    assert "s3cret" not in str(refused.value)
    with pytest.raises(StudyflowError, match="No such file"):
        read_url(NotifySpec(url_file="/nosuch/hook"))
