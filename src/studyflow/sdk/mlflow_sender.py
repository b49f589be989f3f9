"""Sends metrics to an MLflow run from a background thread, by plain HTTP.

MLflow's own client takes a second to import, is not in every image and by default blocks for two
minutes on a server that does not answer. A training must neither wait nor fail for its charts.
"""

from __future__ import annotations

import base64
import http.client
import json
import math
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from studyflow.trial import MetricPoint

BATCH_POINTS: Final = 1000
"""Most points of one request: MLflow's limit."""

QUEUE_POINTS: Final = 50_000
"""Most unsent points kept, a few MB. Beyond it the oldest are dropped: the newest show whether
the training still makes sense."""

BATCH_SECONDS: Final = 1.0
"""Points are gathered for this long before a request: a server takes 30 ms for one as for fifty."""

REQUEST_SECONDS: Final = 10.0
"""Longest wait for the answer to one request."""

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0
"""Pause after failed requests, doubled up to the second of these."""

_WORTH_ANOTHER_TRY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})

Post = Callable[[str, bytes, Mapping[str, str], float], None]
"""Sends a body to an address with headers and a time limit; raises `OSError` when that fails."""


def credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the headers for MLflow's usual variables: a token, or user and password."""
    if token := environment.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    user = environment.get("MLFLOW_TRACKING_USERNAME")
    password = environment.get("MLFLOW_TRACKING_PASSWORD")
    if user and password:
        encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
        return {"Authorization": f"Basic {encoded}"}
    return {}


def encode_batch(run_id: str, points: Sequence[MetricPoint]) -> bytes:
    """Return the body of a `log-batch` request."""
    return json.dumps(
        {
            "run_id": run_id,
            "metrics": [
                {
                    "key": point.name,
                    "value": _encode(point.value),
                    "timestamp": point.timestamp_ms,
                    "step": point.step,
                }
                for point in points
            ],
        }
    ).encode()


def _encode(value: float) -> float | str:
    """Return a float as JSON for protocol buffers has it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


class MlflowSender:
    """A bounded queue and the daemon thread that empties it.

    Sending a point twice stores it once, so an unanswered request is simply repeated.

    Args:
        uri: Tracking URI, `http` or `https`.
        run_id: The run that the metrics belong to.
        headers: Credentials.
        post: Sends one request.
    """

    def __init__(
        self, uri: str, run_id: str, headers: Mapping[str, str], post: Post | None = None
    ) -> None:
        self._address = f"{uri.rstrip('/')}/api/2.0/mlflow/runs/log-batch"
        self._run_id = run_id
        self._headers = {"Content-Type": "application/json", **headers}
        self._post = post or _post
        self._queue: deque[MetricPoint] = deque()
        self._changed = threading.Condition()
        self._in_flight = False
        self._hurry = False
        self._dropped = 0
        self.is_refused = False
        """Whether MLflow refused the last points that it was sent: they are lost."""
        self._has_warned = False
        self._thread: threading.Thread | None = None

    def put(self, points: Sequence[MetricPoint]) -> None:
        """Queue points; returns at once."""
        with self._changed:
            self._queue.extend(points)
            while len(self._queue) > QUEUE_POINTS:
                self._queue.popleft()
                self._dropped += 1
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="studyflow-mlflow", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until everything is sent; return whether it was in time."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            while self._queue or self._in_flight:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    self._warn(f"{len(self._queue)} metric points did not reach MLflow in time")
                    break
                self._changed.wait(remaining)
            self._hurry = False
            return not self._queue and not self._in_flight

    def _run(self) -> None:
        pause = 0.0
        while True:
            batch = self._next_batch(pause)
            try:
                self._post(
                    self._address,
                    encode_batch(self._run_id, batch),
                    self._headers,
                    REQUEST_SECONDS,
                )
            except Exception as error:  # noqa: BLE001 - later points may get through
                sent = self.is_refused = is_refused(error)
                self._warn(f"MLflow does not take metrics: {why_refused(error)}")
                pause = min(max(2 * pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
                if sent:
                    pause = 0.0
            else:
                sent, pause, self.is_refused = True, 0.0, False
            with self._changed:
                if not sent:
                    self._queue.extendleft(reversed(batch))
                self._in_flight = False
                self._changed.notify_all()

    def _next_batch(self, pause: float) -> list[MetricPoint]:
        """Wait for points, then a moment for more of them; take a batch."""
        with self._changed:
            while not self._queue:
                self._changed.wait()
            not_before = time.monotonic() + max(pause, BATCH_SECONDS)
            while len(self._queue) < BATCH_POINTS or pause:
                # After a failure a flush shortens the pause, it does not make a busy loop.
                limit = min(pause, 0.2) if self._hurry else not_before - time.monotonic()
                if limit <= 0:
                    break
                self._changed.wait(limit)
                if self._hurry:
                    break
                if time.monotonic() >= not_before:
                    break
            self._in_flight = True
            return [self._queue.popleft() for _ in range(min(BATCH_POINTS, len(self._queue)))]

    def _warn(self, text: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            sys.stderr.write(f"studyflow: {text[:300]}; the training goes on.\n")


def is_refused(error: Exception) -> bool:
    """Return whether the server understood the request and would refuse it again."""
    return isinstance(error, urllib.error.HTTPError) and error.code not in _WORTH_ANOTHER_TRY


def why_refused(error: Exception) -> str:
    """Return what went wrong; of what MLflow refuses in its own words.

    They say whether a token has expired, is another trial's, or its attempt was replaced.
    """
    if not isinstance(error, urllib.error.HTTPError):
        return str(error)
    try:
        with error:
            words = json.loads(error.read(4096))["message"]
    except (OSError, ValueError, LookupError, TypeError, http.client.HTTPException):
        return str(error)
    return f"{error}: {' '.join(str(words).split())}"


def _post(address: str, body: bytes, headers: Mapping[str, str], timeout_seconds: float) -> None:
    request = urllib.request.Request(address, data=body, headers=dict(headers), method="POST")
    with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:
        answer.read(65536)
