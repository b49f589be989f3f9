"""Uploads files to an MLflow run by plain HTTP, where trial and runner share no file system.

Uploads are synchronous: a script may overwrite a file as soon as `artifact` has returned, and a
thread that reads it later would have to copy it first, which a pod may have no room for. So a
training does wait for its artifacts, but each wait is bounded, an MLflow that does not answer costs
little after the first time, and nothing that goes wrong reaches the training.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final, TypeVar
from urllib.parse import quote, urlsplit

from studyflow.background import Background, NoAnswer
from studyflow.sdk.mlflow_sender import is_refused
from studyflow.trial.user_files import Artifact, gather, open_file

UPLOAD_SECONDS: Final = 600.0
"""Longest upload of one file or folder; what is unsent then is left out. Enough for 5 GB over
100 Mbit/s."""

ASK_SECONDS: Final = 10.0
"""Longest wait for the answer to where a run's artifacts belong. This is the first request, and the
first again after a failure: so an MLflow that hangs costs this much for each artifact."""

STALL_SECONDS: Final = 60.0
"""Longest wait for an upload to go on, and for its answer: a server may first pass a large file on
to an object store."""

PAUSES_SECONDS: Final = (1.0, 2.0)
"""Pauses before a request is repeated, so there are three tries; only one while MLflow is down."""

CHUNK_BYTES: Final = 256 * 1024

MOST_WARNINGS: Final = 20
"""Most lines about what was left out of artifacts."""

_SERVED: Final = "/api/2.0/mlflow-artifacts/artifacts"

_Result = TypeVar("_Result")


class _NotSentError(Exception):
    """Something did not reach MLflow; the next file may. The message is the reason."""


class _UnreachableError(_NotSentError):
    """MLflow does not answer or the time is over: the next file would not reach it either."""


def upload_address(tracking_uri: str, artifact_uri: str) -> str | None:
    """Return the address below which a run's artifacts are uploaded by PUT.

    `None` where MLflow's server does not take them: each client writes to the store by itself.

    Args:
        tracking_uri: Where MLflow answers, `http` or `https`.
        artifact_uri: Where the run says that its artifacts are.
    """
    address = urlsplit(artifact_uri)
    if address.scheme in ("http", "https"):
        return artifact_uri.rstrip("/")
    if address.scheme != "mlflow-artifacts":
        return None
    server = urlsplit(tracking_uri)
    path = address.path.removeprefix(_SERVED).strip("/")
    root = f"{server.scheme}://{address.netloc or server.netloc}{server.path.rstrip('/')}{_SERVED}"
    return f"{root}/{quote(path, safe='/%')}".rstrip("/")


class ArtifactUploader:
    """Uploads the artifacts of one run, from any thread; never raises.

    Args:
        uri: Tracking URI, `http` or `https`.
        run_id: The run that the artifacts belong to.
        headers: Credentials.
    """

    def __init__(self, uri: str, run_id: str, headers: Mapping[str, str]) -> None:
        self._uri = uri.rstrip("/")
        self._run_id = run_id
        self._headers = dict(headers)
        self._artifact_uri: str | None = None
        self._is_down = False
        self._lock = threading.Lock()
        self._failed = 0
        self._left_out: set[str] = set()

    def upload(self, path: Path, name: PurePosixPath) -> None:
        """Upload a file, or all files below a folder, as artifacts of that name.

        Returns when they are there, when MLflow will not have them, or when `UPLOAD_SECONDS` are
        over and the request at that moment has stalled.
        """
        deadline = time.monotonic() + UPLOAD_SECONDS
        found = gather([(real := path.resolve(), "", real)])
        if found.n_left_out:
            self._tell_of_left_out(name, found.describe_left_out())
        if not found.files:
            return
        try:
            artifact_uri = self._artifact_uri or self._ask_artifact_uri(deadline)
            address = upload_address(self._uri, artifact_uri)
            if address is None:
                self._log_with_client(artifact_uri, found.files, name, deadline)
            else:
                self._put_all(address, found.files, name, deadline)
        except Exception as error:  # noqa: BLE001 - no chart or model is worth a training
            self._tell(name, _reason(error))

    def close(self) -> None:
        """Say how many artifacts are missing if it was said of the first only."""
        if self._failed > 1:
            _warn(f"{self._failed} artifacts in all did not reach MLflow.")

    def _ask_artifact_uri(self, deadline: float) -> str:
        """Return where the run's artifacts belong, and remember it until MLflow fails."""
        address = f"{self._uri}/api/2.0/mlflow/runs/get?run_id={quote(self._run_id, safe='')}"

        def ask() -> bytes:
            request = urllib.request.Request(address, headers=self._headers)
            with urllib.request.urlopen(request, timeout=ASK_SECONDS) as answer:
                content: bytes = answer.read()
                return content

        answer = self._repeat(ask, deadline)
        try:
            found = json.loads(answer)["run"]["info"]["artifact_uri"]
        except (ValueError, LookupError, TypeError):
            found = None
        if not found or not isinstance(found, str):
            raise _NotSentError(f"what answers at {self._uri} is not MLflow")
        self._artifact_uri = found
        return found

    def _put_all(
        self, address: str, files: Sequence[Artifact], name: PurePosixPath, deadline: float
    ) -> None:
        problems = []
        for file in files:
            try:
                self._put_file(address, file, name / file.name, deadline)
            except _UnreachableError as error:
                where = f"at {file.name}: " if file.name else ""
                raise _UnreachableError(f"{where}{error}") from error
            except (_NotSentError, OSError, ValueError) as error:
                if not file.name:
                    raise
                problems.append(f"{file.name}: {_reason(error)}")
        if problems:
            raise _NotSentError(f"{len(problems)} of {len(files)} files, the first {problems[0]}")

    def _put_file(self, address: str, file: Artifact, name: PurePosixPath, deadline: float) -> None:
        target = f"{address}/{quote(name.as_posix(), safe='/')}"
        with open_file(file.path) as stream:
            self._repeat(lambda: self._put(target, stream, deadline), deadline)

    def _put(self, address: str, stream: BinaryIO, deadline: float) -> None:
        stream.seek(0)
        size = os.fstat(stream.fileno()).st_size
        headers = {
            **self._headers,
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
        }
        request = urllib.request.Request(
            address, data=_chunks(stream, size, deadline), headers=headers, method="PUT"
        )
        with urllib.request.urlopen(request, timeout=STALL_SECONDS) as answer:
            answer.read(65536)

    def _repeat(self, ask: Callable[[], _Result], deadline: float) -> _Result:
        """Return what a request returns; repeat it while that may help.

        Raises:
            _NotSentError: It was refused, for good.
        """
        pauses = iter(() if self._is_down else PAUSES_SECONDS)
        while True:
            try:
                result = ask()
            except (OSError, http.client.HTTPException) as error:
                reason = _reason(error)
                if is_refused(error):
                    self._is_down = False
                    raise _NotSentError(reason) from error
                pause = next(pauses, None)
                if pause is None or time.monotonic() + pause > deadline:
                    self._is_down, self._artifact_uri = True, None
                    raise _UnreachableError(reason) from error
                time.sleep(pause)
            else:
                self._is_down = False
                return result

    def _log_with_client(
        self, artifact_uri: str, files: Sequence[Artifact], name: PurePosixPath, deadline: float
    ) -> None:
        scheme = urlsplit(artifact_uri).scheme
        way_out = "start the server with `mlflow server --serve-artifacts`"
        if scheme in ("", "file"):
            # MLflow's client would write them to a folder of this machine.
            raise _NotSentError(f"the run keeps them in a folder of its server: {way_out}")
        try:
            mlflow = importlib.import_module("mlflow")
        except ImportError as error:
            raise _NotSentError(
                f"the run keeps them in {scheme}: and its server does not pass them on: "
                f"{way_out}, or install mlflow in the trial's image"
            ) from error
        client = mlflow.MlflowClient(tracking_uri=self._uri)
        try:
            _within(
                deadline - time.monotonic(),
                lambda: _log_artifacts(client, self._run_id, files, name),
            )
        except ImportError as error:  # such as boto3, which MLflow does not bring
            raise _NotSentError(
                f"{scheme}: needs more than mlflow in the trial's image ({error}): install that, "
                f"or {way_out}"
            ) from error

    def _tell_of_left_out(self, name: PurePosixPath, left_out: str) -> None:
        with self._lock:
            is_news = left_out not in self._left_out and len(self._left_out) < MOST_WARNINGS
            self._left_out.add(left_out)
        if is_news:
            _warn(f"artifact {str(name)!r}: left out {left_out}; the training goes on.")

    def _tell(self, name: PurePosixPath, reason: str) -> None:
        with self._lock:
            self._failed += 1
            is_first = self._failed == 1
        if is_first:
            _warn(f"artifact {str(name)!r} did not reach MLflow: {reason}; the training goes on.")


def _log_artifacts(
    client: Any, run_id: str, files: Sequence[Artifact], name: PurePosixPath
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="studyflow-artifact-") as staged:
        # The client takes names from files and all that it finds in a folder: so it finds links of
        # the right names to what is kept.
        for file in files:
            link = Path(staged) / (file.name or name.name)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.path)
        if files[0].name:
            client.log_artifacts(run_id, staged, str(name))
        else:
            folder = None if name.parent == PurePosixPath() else str(name.parent)
            client.log_artifact(run_id, str(link), folder)


def _within(seconds: float, work: Callable[[], None]) -> None:
    """Do something that may hang; stop waiting for it in time."""
    try:
        Background("studyflow-artifact", work).result(seconds)
    except NoAnswer as error:
        raise _UnreachableError(_too_long()) from error


def _chunks(stream: BinaryIO, size: int, deadline: float) -> Iterator[bytes]:
    """Yield the first bytes of a file, as many as were announced: it may grow meanwhile."""
    left = size
    while left:
        if time.monotonic() > deadline:
            raise _UnreachableError(_too_long())
        chunk = stream.read(min(CHUNK_BYTES, left))
        if not chunk:
            raise _NotSentError("it became shorter while it was sent")
        left -= len(chunk)
        yield chunk


def _too_long() -> str:
    return f"it took longer than {UPLOAD_SECONDS:g} s"


def _reason(error: BaseException) -> str:
    """Return a short text of what went wrong; of an HTTP error with what the server says."""
    if isinstance(error, urllib.error.HTTPError):
        with error, contextlib.suppress(OSError, http.client.HTTPException):
            return _shown(f"HTTP {error.code} {error.reason}: {_message(error.read(4096))}")
        return f"HTTP {error.code} {error.reason}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    text = _shown(str(cause)) or type(cause).__name__
    if isinstance(cause, BrokenPipeError | ConnectionResetError):
        # A proxy that finds a body too large answers and hangs up before it was sent.
        text += " (is there a limit to the size of a request, such as an ingress has?)"
    return text


def _message(body: bytes) -> str:
    """Return MLflow's message from a JSON answer, or the text itself."""
    with contextlib.suppress(ValueError, LookupError, TypeError):
        return str(json.loads(body)["message"])
    return body.decode(errors="replace")


def _shown(text: str) -> str:
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain.rstrip(".: ")[:300]


def _warn(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"studyflow: {text}\n")
