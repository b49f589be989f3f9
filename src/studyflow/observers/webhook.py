"""A webhook: where it is, and how a message is sent there.

The standard library sends it. `httpx` and `tenacity` would bring several packages into every runner
for one POST and one loop; and the address, which is a secret, would still have to be kept out of
their error messages here.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from studyflow.errors import StudyflowError
from studyflow.reasons import Code
from studyflow.spec import NotifySpec

REQUEST_SECONDS: Final = 10.0
"""Longest wait for a webhook's answer."""

PAUSES_SECONDS: Final = (1.0, 5.0)
"""Pauses before a message is sent again, so there are three tries."""

ANSWER_LIMIT_BYTES: Final = 4096
"""How much of an answer is read."""

Post = Callable[[str, bytes], None]
"""Sends a body to an address; raises `OSError` or `http.client.HTTPException` when it fails."""


def read_url(notify: NotifySpec, environment: Mapping[str, str] | None = None) -> str:
    """Return the address of a study's webhook. It is a secret, and in no error message.

    Args:
        notify: Says where the address is.
        environment: Variables; by default this process's.

    Raises:
        StudyflowError: Nothing is where the study file says, it is no address, or it begins with
            http:// and leads to another machine, without `notify.allow_http`.
    """
    if notify.url_env is not None:
        source = f"the environment variable {notify.url_env} (notify.url_env)"
        url = (os.environ if environment is None else environment).get(notify.url_env, "")
    else:
        source = f"the file {notify.url_file} (notify.url_file)"
        try:
            url = Path(notify.url_file or "").read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text"
            raise StudyflowError(
                f"Nobody is notified: {source} cannot be read: {reason}.",
                hint="is it mounted here, and readable?",
            ) from None
    url = url.strip()
    return _checked(url, source, allow_http=notify.allow_http)


def _checked(url: str, source: str, *, allow_http: bool) -> str:
    """Return an address that messages may be sent to.

    Raises:
        StudyflowError: It is none, or what is sent there could be read on its way.
    """
    if not url:
        raise StudyflowError(
            f"Nobody is notified: {source} is not set or empty.",
            hint="set it where the study runs; trials do not need it.",
        )
    host = _host_of(url)
    if not host or not url.isprintable() or " " in url:
        raise StudyflowError(
            f"Nobody is notified: {source} holds no address that begins with https:// or http://."
        )
    if not (url.startswith("https://") or allow_http or _is_this_machine(host)):
        raise StudyflowError(
            f"Nobody is notified: {source} holds an address that begins with http://, and whoever "
            "is on the way there could read it, and use it.",
            hint="use its https:// address; or write `notify: {allow_http: true}` if it is on a "
            "network that you trust.",
            code=Code.WEBHOOK_UNENCRYPTED,
        )
    return url


def _host_of(url: str) -> str | None:
    """Return the host that an address of a web server names; `None` when it is none."""
    if not url.startswith(("https://", "http://")):
        return None
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def send(post: Post, url: str, body: bytes, pause: Callable[[float], object]) -> None:
    """Send a message, in three tries if need be.

    Args:
        post: Makes one try.
        url: Address of the webhook.
        body: The message.
        pause: Waits for some seconds.

    Raises:
        OSError: Nothing answers in time, or the webhook refuses.
        http.client.HTTPException: The answer is no HTTP.
    """
    for seconds in PAUSES_SECONDS:
        try:
            post(url, body)
            return
        except (OSError, http.client.HTTPException) as error:
            if _is_refused(error):
                raise
        pause(seconds)
    post(url, body)


def post_json(url: str, body: bytes) -> None:
    """Send a body to a webhook, in one try.

    A redirect is an error. It would turn the message into a question without content, and may lead
    to where everybody can read it.

    Raises:
        OSError: It does not answer in time, refuses, or redirects.
        http.client.HTTPException: The answer is no HTTP.
    """
    request = urllib.request.Request(
        url, data=body, headers={"Content-Type": "application/json; charset=utf-8"}, method="POST"
    )
    opener = urllib.request.build_opener(_NoRedirects)
    with opener.open(request, timeout=REQUEST_SECONDS) as answer:
        answer.read(ANSWER_LIMIT_BYTES)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Return that there is nothing to follow."""


def describe_failure(error: Exception) -> str:
    """Return what went wrong, without the address: libraries put it into some of their texts."""
    if isinstance(error, urllib.error.HTTPError):
        is_redirect = 300 <= error.code < 400
        more = ", a redirect, which is not followed: use the address that it leads to"
        return f"HTTP {error.code}{more if is_redirect else ''}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    text = cause.strerror if isinstance(cause, OSError) else None
    return text or type(cause).__name__


def _is_refused(error: Exception) -> bool:
    """Return whether the same message would be refused again."""
    return isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != 429
