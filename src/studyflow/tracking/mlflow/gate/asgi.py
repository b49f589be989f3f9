"""The gate itself: stands before MLflow's server, and judges requests that bring a trial's token.

All other requests go on to MLflow's login as they are.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from studyflow.tracking.mlflow.gate import requests
from studyflow.tracking.mlflow.gate.calls import AllowedCall, find_call
from studyflow.tracking.mlflow.gate.facts import Lookup
from studyflow.tracking.mlflow.gate.holder import CallRefused, Holder
from studyflow.tracking.mlflow.gate.rules import Fields
from studyflow.trial.run_token import RunToken, TokenFault, read_token

_log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

DRAINED_BYTES: Final = 64 << 20
"""How much of a refused upload is read, so that its client sees the answer and no broken
connection."""

_FAULTS: Final = {
    TokenFault.MALFORMED: "This is no token of a trial.",
    TokenFault.FORGED: "This token was not made with this server's key.",
    TokenFault.EXPIRED: "This token has expired: its trial should have ended long ago.",
}


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What of a request goes on to the server."""

    query: bytes = b""
    body: bytes = b""
    """Empty for a file too, which is passed on as it comes."""


class Gate:
    """An ASGI application around MLflow's with its login.

    Args:
        inner: MLflow's application.
        key: The key that tokens are signed with.
        lookup: What MLflow's store knows.
        identity: The `Authorization` by which the inner application knows the gate.
        prefix: What the server's paths begin with (`--static-prefix`).
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        inner: App,
        *,
        key: str,
        lookup: Lookup,
        identity: str,
        prefix: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._inner = inner
        self._key = key
        self._lookup = lookup
        self._identity = identity.encode()
        self._prefix = prefix.rstrip("/")
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] not in ("http", "websocket") or not _brings_token(scope):
            await self._inner(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._judge(scope, receive, send)

    async def _judge(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(receive)
        try:
            token = self._token(scope)
            call, named = find_call(scope["method"], self._path(scope))
            has_message = call.method != "GET" and not call.streams
            # Of a GET it is left out, but read: unread it would look like another request.
            content = b"" if call.streams else await body.read()
            forwarded = await _in_thread(
                lambda: self._decide(token, call, named, scope["query_string"], content)
            )
        except CallRefused as refused:
            _log.warning(
                "Refused %s %s with a trial's token: %s",
                scope["method"],
                ascii(scope["path"][:200]),
                refused.message,
            )
            await body.drain()
            await _answer(send, refused)
            return
        inner = {
            **scope,
            "raw_path": quote(scope["path"]).encode("ascii"),
            "query_string": forwarded.query,
            "headers": requests.forwarded_headers(
                scope["headers"],
                self._identity,
                body=forwarded.body if has_message else None,
                is_file=call.streams,
            ),
        }
        rest = receive if call.streams else _replayed(forwarded.body, receive)
        await self._inner(inner, rest, send)

    def _decide(
        self, token: RunToken, call: AllowedCall, named: Fields, query: bytes, content: bytes
    ) -> Forwarded:
        """Return what goes on to the server.

        Raises:
            CallRefused: Nothing does.
        """
        holder = Holder(token, self._lookup)
        fields: Fields = {}
        if call.proto is not None and call.method == "GET":
            fields = requests.read_query(call.proto, query)
        elif call.proto is not None:
            fields = requests.read_body(call.proto, content)
        passed = call.rule({**fields, **named}, holder)
        if call.method == "GET":
            return Forwarded(query=requests.query_of(passed) if call.proto is not None else b"")
        return Forwarded(body=b"" if call.streams else json.dumps(passed).encode())

    def _token(self, scope: Scope) -> RunToken:
        values = _authorizations(scope)
        text = values[0].partition(" ")[2].strip() if len(values) == 1 else ""
        read = read_token(text, self._key, self._clock())
        if isinstance(read, TokenFault):
            raise CallRefused(_FAULTS[read], error_code="UNAUTHENTICATED", status=401)
        return read

    def _path(self, scope: Scope) -> str:
        path = str(scope["path"])
        if self._prefix and path.startswith(f"{self._prefix}/"):
            return path[len(self._prefix) :]
        return path


def _authorizations(scope: Scope) -> list[str]:
    return [
        value.decode("latin-1").strip()
        for name, value in scope["headers"]
        if name.lower() == b"authorization"
    ]


def _brings_token(scope: Scope) -> bool:
    return any(value.lower().split(" ")[0] == "bearer" for value in _authorizations(scope))


class _Body:
    """The body of a request, which is read once."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_complete = False

    async def read(self) -> bytes:
        """Return all of it.

        Raises:
            CallRefused: It is too long.
        """
        content = b"".join([piece async for piece in self._pieces(requests.BODY_LIMIT_BYTES)])
        if not self._is_complete:
            raise CallRefused(
                f"The body is longer than {requests.BODY_LIMIT_BYTES >> 20} MiB.",
                error_code="INVALID_PARAMETER_VALUE",
                status=413,
            )
        return content

    async def drain(self) -> None:
        """Read what is left of it, up to a limit."""
        async for _ in self._pieces(DRAINED_BYTES):
            pass

    async def _pieces(self, limit_bytes: int) -> AsyncIterator[bytes]:
        size = 0
        while not self._is_complete and size <= limit_bytes:
            event = await self._receive()
            piece = event.get("body", b"")
            size += len(piece)
            self._is_complete = event["type"] != "http.request" or not event.get("more_body")
            yield piece


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body, and then what the connection says."""
    events: list[Event] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Event:
        return events.pop() if events else await receive()

    return replay


async def _answer(send: Send, refused: CallRefused) -> None:
    body = json.dumps({"error_code": refused.error_code, "message": refused.message}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _in_thread(decide: Callable[[], Forwarded]) -> Forwarded:
    import anyio.to_thread

    return await anyio.to_thread.run_sync(decide)
