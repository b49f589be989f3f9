"""What a trial sends to its MLflow run itself, where it shares no folder with its runner."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from studyflow.trial import MetricPoint, TrackingRef

if TYPE_CHECKING:
    from studyflow.sdk.mlflow_artifacts import ArtifactUploader
    from studyflow.sdk.mlflow_sender import MlflowSender

FLUSH_SECONDS: Final = 10.0
"""Longest wait for MLflow when the script finishes or ends; metrics still unsent then are lost."""


def is_reachable(tracking: TrackingRef | None) -> bool:
    """Return whether a trial can write to a run: a folder or database is the runner's alone."""
    return tracking is not None and tracking.uri.startswith(("http://", "https://"))


class MlflowLink:
    """Sends the metrics and artifacts of one process to a run. Clients are imported when needed.

    Args:
        tracking: The run, on a server; see `is_reachable`.
        environment: Variables that hold the credentials.
    """

    def __init__(self, tracking: TrackingRef, environment: Mapping[str, str]) -> None:
        self._tracking = tracking
        self._environment = environment
        self._lock = threading.RLock()
        self._sender: MlflowSender | None = None
        self._uploader: ArtifactUploader | None = None
        self._flush_seconds_left = FLUSH_SECONDS

    def report(self, points: Sequence[MetricPoint]) -> None:
        """Send points in the background."""
        with self._lock:
            if self._sender is None:
                from studyflow.sdk.mlflow_sender import MlflowSender, credentials

                self._sender = MlflowSender(
                    self._tracking.uri, self._tracking.run_id, credentials(self._environment)
                )
        self._sender.put(points)

    def upload(self, path: Path, name: PurePosixPath) -> None:
        """Upload a file or folder; what does not get there is told, and no error."""
        with self._lock:
            if self._uploader is None:
                from studyflow.sdk.mlflow_artifacts import ArtifactUploader
                from studyflow.sdk.mlflow_sender import credentials

                self._uploader = ArtifactUploader(
                    self._tracking.uri, self._tracking.run_id, credentials(self._environment)
                )
        self._uploader.upload(path, name)

    def flush(self) -> bool:
        """Return whether MLflow has all metrics; all waits of a process together are bounded."""
        if self._sender is None:
            return True
        began = time.monotonic()
        is_sent = self._sender.flush(self._flush_seconds_left)
        self._flush_seconds_left = max(0.0, self._flush_seconds_left - (time.monotonic() - began))
        return is_sent and not self._sender.is_refused

    def close(self) -> None:
        """Close the connections."""
        if self._uploader is not None:
            self._uploader.close()
