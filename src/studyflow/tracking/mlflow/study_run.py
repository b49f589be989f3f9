"""What the study's own run shows: the study file, versions, the best trials, tables and reports."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from studyflow.errors import TrackingError
from studyflow.tracking import pages
from studyflow.tracking.mlflow import documents
from studyflow.tracking.mlflow.artifacts import ArtifactUploads
from studyflow.tracking.mlflow.batches import RunLog
from studyflow.tracking.mlflow.client import Connection
from studyflow.tracking.mlflow.documents import (
    MISSING_TAG,
    NOTE_TAG,
    SYNCED_TAG,
    Synced,
    TrackedStudy,
    lines_tag,
    milliseconds,
)
from studyflow.tracking.mlflow.experiment import Experiment
from studyflow.tracking.mlflow.runs import StudyRuns
from studyflow.tracking.protocol import StudyCard, StudySummary


class StudyRun:
    """Writes to the study's own run, the parent of its trials' runs.

    Every method raises `TrackingUnavailable` when MLflow or its artifact store does not answer in
    time and `TrackingError` when it refuses.

    Args:
        mlflow: Where the run is.
        experiment: Holds it.
        runs: Finds and creates it.
        run_log: Writes tags and metrics.
        uploads: Writes files.
        study: The study; learns the card that it is opened with.
    """

    def __init__(
        self,
        mlflow: Connection,
        experiment: Experiment,
        runs: StudyRuns,
        run_log: RunLog,
        uploads: ArtifactUploads,
        study: TrackedStudy,
    ) -> None:
        self._mlflow = mlflow
        self._experiment = experiment
        self._runs = runs
        self._run_log = run_log
        self._uploads = uploads
        self._study = study

    def open(self, card: StudyCard) -> str:
        """Show a study from its first moment; return the id of its run, which is running now."""
        self._study.card = card
        return self._runs.with_parent(lambda run_id: self._open(run_id, card))

    def close(self, summary: StudySummary) -> None:
        """Show a study's end, or the end of one runner.

        Raises:
            TrackingUnavailable: MLflow or its artifact store does not answer in time.
            TrackingError: MLflow refuses, or files could not be uploaded.
        """
        self._runs.with_parent(lambda run_id: self._close(run_id, summary))

    def note(self, markdown: str, texts: Mapping[str, str]) -> None:
        """Replace the run's description, and add files to its artifacts.

        Args:
            markdown: What MLflow shows on the run.
            texts: Artifact path → content.
        """
        self._runs.with_parent(lambda run_id: self._note(run_id, markdown, texts))

    def _open(self, run_id: str, card: StudyCard) -> str:
        versions = self._runs.versions
        tags = self._runs.tags("study") | documents.study_tags(card, versions)
        if card.description:
            tags[NOTE_TAG] = self._description(run_id, card.description)
        self._run_log.log(run_id, tags=tags)
        self._experiment.set_tags(pages.views(card, self._study.key, _now_ms()))
        with self._mlflow.client() as client:
            client.log_text(run_id, card.spec_yaml, "study.yaml")
            client.log_text(run_id, json.dumps(versions, indent=2), "versions.json")
            client.update_run(run_id, status="RUNNING")
        return run_id

    def _close(self, run_id: str, summary: StudySummary) -> None:
        ends = [r.finished_at for r in summary.records if r.finished_at is not None]
        end_ms = milliseconds(max(ends, default=None)) or _now_ms()
        objectives, directions = self._study.objectives_in(summary)
        metrics = documents.summary_metrics(summary, objectives, directions, end_ms)
        tags = documents.summary_tags(summary, objectives)
        if summary.note_markdown:
            reports = [name for name in summary.files if name.endswith(".html")]
            tags[NOTE_TAG] = self._description(run_id, summary.note_markdown, reports)
        self._run_log.log(run_id, metrics=metrics, tags=tags)
        missing = self._upload(run_id, summary, objectives)
        tags = documents.shown_tables()
        tags[MISSING_TAG] = lines_tag(missing) or "none"
        tags[SYNCED_TAG] = Synced.PARTIAL if missing else Synced.FINAL
        self._run_log.log(run_id, tags=tags)
        with self._mlflow.client() as client:
            if summary.is_driven:
                client.update_run(run_id, status="RUNNING")
            else:
                status = "FINISHED" if summary.finished else "KILLED"
                client.set_terminated(run_id, status, end_ms)
        if missing:
            raise TrackingError(
                f"{len(missing)} files of the study could not be uploaded; the first: {missing[0]}",
                hint="`studyflow sync` tries again.",
            )

    def _note(self, run_id: str, markdown: str, texts: Mapping[str, str]) -> None:
        self._run_log.log(run_id, tags={NOTE_TAG: self._description(run_id, markdown)})
        with self._mlflow.client() as client:
            for path, text in texts.items():
                client.log_text(run_id, text, path)

    def _upload(self, run_id: str, summary: StudySummary, objectives: Sequence[str]) -> list[str]:
        """Upload the study's files; return a line for each that could not be."""
        files: list[tuple[Path, str]] = []
        with tempfile.TemporaryDirectory(prefix="studyflow-") as folder:
            for name, text in documents.summary_texts(summary, objectives).items():
                path = Path(folder) / name
                path.write_text(text, encoding="utf-8")
                files.append((path, name))
            files += [(path, name) for name, path in summary.files.items()]
            return self._uploads.upload(run_id, files)

    def _description(self, run_id: str, markdown: str, reports: Sequence[str] = ()) -> str:
        """Return a description of the run that begins with links from there."""
        experiment = self._experiment.find_or_create()
        links = pages.study_links(experiment, self._study.key, run_id, reports)
        return f"{links}\n\n{markdown}"


def _now_ms() -> int:
    return int(time.time() * 1000)
