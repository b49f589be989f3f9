"""Reads a trial's log back from its run."""

from __future__ import annotations

import tempfile
from pathlib import Path

from studyflow.tracking.mlflow.artifacts import LOG_NAME
from studyflow.tracking.mlflow.client import Connection


def read_log(uri: str, run_id: str) -> bytes | None:
    """Return the log among the artifacts of a trial's run; `None` if there is none.

    Args:
        uri: Tracking URI: `http(s)://...`, or a database such as `embedded_uri` names.
        run_id: The trial's run.

    Raises:
        TrackingUnavailable: MLflow or its artifact store does not answer in time.
        TrackingError: MLflow refuses, as for a run that was deleted for good.
    """
    connection = Connection(uri)
    with connection.client() as client, tempfile.TemporaryDirectory() as folder:
        store = connection.artifacts(client.get_run(run_id).info.artifact_uri)
        if LOG_NAME not in {file.path for file in store.list_artifacts()}:
            return None
        return Path(store.download_artifacts(LOG_NAME, folder)).read_bytes()
