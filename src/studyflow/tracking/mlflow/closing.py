"""How a trial's run is closed: its end, its final values, and its files."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studyflow.errors import TrackingError
from studyflow.tracking import tables
from studyflow.tracking.mlflow import documents
from studyflow.tracking.mlflow.artifacts import SMALL_BYTES, ArtifactUploads
from studyflow.tracking.mlflow.batches import RunLog
from studyflow.tracking.mlflow.client import Connection
from studyflow.tracking.mlflow.documents import (
    MISSING_TAG,
    SYNCED_TAG,
    Point,
    Synced,
    TrackedStudy,
    lines_tag,
    milliseconds,
)
from studyflow.trial.record import TrialRecord
from studyflow.trial.user_files import Gathered


class TrialClosing:
    """Brings trials' runs to the state of finished records.

    Args:
        mlflow: Where the runs are.
        run_log: Writes parameters, metrics and tags.
        uploads: Writes files.
        study: The study.
    """

    def __init__(
        self,
        mlflow: Connection,
        run_log: RunLog,
        uploads: ArtifactUploads,
        study: TrackedStudy,
    ) -> None:
        self._mlflow = mlflow
        self._run_log = run_log
        self._uploads = uploads
        self._study = study

    def close(
        self,
        run_id: str,
        record: TrialRecord,
        found: Gathered,
        files: Sequence[tuple[Path, str]],
    ) -> None:
        """End a trial's run: with small files in one request, with large ones before they go."""
        run, end_ms = self._end_run(run_id, record)
        tags, metrics = self._ending(run, record, found, end_ms)
        missing: list[str] | None = None if files else []
        try:
            if files and _size_of(files) <= SMALL_BYTES:
                missing = self._uploads.upload(run_id, files, run.info.artifact_uri)
        finally:
            # Whatever the artifact store does, MLflow learns how the trial ended.
            tags |= {SYNCED_TAG: Synced.ARTIFACTS if missing is None else _synced(missing)}
            if files and missing is not None:
                tags[MISSING_TAG] = lines_tag(missing) or "none"
            self._run_log.log_trial(run_id, record, metrics=metrics, tags=tags)
        if missing is None:
            missing = self._uploads.upload(run_id, files, run.info.artifact_uri)
            tags = {SYNCED_TAG: _synced(missing), MISSING_TAG: lines_tag(missing) or "none"}
            self._run_log.log(run_id, tags=tags)
        if missing:
            raise _not_uploaded(record, missing, len(files))

    def _end_run(self, run_id: str, record: TrialRecord) -> tuple[Any, int]:
        """Give a trial's run its status and its end; return MLflow's run, and when it ended."""
        with self._mlflow.client() as client:
            run = client.get_run(run_id)
            if run.info.lifecycle_stage != "active":
                raise TrackingError(f"MLflow run {run_id} of trial {record.number} was deleted.")
            status = tables.run_status(record.state, record.cause)
            end_ms = milliseconds(record.finished_at) or run.info.end_time or _now_ms()
            if run.info.status != status or run.info.end_time != end_ms:
                client.set_terminated(run_id, status, end_ms)
        return run, end_ms

    def _ending(
        self, run: Any, record: TrialRecord, found: Gathered, end_ms: int
    ) -> tuple[dict[str, str], list[Point]]:
        """Return the tags and metrics of a trial that has ended."""
        objectives = self._study.objectives_of(record)
        latest = documents.latest_points(run)
        metrics = documents.closing_metrics(record, objectives, latest, end_ms)
        tags = documents.trial_tags(record, Synced.ARTIFACTS)
        name = str(run.info.run_name or "")
        if (named := documents.name_at_end(record, name)) != name:
            tags[documents.RUN_NAME_TAG] = named
        tags |= documents.nonfinite_tags(
            (name, str(v)) for name, v in record.metrics.items() if not math.isfinite(v)
        )
        if found.n_left_out:
            tags["studyflow.artifacts_left_out"] = lines_tag(
                [f"{left.name}: {left.reason}" for left in found.left_out]
            )
        return tags, metrics


def _not_uploaded(record: TrialRecord, missing: Sequence[str], n_files: int) -> TrackingError:
    return TrackingError(
        f"Trial {record.number}: {len(missing)} of {n_files} artifacts could not be uploaded; "
        f"the first: {missing[0]}",
        hint="metrics and state are stored; `studyflow sync` tries again.",
    )


def _synced(missing: Sequence[str]) -> str:
    """Return how complete a run is by the files that it lacks."""
    return Synced.ARTIFACTS if missing else Synced.FINAL


def _size_of(files: Sequence[tuple[Path, str]]) -> int:
    """Return the bytes of some files; of one that cannot be read, the upload says why."""
    size = 0
    for path, _ in files:
        with contextlib.suppress(OSError):
            size += path.stat().st_size
    return size


def _now_ms() -> int:
    return int(time.time() * 1000)
