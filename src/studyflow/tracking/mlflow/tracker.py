"""A `Tracker` on MLflow."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from studyflow.errors import TrackingError
from studyflow.redaction import Redactor
from studyflow.tracking import keys, pages, tables
from studyflow.tracking.logged import LoggedRuns
from studyflow.tracking.mlflow import documents
from studyflow.tracking.mlflow.artifacts import LOG_NAME, ArtifactUploads
from studyflow.tracking.mlflow.batches import RunLog
from studyflow.tracking.mlflow.client import Connection, is_http, without_credentials
from studyflow.tracking.mlflow.closing import TrialClosing
from studyflow.tracking.mlflow.documents import (
    Point,
    Synced,
    TrackedStudy,
    bounded_name,
)
from studyflow.tracking.mlflow.experiment import Experiment
from studyflow.tracking.mlflow.running import RunningMetrics
from studyflow.tracking.mlflow.runs import StudyRuns, TrialRun
from studyflow.tracking.mlflow.script_runs import ScriptRuns
from studyflow.tracking.mlflow.search import RunSearch
from studyflow.tracking.mlflow.study_run import StudyRun
from studyflow.tracking.protocol import StudyCard, StudySummary
from studyflow.trial import LOST_ATTEMPT_TAG, MetricPoint, TrackingRef
from studyflow.trial.record import TrialRecord
from studyflow.trial.user_files import Gathered

_log = logging.getLogger(__name__)


class MLflowTracker:
    """A `Tracker` on an MLflow server, or on MLflow's database without one.

    Several threads may use it at once, as long as they write about different trials. Nothing is
    contacted before the first call.

    Args:
        uri: Tracking URI: `http(s)://...`, or a database such as `embedded_uri` names.
        study: Name of the study; anything printable.
        experiment: MLflow experiment that holds the runs; by default one named after the study, so
            that MLflow's first page lists studies.
        pages: MLflow's address as people reach it, where it is another, or a database's.
        redact: Takes secrets out of the logs that are uploaded.
        is_gated: Whether scripts write with tokens, and so in the study's experiment alone.
    """

    def __init__(
        self,
        uri: str,
        study: str,
        *,
        experiment: str | None = None,
        pages: str | None = None,
        redact: Redactor | None = None,
        is_gated: bool = False,
    ) -> None:
        self._mlflow = Connection(uri)
        self._trial_uri = without_credentials(uri)
        self._pages = pages or (self._trial_uri if is_http(uri) else None)
        self._study = TrackedStudy(study)
        self._search = RunSearch(self._mlflow, self._study.key)
        self._experiment = Experiment(self._mlflow, self._study, bounded_name(experiment or study))
        self._runs = StudyRuns(self._mlflow, self._experiment, self._search, self._study)
        self._run_log = RunLog(self._mlflow)
        self._uploads = ArtifactUploads(self._mlflow, redact or Redactor())
        self._closing = TrialClosing(self._mlflow, self._run_log, self._uploads, self._study)
        self._running = RunningMetrics(self._mlflow, self._search, is_gated=is_gated)
        self._script_runs = ScriptRuns(self._mlflow, self._search, is_gated=is_gated)
        self._study_run = StudyRun(
            self._mlflow, self._experiment, self._runs, self._run_log, self._uploads, self._study
        )
        self._warned_of_left_out: set[int] = set()

    @property
    def uri(self) -> str:
        """Tracking URI as this process reaches it."""
        return self._mlflow.uri

    def open_study(self, card: StudyCard) -> TrackingRef:
        """Create the parent run, or find it and set it to running; return it.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        return TrackingRef(self._trial_uri, self._study_run.open(card))

    def close_study(self, summary: StudySummary) -> None:
        """Bring the parent run up to date: best trial, configuration, table of trials, files.

        Raises:
            TrackingUnavailable: MLflow or its artifact store does not answer in time.
            TrackingError: MLflow refuses, or files could not be uploaded.
        """
        self._study_run.close(summary)

    def find_study(self) -> str | None:
        """Return the id of the parent run; `None` when there is none.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        return self._runs.find_parent()

    def note_study(self, markdown: str, texts: Mapping[str, str]) -> None:
        """Replace the parent run's description, and add files to its artifacts.

        Args:
            markdown: What MLflow shows on the run.
            texts: Artifact path → content.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        self._study_run.note(markdown, texts)

    def open_trial(self, record: TrialRecord) -> TrackingRef:
        """Create the trial's child run, or find it and set it to running; return it.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """

        def show(run: TrialRun) -> str:
            tags = {} if run.is_new else documents.trial_tags(record, Synced.OPEN)
            self._run_log.log_trial(run.run_id, record, tags=tags)
            if not run.is_new and not record.state.is_finished:
                with self._mlflow.client() as client:
                    client.update_run(run.run_id, status="RUNNING")
            self._runs.note_shown(run.run_id)
            return run.run_id

        return TrackingRef(self._trial_uri, self._runs.with_trial(record, show))

    def reserve_trial(self, record: TrialRecord) -> TrackingRef | None:
        """Return a run that was just created for a trial that had none: its script may log to it.

        Its parameters come with `open_trial`, or at its end with `close_trial`. `None` for a trial
        that has a run, which `open_trial` brings up to date.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        if self._runs.known_trial(record) is not None:
            return None
        run = self._runs.with_trial(record, lambda run: run)
        return TrackingRef(self._trial_uri, run.run_id) if run.is_new else None

    def log_points(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        """Store metrics by step. A point that is there already is not stored again.

        Values that are no numbers become the tag `studyflow.nonfinite`, because MLflow would chart
        an infinity as 1.8e308.

        Raises:
            TrackingUnavailable: MLflow does not answer in time; some points may be stored.
            TrackingError: MLflow refuses.
        """
        if not points:
            return
        metrics = [
            Point(keys.key_for(p.name), p.value, p.timestamp_ms, p.step)
            for p in points
            if math.isfinite(p.value)
        ]
        tags = documents.nonfinite_tags(
            (p.name, f"{p.value} at step {p.step}") for p in points if not math.isfinite(p.value)
        )
        self._runs.with_trial(
            record, lambda run: self._run_log.log(run.run_id, metrics=metrics, tags=tags)
        )

    def lose_attempt(self, record: TrialRecord) -> None:
        """Note on the trial's run that its newest attempt was lost: its token writes no more.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        tags = {LOST_ATTEMPT_TAG: str(record.attempt)}
        self._runs.with_trial(record, lambda run: self._run_log.log(run.run_id, tags=tags))

    def close_trial(
        self,
        record: TrialRecord,
        *,
        log: Path | None = None,
        artifacts: Sequence[Path] = (),
    ) -> None:
        """Bring the child run to the state of a finished record: values, metrics, cause, duration.

        A file among `artifacts` keeps its name, a folder its name and its tree; what is no file of
        theirs is named in the tag `studyflow.artifacts_left_out` and logged once. What cannot be
        uploaded is named in the tag `studyflow.artifacts_missing` and keeps the trial out of
        `finished_trials`, while everything else is stored.

        Raises:
            TrackingUnavailable: MLflow or its artifact store does not answer in time.
            TrackingError: The record is not finished, MLflow refuses, or artifacts could not be
                uploaded.
        """
        if not record.state.is_finished:
            raise TrackingError(f"Trial {record.number} is {record.state}, which is not final.")
        found = tables.artifact_files(artifacts)
        self._warn_of_left_out(record, found)
        files = [(file.path, file.name) for file in found.files]
        if log is not None and log.is_file():
            files.append((log, LOG_NAME))

        def close(run: TrialRun) -> None:
            self._runs.note_shown(run.run_id)
            self._closing.close(run.run_id, record, found, files)

        self._runs.with_trial(record, close)

    def _warn_of_left_out(self, record: TrialRecord, found: Gathered) -> None:
        if found.n_left_out and record.number not in self._warned_of_left_out:
            self._warned_of_left_out.add(record.number)
            _log.warning(
                "Trial %d: left out of its artifacts: %s",
                record.number,
                found.describe_left_out(),
            )

    def read_points(self, record: TrialRecord, metric: str) -> tuple[MetricPoint, ...]:
        """Return one metric of a trial by step, oldest first, whoever logged it.

        When the trial's run has none and exactly one other run of the script has it, it is read
        from that run.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        run_id = self._runs.find_trial(record)
        return () if run_id is None else self._script_runs.points(record, run_id, metric)

    def read_running(
        self, records: Sequence[TrialRecord], metric: str
    ) -> Mapping[int, tuple[MetricPoint, ...]]:
        """Return one metric, by trial, of running trials that have news since the last call.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        home = self._experiment.find()
        known = {record.number: self._runs.known_trial(record) for record in records}
        run_ids = {number: run_id for number, run_id in known.items() if run_id is not None}
        if home is None or not run_ids:
            return {}
        return self._running.read(run_ids, records, metric, home)

    def read_latest(self, record: TrialRecord) -> Mapping[str, float]:
        """Return the last value of every metric of a trial's run; empty when it has none.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        run_id = self._runs.find_trial(record)
        return {} if run_id is None else self._script_runs.latest(run_id)

    def read_runs(
        self, record: TrialRecord, metrics: Sequence[str], began_at: float | None
    ) -> LoggedRuns:
        """Return the trial's run and those that the newest attempt's script started beside it.

        Args:
            record: The trial.
            metrics: Metrics that the study needs.
            began_at: When the attempt's script began, in seconds since the epoch; `None` when it is
                not known.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        run_id = self._runs.find_trial(record)
        if run_id is None:
            return LoggedRuns(self._trial_uri)
        found = self._script_runs.of_attempt(record, run_id, metrics, began_at)
        return LoggedRuns(self._trial_uri, *found)

    def finished_trials(self) -> frozenset[int]:
        """Return the numbers of the trials whose child runs are completely up to date.

        Runs that a lost answer left behind empty beside the trial's real one are deleted.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        chosen = self._runs.choose_all()
        return frozenset(number for number, run in chosen.items() if run.is_final)

    def sent_trials(self) -> frozenset[int]:
        """Return the same as `finished_trials`, without changing anything in MLflow.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        experiment = self._experiment.peek()
        return frozenset() if experiment is None else self._search.sent_trials(experiment)

    def run_url(
        self, record: TrialRecord | None = None, *, artifact: str | None = None
    ) -> str | None:
        """Return the web page of the study's or a trial's run, or of one of the run's artifacts.

        `None` without a web server, and while the run is not known to this process: nothing is
        contacted.
        """
        run_id = self._runs.parent_id if record is None else self._runs.known_trial(record)
        experiment = self._experiment.known_id
        if self._pages is None or experiment is None or run_id is None:
            return None
        return f"{self._pages.rstrip('/')}/{pages.run_page(experiment, run_id, artifact)}"

    def close(self) -> None:
        """Forget everything; the next call would connect again."""
        self._mlflow.close()
        self._runs.forget()
        self._run_log.forget()


def _now_ms() -> int:
    return int(time.time() * 1000)
