"""The web server of the live pages: this machine alone, and only for who has its token.

Every request needs the token, as a cookie that the address printed at the start sets: other users
of this machine can reach the port too. `Host` must be an address of this machine, so that no other
site's name can be pointed at it; a request that changes something needs a header of ours as well,
which no page of another site can send.
"""

from __future__ import annotations

import http
import logging
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

from studyflow.errors import StorageUnavailable, StudyflowError, StudyNotFound
from studyflow.live import elsewhere, pages
from studyflow.live.pages import Unreadable
from studyflow.live.states import Standing
from studyflow.live.studies import Studies
from studyflow.storage import redacted
from studyflow.trial.record import TrialRecord

_log = logging.getLogger(__name__)

OUR_HEADER: Final = "X-Studyflow"
"""Comes with each request that changes something; another site's page cannot send it."""

_HOSTS: Final = ("127.0.0.1", "localhost", "[::1]")
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "frame-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)
_STUDY: Final = r"/studies/(?P<study>[^/]+)"
_TRIAL: Final = _STUDY + r"/trials/(?P<trial>\d{1,9})"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets."""

    body: bytes = b""
    kind: str = "text/html; charset=utf-8"
    status: int = http.HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
    policy: str | None = _POLICY
    """What the page may load; `None` for a page that says so itself."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for, after the token was checked."""

    studies: Studies
    names: Mapping[str, str]
    """Parts of the path."""
    query: Mapping[str, list[str]]

    @property
    def study(self) -> str:
        """Name of the study."""
        return unquote(self.names["study"])

    @property
    def standing(self) -> Standing:
        """How the study stands."""
        return self.studies.standing(self.study)

    @property
    def version(self) -> str:
        """Changes when the study's report would."""
        return self.studies.version(self.study)

    @property
    def record(self) -> TrialRecord:
        """The trial.

        Raises:
            StudyNotFound: The study has none of that number.
        """
        number = int(self.names["trial"])
        for record in self.standing.data.records:
            if record.number == number:
                return record
        raise StudyNotFound(f"The study {self.study!r} has no trial {number}.")


def _page(text: str) -> Answer:
    return Answer(text.encode(errors="replace"))


def _to(address: str) -> Answer:
    return Answer(status=http.HTTPStatus.SEE_OTHER, headers={"Location": address})


def _all(request: Request) -> list[Standing | Unreadable]:
    found: list[Standing | Unreadable] = []
    for name in request.studies.names():
        try:
            found.append(request.studies.standing(name))
        except StudyflowError as error:
            found.append(Unreadable(name, error.message))
    return found


def _log_piece(request: Request) -> Answer:
    offsets = request.query.get("offset", [])
    offset = int(offsets[0]) if offsets and offsets[0].isdecimal() else None
    record = request.record
    piece = request.studies.log(request.study, record, offset)
    headers = {
        "X-Next-Offset": str(piece.next_offset),
        "X-Is-Over": "1" if record.state.is_finished else "0",
    }
    return Answer(piece.text.encode(), "text/plain; charset=utf-8", headers=headers)


def _report(request: Request) -> Answer:
    return Answer(request.studies.report(request.study), policy=None)


def _asset(request: Request) -> Answer:
    name = request.names["name"]
    kind = "text/css" if name.endswith(".css") else "text/javascript"
    return Answer(pages.asset(name).encode(), f"{kind}; charset=utf-8")


def _change(act: Callable[[Request], None]) -> Callable[[Request], Answer]:
    def answer(request: Request) -> Answer:
        act(request)
        return _page(pages.study_part(request.standing, request.version))

    return answer


_READS: Final[Mapping[str, Callable[[Request], Answer]]] = {
    "/": lambda r: _page(pages.list_page(_all(r), redacted(r.studies.settings.storage_url))),
    "/part": lambda r: _page(pages.list_part(_all(r))),
    r"/static/(?P<name>[a-z.]+)": _asset,
    _STUDY: lambda r: _page(pages.study_page(r.standing, r.version)),
    _STUDY + "/part": lambda r: _page(pages.study_part(r.standing, r.version)),
    _STUDY + "/report": _report,
    _STUDY + "/mlflow": lambda r: _to(
        elsewhere.study_in_mlflow(r.studies.settings, r.study, r.standing.data.records)
    ),
    _STUDY + "/prefect": lambda r: _to(elsewhere.study_in_prefect(r.studies.settings, r.study)),
    _TRIAL: lambda r: _page(pages.trial_page(r.standing, r.record)),
    _TRIAL + "/part": lambda r: _page(pages.trial_part(r.standing, r.record)),
    _TRIAL + "/log": _log_piece,
    _TRIAL + "/mlflow": lambda r: _to(elsewhere.trial_in_mlflow(r.studies.settings, r.record)),
}
_CHANGES: Final[Mapping[str, Callable[[Request], Answer]]] = {
    _STUDY + "/pause": _change(lambda r: r.studies.set_paused(r.study, True)),
    _STUDY + "/resume": _change(lambda r: r.studies.set_paused(r.study, False)),
    _STUDY + "/stop": _change(lambda r: r.studies.stop(r.study)),
}


class LiveServer:
    """Serves the live pages from a thread until it is left.

    Args:
        studies: What is shown.
        port: Where to listen on this machine; 0 for any free one.
        token: What a person must have; drawn by default.

    Raises:
        OSError: The port is taken.
    """

    def __init__(self, studies: Studies, port: int = 0, token: str | None = None) -> None:
        self.token = token or secrets.token_urlsafe(24)
        self._studies = studies
        self._server = _Server(("127.0.0.1", port), _handler(studies, self.token))
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="studyflow-live", daemon=True
        )

    @property
    def address(self) -> str:
        """The address of the pages, without the token."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def way_in(self) -> str:
        """The address to open first: it holds the token."""
        return f"{self.address}/?token={self.token}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._studies.close()


class _Server(ThreadingHTTPServer):
    """A thread for each request; one that fails ends its connection and nothing else."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Log what went wrong instead of printing it between what a person reads."""
        _log.warning("a request to the live pages failed", exc_info=True)


def answer(
    method: str, path: str, headers: Mapping[str, str], studies: Studies, token: str
) -> Answer:
    """Return what a request gets.

    Args:
        method: `GET` or `POST`.
        path: Path and query, as sent.
        headers: Headers by name.
        studies: What is shown.
        token: What the request must have.
    """
    parts = urlsplit(path)
    query = parse_qs(parts.query)
    host = headers.get("Host") or ""
    if host.rpartition(":")[0] not in _HOSTS and host not in _HOSTS:
        return _refusal(f"This address is not one of this machine: {host[:80]}")
    cookie = f"studyflow-{host.rpartition(':')[2]}"
    if method == "GET" and _is_equal(query.get("token", [""])[0], token):
        # The token leaves the address at once: addresses end in histories and screenshots.
        kept = f"{cookie}={token}; HttpOnly; SameSite=Strict; Path=/"
        return Answer(
            status=http.HTTPStatus.SEE_OTHER, headers={"Location": parts.path, "Set-Cookie": kept}
        )
    if not _is_equal(_cookie(headers.get("Cookie") or "", cookie), token):
        return _refusal("Open the address that `studyflow ui` printed: it holds this page's key.")
    if method == "POST" and headers.get(OUR_HEADER) is None:
        return _refusal(f"A request that changes something needs the header {OUR_HEADER}.")
    routes = _READS if method == "GET" else _CHANGES
    for pattern, act in routes.items():
        if (match := re.fullmatch(pattern, parts.path)) is not None:
            return _acted(act, Request(studies, match.groupdict(), query))
    return _message(http.HTTPStatus.NOT_FOUND, "Not found", "There is no such page.")


def _acted(act: Callable[[Request], Answer], request: Request) -> Answer:
    """Return the answer, or a page that says why there is none."""
    try:
        return act(request)
    except (StudyNotFound, FileNotFoundError) as error:
        return _message(http.HTTPStatus.NOT_FOUND, "Not found", str(error))
    except StorageUnavailable as error:
        return _message(http.HTTPStatus.SERVICE_UNAVAILABLE, "The storage is away", str(error))
    except StudyflowError as error:
        return _message(http.HTTPStatus.CONFLICT, "Not possible", str(error))


def _refusal(text: str) -> Answer:
    return _message(http.HTTPStatus.FORBIDDEN, "No entry", text)


def _message(status: http.HTTPStatus, title: str, text: str) -> Answer:
    return Answer(pages.message_page(title, text).encode(errors="replace"), status=status)


def _cookie(sent: str, name: str) -> str:
    try:
        found = SimpleCookie(sent).get(name)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _is_equal(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(errors="replace"), token.encode())


def _handler(studies: Studies, token: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Passes requests to `answer`."""

        # Version 1.0 of HTTP: with a connection for each request, none outlives the server.
        server_version, sys_version = "studyflow", ""

        def do_GET(self) -> None:
            self._respond("GET")

        def do_POST(self) -> None:
            self._respond("POST")

        def _respond(self, method: str) -> None:
            found = answer(method, self.path, self.headers, studies, token)  # type: ignore[arg-type]
            self.send_response(found.status)
            headers = {
                "Content-Type": found.kind,
                "Content-Length": str(len(found.body)),
                "Cache-Control": "no-store",
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
                "X-Frame-Options": "SAMEORIGIN",
                **({"Content-Security-Policy": found.policy} if found.policy else {}),
                **found.headers,
            }
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(found.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep requests off the terminal."""

    return Handler
