"""A study in MLflow: one experiment and one parent run for the study, one child run for each trial.

Only MLflow's low-level client is used: no active run, no global tracking URI, so that a tracker
disturbs nothing else in its process and works from any thread. MLflow is imported on first use,
because that takes one to two seconds.

Defaults of MLflow are changed for this process and can be set back by MLflow's own environment
variables: a request is tried twice with 10 seconds each, whatever `Retry-After` says (MLflow's own
defaults keep a caller waiting for minutes), run links are not printed, and telemetry is off. All
but the last are changed inside MLflow, not in the environment, so trial processes do not inherit
them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import getpass
import importlib.metadata
import json
import logging
import math
import os
import platform
import re
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.parse
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from studyflow.errors import MissingExtra, TrackingError, TrackingUnavailable
from studyflow.redaction import Redactor
from studyflow.tracking import keys, pages, tables
from studyflow.tracking.logged import LoggedRun, LoggedRuns
from studyflow.tracking.protocol import StudyCard, StudySummary
from studyflow.trial import ATTEMPT_TAG, TRIAL_RUN_TAG, MetricPoint, TrackingRef
from studyflow.trial.record import TrialRecord
from studyflow.trial.user_files import Gathered

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

REQUEST_TIMEOUT_SECONDS: Final = 10
REQUEST_RETRIES: Final = 1
LOG_LIMIT_BYTES: Final = 10 * 1024 * 1024
"""Longest log uploaded for a trial; of longer ones the end is kept, where the error is."""

LOG_NAME: Final = "trial.log"
"""Name of that log among the artifacts."""
DISK_RESERVE_BYTES: Final = 1 << 30
"""Room that artifacts leave on the disk of an embedded MLflow: the study's storage needs some."""
SMALL_BYTES: Final = 1 << 20
"""Files below this are copied however little room there is."""
CONNECT_ATTEMPTS: Final = 5
"""Two processes that create the tables of one database at once: one fails, and finds them later."""

PARAM_LIMIT_CHARS: Final = 6000
TAG_LIMIT_CHARS: Final = 8000
MESSAGE_LIMIT_CHARS: Final = 1000
MOST_NUMBERS: Final = 500
"""Most trials that a tag names."""
NAME_LIMIT_CHARS: Final = 250
"""Longest name of a run or an experiment: MLflow checks less than its database columns hold."""
METRICS_PER_BATCH: Final = 1000
ENTITIES_PER_BATCH: Final = 100
BATCH_LIMIT_BYTES: Final = 400_000
"""Of parameters, and of tags: MLflow's server refuses a batch of more than 1 MB of JSON."""
PAGE_SIZE: Final = 1000
EXPERIMENTS_PER_SEARCH: Final = 500
"""A search names each experiment: a database bounds how long a statement may be."""

_DISTRIBUTIONS: Final = (
    "studyflow", "optuna", "botorch", "torch", "prefect", "mlflow", "mlflow-skinny", "kubernetes",
)  # fmt: skip
_HUGE: Final = 1.797e308
"""MLflow stores an infinity as the largest float."""


def embedded_uri(folder: Path) -> str:
    """Return the tracking URI of an MLflow database in `folder`: absolute, so it holds anywhere.

    Artifacts go to `folder/mlartifacts`.

    Raises:
        TrackingError: The path holds a question mark, where a database's address would end.
    """
    path = str(folder.absolute() / "mlflow.db")
    if "?" in path:
        raise TrackingError(
            f"A folder for MLflow's database must not hold a question mark: {path}",
            hint="rename the folder or name another one.",
        )
    return "sqlite:///" + path


@dataclasses.dataclass(frozen=True, slots=True)
class _Candidate:
    """What of a run decides whether it stands for a trial: of thousands, no more is kept."""

    run_id: str
    start_ms: int
    is_open: bool
    is_final: bool
    has_metrics: bool
    has_params: bool

    @classmethod
    def of(cls, run: Any) -> _Candidate:
        synced = run.data.tags.get("studyflow.synced")
        return cls(
            str(run.info.run_id),
            run.info.start_time or 0,
            is_open=synced == "open",
            is_final=synced == "final",
            has_metrics=bool(run.data.metrics),
            has_params=bool(run.data.params),
        )


class _Fate(enum.Enum):
    """What a refused call can mean about its run."""

    ACTIVE = "active"
    """The run is fine: the refusal was about something else."""
    REVIVED = "revived"
    """It was deleted with its experiment, and came back with it."""
    GONE = "gone"
    """Somebody deleted it."""


class MLflowTracker:
    """A `Tracker` on an MLflow server, or on MLflow's database without one.

    Reads may run in one thread while another writes. Nothing is contacted before the first call.

    Args:
        uri: Tracking URI: `http(s)://...`, or a database such as `embedded_uri` names.
        study: Name of the study; anything printable.
        experiment: MLflow experiment that holds the runs; by default one named after the study, so
            that MLflow's first page lists studies.
        artifact_root: Folder for artifacts when a new experiment is created without a server; by
            default `mlartifacts` beside the SQLite file.
        trial_uri: Tracking URI as trials reach it, where it differs.
        source_dir: Folder whose git commit is recorded; by default the working folder.
        pages: Address of a server that shows the runs of a database, if one runs.
        redact: Takes secrets out of the logs that are uploaded.
        clock: Seconds since the epoch; used only where a record has no time.
    """

    def __init__(
        self,
        uri: str,
        study: str,
        *,
        experiment: str | None = None,
        artifact_root: Path | None = None,
        trial_uri: str | None = None,
        source_dir: Path | None = None,
        pages: str | None = None,
        redact: Redactor | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._uri = uri
        self._study = study
        self._experiment_name = _bounded_name(experiment or study, NAME_LIMIT_CHARS)
        self._artifact_root = artifact_root
        self._trial_uri = trial_uri or _without_credentials(uri)
        self._source_dir = source_dir
        self._pages = _without_credentials(uri) if _is_http(uri) else pages
        self._redact = redact or Redactor()
        self._clock = clock
        self._study_key = keys.digest_of(study)
        self._lock = threading.RLock()
        """Held while a run is looked for or created, so that two threads create one. Uploads and
        other work on a known run do not hold it."""
        self._connected: Any = None
        self._card: StudyCard | None = None
        self._experiment_id: str | None = None
        self._parent_id: str | None = None
        self._trial_ids: dict[int, str] = {}
        self._with_params: set[str] = set()
        self._versions: dict[str, str] | None = None
        self._told_of_left_out: set[int] = set()

    @property
    def uri(self) -> str:
        """Tracking URI as this process reaches it."""
        return self._uri

    def open_study(self, card: StudyCard) -> TrackingRef:
        """Create the parent run, or find it and set it to running; return it.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        with self._lock:
            self._card = card
        return TrackingRef(self._trial_uri, self._with_study(self._refresh_study))

    def open_trial(self, record: TrialRecord) -> TrackingRef:
        """Create the trial's child run, or find it and set it to running; return it.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """

        def act(run_id: str) -> str:
            # The creating call brought tags and status already.
            if run_id in created:
                self._log_params(run_id, record)
                return run_id
            tags = _trial_tags(record, synced="open")
            self._log_params(run_id, record, tags)
            if not record.state.is_finished:
                with self._translated():
                    self._client.update_run(run_id, status="RUNNING")
            return run_id

        created: set[str] = set()
        return TrackingRef(self._trial_uri, self._with_trial(record, act, created))

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
        finite = [point for point in points if math.isfinite(point.value)]
        nonfinite = {
            p.name: f"{p.value} at step {p.step}" for p in points if not math.isfinite(p.value)
        }
        metrics = [(keys.key_for(p.name), p.value, p.timestamp_ms, p.step) for p in finite]
        tags = _nonfinite_tags(nonfinite)
        self._with_trial(record, lambda run_id: self._log(run_id, metrics=metrics, tags=tags))

    def close_trial(
        self,
        record: TrialRecord,
        *,
        log: Path | None = None,
        artifacts: Sequence[Path] = (),
    ) -> None:
        """Bring the child run to the state of a finished record: values, metrics, cause, duration.

        A file among `artifacts` keeps its name, a folder its name and its tree; what is no file of
        theirs is named in the tag `studyflow.artifacts_left_out` and told once. What cannot be
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
        self._tell_of_left_out(record, found)
        uploads = [(file.path, file.name) for file in found.files]
        files = [*uploads, *([(log, LOG_NAME)] if log is not None and log.is_file() else [])]

        def act(run_id: str) -> None:
            with self._translated():
                run = self._client.get_run(run_id)
            if run.info.lifecycle_stage != "active":
                raise TrackingError(f"MLflow run {run_id} of trial {record.number} was deleted.")
            status = tables.run_status(record.state, record.cause)
            end_ms = _milliseconds(record.finished_at) or run.info.end_time or self._now_ms()
            if run.info.status != status or run.info.end_time != end_ms:
                with self._translated():
                    self._client.set_terminated(run_id, status, end_ms)
            objectives = self._objectives(record)
            metrics = _closing_metrics(record, objectives, _latest(run), end_ms)
            tags = _trial_tags(record, synced="artifacts" if files else "final")
            tags |= _nonfinite_tags(
                {name: str(v) for name, v in record.metrics.items() if not math.isfinite(v)}
            )
            if found.n_left_out:
                tags["studyflow.artifacts_left_out"] = _lines_tag(
                    [f"{left.name}: {left.reason}" for left in found.left_out]
                )
            self._log_params(run_id, record, tags, metrics)
            if files:
                missing = self._upload(run_id, files)
                done = {} if missing else {"studyflow.synced": "final"}
                self._log(
                    run_id,
                    tags={**done, "studyflow.artifacts_missing": _lines_tag(missing) or "none"},
                )
                if missing:
                    raise TrackingError(
                        f"Trial {record.number}: {len(missing)} of {len(files)} artifacts could "
                        f"not be uploaded; the first: {missing[0]}",
                        hint="metrics and state are stored; `studyflow sync` tries again.",
                    )

        self._with_trial(record, act)

    def close_study(self, summary: StudySummary) -> None:
        """Bring the parent run up to date: best trial, configuration, table of trials, files.

        Raises:
            TrackingUnavailable: MLflow or its artifact store does not answer in time.
            TrackingError: MLflow refuses, or files could not be uploaded.
        """

        def act(run_id: str) -> None:
            ends = [r.finished_at for r in summary.records if r.finished_at is not None]
            end_ms = _milliseconds(max(ends, default=None)) or self._now_ms()
            finished = sum(record.state.is_finished for record in summary.records)
            objectives, directions = self._objective_names(summary)
            metrics = [
                (key, float(value), end_ms, finished)
                for key, value in (
                    *tables.state_counts(summary.records).items(),
                    *_best_values(summary.best, objectives, directions).items(),
                )
            ]
            tags = _summary_tags(summary, objectives)
            if summary.note_markdown:
                reports = [name for name in summary.files if name.endswith(".html")]
                tags["mlflow.note.content"] = self._note(run_id, summary.note_markdown, reports)
            self._log(run_id, metrics=metrics, tags=tags)
            with tempfile.TemporaryDirectory(prefix="studyflow-") as folder:
                files = _summary_files(summary, objectives, Path(folder))
                missing = self._upload(run_id, files)
            listed = [{"path": "trials.json", "type": "table"}]
            tags = {
                "studyflow.artifacts_missing": _lines_tag(missing) or "none",
                "mlflow.loggedArtifacts": json.dumps(listed),
                "studyflow.synced": "partial" if missing else "final",
            }
            self._log(run_id, tags=tags)
            with self._translated():
                if summary.is_driven:
                    self._client.update_run(run_id, status="RUNNING")
                else:
                    status = "FINISHED" if summary.finished else "KILLED"
                    self._client.set_terminated(run_id, status, end_ms)
            if missing:
                raise TrackingError(
                    f"{len(missing)} files of the study could not be uploaded; the first: "
                    f"{missing[0]}",
                    hint="`studyflow sync` tries again.",
                )

        self._with_study(act)

    def find_study(self) -> str | None:
        """Return the id of the parent run; `None` when there is none.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        with self._lock:
            experiment = self._find_experiment()
            run = None if experiment is None else next(self._search(experiment, "study"), None)
            return None if run is None else str(run.info.run_id)

    def note_study(self, markdown: str, texts: Mapping[str, str]) -> None:
        """Replace the parent run's description, and add files to its artifacts.

        Args:
            markdown: What MLflow shows on the run.
            texts: Artifact path → content.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """

        def act(run_id: str) -> None:
            self._log(run_id, tags={"mlflow.note.content": self._note(run_id, markdown)})
            with self._translated():
                for path, text in texts.items():
                    self._client.log_text(run_id, text, path)

        self._with_study(act)

    def read_points(self, record: TrialRecord, metric: str) -> tuple[MetricPoint, ...]:
        """Return one metric of a trial's run by step, oldest first, whoever logged it.

        Where that run has none, and one other that the script started has, it is that one's.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        run_id = self._find_trial(record)
        if run_id is None:
            return ()
        with self._translated():
            key = keys.key_for(metric)
            history = self._client.get_metric_history(run_id, key)
            if not history and record.run_id is not None:
                others = [
                    run
                    for run in self._search_everywhere(_script_clauses(record, run_id), 0)
                    if key in run.data.metrics
                ]
                if len(others) == 1:
                    history = self._client.get_metric_history(others[0].info.run_id, key)
        points = (MetricPoint(metric, m.step, _restored(m.value), m.timestamp) for m in history)
        return tuple(sorted(points, key=lambda point: (point.step, point.timestamp_ms)))

    def read_latest(self, record: TrialRecord) -> Mapping[str, float]:
        """Return the last value of every metric of a trial's run; empty when it has none.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        run_id = self._find_trial(record)
        if run_id is None:
            return {}
        with self._translated():
            data = self._client.get_run(run_id).data
        names = keys.names_in(data.tags)
        return {names.get(key, key): _restored(value) for key, value in data.metrics.items()}

    def read_runs(
        self, record: TrialRecord, metrics: Sequence[str], began_at: float | None
    ) -> LoggedRuns:
        """Return the trial's run and those that the newest attempt's script started beside it.

        The script's further runs are looked for in all experiments, by the tags that the variable
        MLFLOW_RUN_CONTEXT gives them; runs that MLflow's low-level client created have none.

        Args:
            record: The trial.
            metrics: What is looked for.
            began_at: When the attempt's script began, in seconds since the epoch; `None` when it is
                not known.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        own_id = self._find_trial(record)
        if own_id is None:
            return LoggedRuns(self._trial_uri)
        since_ms = 0 if began_at is None else math.floor(began_at) * 1000
        wanted = {keys.key_for(name) for name in metrics}
        with self._translated():
            own = self._client.get_run(own_id)
            is_new = record.attempt == 1 and own.info.start_time == _milliseconds(record.started_at)
            runs = [self._logged(own, wanted, 0 if is_new else since_ms)]
            runs += [
                self._logged(run, wanted, since_ms)
                for run in self._search_everywhere(_script_clauses(record, own_id), since_ms)
                if run.info.run_id != own_id
            ]
            strangers: list[LoggedRun] = []
            if began_at is not None and not any(run.metrics or run.outdated for run in runs):
                strangers = [
                    self._logged(run, wanted, since_ms)
                    for run in self._search_everywhere((), since_ms)
                    if wanted <= run.data.metrics.keys()
                    and not any(tag.startswith("studyflow.") for tag in run.data.tags)
                ]
        return LoggedRuns(self._trial_uri, tuple(runs), tuple(strangers))

    def finished_trials(self) -> frozenset[int]:
        """Return the numbers of the trials whose child runs are completely up to date.

        Runs that a lost answer left behind empty beside the trial's real one are deleted.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        with self._lock:
            experiment = self._find_experiment()
        if experiment is None:
            return frozenset()
        # Thousands of runs take seconds, and a trial that starts meanwhile does not wait for them.
        runs: dict[int, list[_Candidate]] = {}
        for run in self._search(experiment, "trial"):
            number = run.data.tags.get("studyflow.trial", "")
            if number.isdecimal():
                runs.setdefault(int(number), []).append(_Candidate.of(run))
        with self._lock:
            finished = set()
            for number, candidates in runs.items():
                chosen = self._chosen(number, candidates)
                self._trial_ids[number] = chosen.run_id
                if chosen.is_final:
                    finished.add(number)
            return frozenset(finished)

    def sent_trials(self) -> frozenset[int]:
        """Return what `finished_trials` does, for whoever only looks: nothing is put in order.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        with self._translated():
            found = self._client.get_experiment_by_name(self._experiment_name)
            if found is None or found.lifecycle_stage == "deleted":
                return frozenset()
            tags = [run.data.tags for run in self._search(str(found.experiment_id), "trial")]
        return frozenset(
            int(tag["studyflow.trial"])
            for tag in tags
            if tag.get("studyflow.synced") == "final" and tag.get("studyflow.trial", "").isdecimal()
        )

    def run_url(
        self, record: TrialRecord | None = None, *, artifact: str | None = None
    ) -> str | None:
        """Return where a person sees the study's or a trial's run, or one of the run's artifacts.

        `None` without a web server, and while the run is not known to this process: nothing is
        contacted.
        """
        run_id = self._parent_id
        if record is not None:
            run_id = self._trial_ids.get(record.number, record.run_id)
        if self._pages is None or self._experiment_id is None or run_id is None:
            return None
        return f"{self._pages.rstrip('/')}/{pages.run_page(self._experiment_id, run_id, artifact)}"

    def close(self) -> None:
        """Forget everything; the next call would connect again."""
        with self._lock:
            self._connected = None
            self._experiment_id = self._parent_id = None
            self._trial_ids.clear()
            self._with_params.clear()

    # Connection and errors

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._connected is None:
                self._connected = connect(self._uri)
            return self._connected

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn whatever MLflow and its libraries raise into this package's errors."""
        try:
            yield
        except TrackingError:
            raise
        except Exception as error:
            raise translate(error, self._uri) from error

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    # The experiment

    def _find_experiment(self) -> str | None:
        """Return the experiment's id; `None` when there is none. A deleted one is restored."""
        if self._experiment_id is not None:
            return self._experiment_id
        with self._translated():
            found = self._client.get_experiment_by_name(self._experiment_name)
            if found is None:
                return None
            if found.lifecycle_stage == "deleted":
                self._restore(found.experiment_id)
            self._experiment_id = str(found.experiment_id)
            for key, value in self._experiment_tags().items():
                if key not in found.tags:
                    self._client.set_experiment_tag(self._experiment_id, key, value)
        return self._experiment_id

    def _experiment(self) -> str:
        for _ in range(3):
            experiment = self._find_experiment()
            if experiment is not None:
                return experiment
            with self._translated():
                try:
                    self._experiment_id = self._client.create_experiment(
                        self._experiment_name,
                        artifact_location=self._artifact_location(),
                        tags=self._experiment_tags(),
                    )
                except Exception as error:  # somebody else created it just now
                    if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
                        raise
        raise TrackingError(
            f"MLflow has an experiment {self._experiment_name!r} and does not show it.",
            hint="is it somebody else's? Name another one for this study.",
        )

    def _restore(self, experiment_id: str) -> None:
        self._client.restore_experiment(experiment_id)
        _log.warning(
            "MLflow experiment %r had been deleted and is restored, because its study goes on.",
            self._experiment_name,
        )

    def _artifact_location(self) -> str | None:
        root = self._artifact_folder()
        if root is None:
            return None
        return (root.absolute() / keys.artifact_path(self._experiment_name)).as_uri()

    def _artifact_folder(self) -> Path | None:
        """Return the folder of this machine that artifacts go to; `None` where a server has them.

        It need not exist yet.
        """
        if _is_http(self._uri):
            return None
        if self._artifact_root is not None:
            return self._artifact_root
        database = _sqlite_path(self._uri)
        return None if database is None else database.parent / "mlartifacts"

    def _experiment_tags(self) -> dict[str, str]:
        tags = {"mlflow.experimentKind": "custom_model_development"}
        if self._card is not None:
            tags["mlflow.experiment.primaryMetric.name"] = keys.key_for(self._card.objectives[0])
            tags["mlflow.experiment.primaryMetric.greaterIsBetter"] = (
                "True" if self._card.directions[0] == "maximize" else "False"
            )
        return tags

    # Finding and creating runs

    def _search(self, experiment: str, role: str, number: int | None = None) -> Iterator[Any]:
        """Yield the study's active runs of one role, oldest first."""
        clauses = [
            f"tags.`studyflow.study_key` = '{self._study_key}'",
            f"tags.`studyflow.role` = '{role}'",
        ]
        if number is not None:
            clauses.append(f"tags.`studyflow.trial` = '{number}'")
        yield from _all_pages(partial(self._some_runs, [experiment], " and ".join(clauses)))

    def _search_everywhere(self, clauses: Sequence[str], since_ms: int) -> Iterator[Any]:
        """Yield active runs of any experiment that began at that time or later, oldest first."""
        experiments = _all_pages(
            lambda token: self._client.search_experiments(max_results=PAGE_SIZE, page_token=token)
        )
        ids = [str(experiment.experiment_id) for experiment in experiments]
        text = " and ".join((*clauses, f"attributes.start_time >= {since_ms}"))
        for first in range(0, len(ids), EXPERIMENTS_PER_SEARCH):
            some = ids[first : first + EXPERIMENTS_PER_SEARCH]
            yield from _all_pages(partial(self._some_runs, some, text))

    def _some_runs(self, experiments: Sequence[str], text: str, token: str | None) -> Any:
        with self._translated():
            return self._client.search_runs(
                list(experiments),
                text,
                max_results=PAGE_SIZE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )

    def _logged(self, run: Any, wanted: Collection[str], since_ms: int) -> LoggedRun:
        """Return what a run holds of metrics, without what is older than `since_ms`."""
        metrics: dict[str, float] = {}
        outdated: set[str] = set()
        for key, (_, at_ms, value) in _latest(run).items():
            if at_ms >= since_ms:
                metrics[key] = _restored(value)
                continue
            history = self._client.get_metric_history(run.info.run_id, key) if key in wanted else ()
            newer = [point for point in history if point.timestamp >= since_ms]
            if newer:
                last = max(newer, key=lambda point: (point.step, point.timestamp, point.value))
                metrics[key] = _restored(last.value)
            else:
                outdated.add(key)
        tags = run.data.tags
        experiment = ""
        if run.info.experiment_id != self._experiment_id:
            experiment = str(self._client.get_experiment(run.info.experiment_id).name)
        return LoggedRun(
            run_id=str(run.info.run_id),
            name=str(run.info.run_name or ""),
            metrics=metrics,
            outdated=frozenset(outdated),
            parent_id=tags.get("mlflow.parentRunId"),
            experiment=experiment,
        )

    def _chosen(self, number: int, candidates: Sequence[_Candidate]) -> _Candidate:
        """Return the run that stands for a trial, and delete empty twins of it.

        A twin is what an answer leaves behind that was lost on its way, so that the request was
        made again.
        """
        known = self._trial_ids.get(number)
        ranked = sorted(
            candidates,
            key=lambda run: (
                run.run_id != known,
                not run.is_final,
                not run.has_metrics,
                not run.has_params,
                run.start_ms,
                run.run_id,
            ),
        )
        for twin in ranked[1:]:
            if twin.is_open and not twin.has_metrics:
                with self._translated():
                    self._client.delete_run(twin.run_id)
        return ranked[0]

    def _find_trial(self, record: TrialRecord) -> str | None:
        with self._lock:
            known = self._trial_ids.get(record.number) or record.run_id
            if known is not None:
                return known
            experiment = self._find_experiment()
            if experiment is None:
                return None
            found = self._search(experiment, "trial", record.number)
            candidates = [_Candidate.of(run) for run in found]
            if not candidates:
                return None
            run_id = self._chosen(record.number, candidates).run_id
            self._trial_ids[record.number] = run_id
            return run_id

    def _with_trial(
        self, record: TrialRecord, act: Callable[[str], _T], created: set[str] | None = None
    ) -> _T:
        """Return what `act` does with the trial's run, which is created when it is missing.

        A run that somebody deleted meanwhile is replaced, once.
        """
        created = set() if created is None else created
        with self._lock:
            run_id = self._find_trial(record)
            if run_id is None:
                try:
                    run_id = self._create_trial(record, created)
                except TrackingUnavailable:
                    raise
                except TrackingError:
                    if not self._was_revived():
                        raise
                    run_id = self._find_trial(record) or self._create_trial(record, created)
        try:
            return act(run_id)
        except TrackingUnavailable:
            raise
        except TrackingError:
            fate = self._fate(run_id)
            if fate is _Fate.ACTIVE:
                raise
        if fate is _Fate.REVIVED:
            return act(run_id)
        with self._lock:
            if self._trial_ids.get(record.number) == run_id:
                del self._trial_ids[record.number]
            anonymous = _without_run(record)
            replacement = self._find_trial(anonymous)
            if replacement is None:
                if self._parent_id is not None and self._fate(self._parent_id) is _Fate.GONE:
                    self._replace_parent()
                replacement = self._create_trial(anonymous, created, instead_of=run_id)
        return act(replacement)

    def _create_trial(
        self, record: TrialRecord, created: set[str], instead_of: str | None = None
    ) -> str:
        parent = self._parent()
        tags = {
            **self._run_tags("trial"),
            **_trial_tags(record, synced="open"),
            "mlflow.parentRunId": parent,
            "studyflow.trial": str(record.number),
        }
        if instead_of is not None:
            tags["studyflow.recreated"] = instead_of
            _log.warning(
                "Trial %d: its run %s is not in this MLflow (deleted, or of another server); "
                "a new one takes its place.",
                record.number,
                instead_of,
            )
        name = f"trial-{record.number:04d}"
        run_id = self._create_run(name, _milliseconds(record.started_at), tags)
        self._trial_ids[record.number] = run_id
        created.add(run_id)
        return run_id

    def _create_run(self, name: str, start_ms: int | None, tags: Mapping[str, str]) -> str:
        experiment = self._experiment()
        with self._translated():
            run = self._client.create_run(
                experiment,
                start_time=start_ms or self._now_ms(),
                tags={key: _bounded(value, TAG_LIMIT_CHARS) for key, value in tags.items()},
                run_name=name,
            )
        return str(run.info.run_id)

    def _parent(self) -> str:
        with self._lock:
            if self._parent_id is None:
                experiment = self._experiment()
                run = next(self._search(experiment, "study"), None)
                if run is None:
                    created = self._create_parent()
                    # Another runner of this study may have created one just now: the first stands.
                    run = next(self._search(experiment, "study"), None)
                    if run is not None and run.info.run_id != created:
                        with self._translated():
                            self._client.delete_run(created)
                    self._parent_id = created if run is None else str(run.info.run_id)
                else:
                    self._parent_id = str(run.info.run_id)
            return self._parent_id

    def _create_parent(self, instead_of: str | None = None) -> str:
        tags = self._run_tags("study")
        if instead_of is not None:
            tags["studyflow.recreated"] = instead_of
            _log.warning(
                "The study's run %s is not in this MLflow (deleted, or of another server); "
                "a new one takes its place.",
                instead_of,
            )
        return self._create_run(_bounded_name(self._study, NAME_LIMIT_CHARS), None, tags)

    def _with_study(self, act: Callable[[str], _T]) -> _T:
        run_id = self._parent()
        try:
            return act(run_id)
        except TrackingUnavailable:
            raise
        except TrackingError:
            fate = self._fate(run_id)
            if fate is _Fate.ACTIVE:
                raise
        return act(run_id if fate is _Fate.REVIVED else self._replace_parent())

    def _replace_parent(self) -> str:
        """Create the parent run anew, with the trials' runs that are there below it."""
        with self._lock:
            self._parent_id = self._create_parent(instead_of=self._parent_id)
            for child in list(self._search(self._experiment(), "trial")):
                with self._translated():
                    self._client.set_tag(child.info.run_id, "mlflow.parentRunId", self._parent_id)
            return self._parent_id

    def _fate(self, run_id: str) -> _Fate:
        """Return what became of a run that was refused a call. A deleted experiment is restored."""
        with self._translated():
            try:
                run = self._client.get_run(run_id)
            except Exception as error:
                if getattr(error, "error_code", "") in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
                    self._experiment_id = None
                    return _Fate.GONE
                raise
            if run.info.lifecycle_stage == "active":
                return _Fate.ACTIVE
            if self._was_revived():
                run = self._client.get_run(run_id)
        return _Fate.REVIVED if run.info.lifecycle_stage == "active" else _Fate.GONE

    def _was_revived(self) -> bool:
        """Whether the experiment had been deleted, and is restored now."""
        if self._experiment_id is None:
            return False
        with self._translated():
            experiment = self._client.get_experiment(self._experiment_id)
            if experiment.lifecycle_stage != "deleted":
                return False
            self._restore(self._experiment_id)
        return True

    # Writing

    def _refresh_study(self, run_id: str) -> str:
        card = self._card
        assert card is not None
        tags = self._run_tags("study")
        tags |= {f"studyflow.version.{name}": text for name, text in self._version_list().items()}
        tags |= {keys.key_for(key): value for key, value in card.tags.items()}
        tags |= keys.json_tags("studyflow.objectives", card.objectives)
        tags |= keys.json_tags("studyflow.directions", card.directions)
        tags["studyflow.n_trials"] = str(card.n_trials)
        if card.description:
            tags["mlflow.note.content"] = self._note(run_id, card.description)
        self._log(run_id, tags=tags)
        with self._translated():
            for key, view in pages.views(card, self._study_key, self._now_ms()).items():
                self._client.set_experiment_tag(self._experiment(), key, view)
            self._client.log_text(run_id, card.spec_yaml, "study.yaml")
            self._client.log_text(
                run_id, json.dumps(self._version_list(), indent=2), "versions.json"
            )
            self._client.update_run(run_id, status="RUNNING")
        return run_id

    def _note(self, run_id: str, markdown: str, reports: Sequence[str] = ()) -> str:
        """Return a description of the parent run that begins with the ways on from there."""
        links = pages.study_links(self._experiment(), self._study_key, run_id, reports)
        return f"{links}\n\n{markdown}"

    def _run_tags(self, role: str) -> dict[str, str]:
        tags = {
            "studyflow.study": self._study,
            "studyflow.study_key": self._study_key,
            "studyflow.role": role,
            "mlflow.user": _user(),
            "mlflow.source.name": (self._card.source if self._card else "") or "studyflow",
            "mlflow.source.type": "LOCAL",
        }
        commit = self._version_list().get("git_commit")
        if commit:
            tags["mlflow.source.git.commit"] = commit
        return tags

    def _version_list(self) -> dict[str, str]:
        if self._versions is None:
            self._versions = _versions(self._source_dir)
        return self._versions

    def _log_params(
        self,
        run_id: str,
        record: TrialRecord,
        tags: Mapping[str, str] | None = None,
        metrics: Iterable[tuple[str, float, int, int]] = (),
    ) -> None:
        """Log parameters once, and with them the rest.

        MLflow never lets a parameter change. One that is there with another value was logged by
        the training script itself, and stands.
        """
        metrics = list(metrics)
        if run_id in self._with_params:
            self._log(run_id, metrics=metrics, tags=tags or {})
            return
        params = {
            keys.key_for(name): _bounded(str(value), PARAM_LIMIT_CHARS)
            for name, value in record.params.items()
        }
        try:
            self._log(run_id, metrics=metrics, params=params, tags=tags or {})
        except TrackingUnavailable:
            raise
        except TrackingError:
            with self._translated():
                there = self._client.get_run(run_id).data.params
            if all(there.get(key, value) == value for key, value in params.items()):
                raise
            params = {key: value for key, value in params.items() if key not in there}
            self._log(run_id, metrics=metrics, params=params, tags=tags or {})
        self._with_params.add(run_id)

    def _log(
        self,
        run_id: str,
        *,
        metrics: Sequence[tuple[str, float, int, int]] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log a batch, in pieces that MLflow accepts."""
        from mlflow.entities import Metric, Param, RunTag

        points = [Metric(key, value, at_ms, step) for key, value, at_ms, step in metrics]
        short = {key: _bounded(value, TAG_LIMIT_CHARS) for key, value in (tags or {}).items()}
        room = METRICS_PER_BATCH
        if params or tags:
            room -= 2 * ENTITIES_PER_BATCH
        metric_pieces = [points[i : i + room] for i in range(0, len(points), room)]
        before = list(zip_longest(metric_pieces, _pieces(params or {}), fillvalue=()))
        # Tags go last: `studyflow.synced` must not be there before what it speaks of.
        last = before.pop() if before else ((), ())
        tag_pieces = list(_pieces(short)) or [{}]
        batches = [
            *((*batch, {}) for batch in before),
            (*last, tag_pieces[0]),
            *(((), (), piece) for piece in tag_pieces[1:]),
        ]
        with self._translated():
            for some_metrics, some_params, some_tags in batches:
                self._client.log_batch(
                    run_id,
                    metrics=list(some_metrics),
                    params=[Param(key, value) for key, value in dict(some_params).items()],
                    tags=[RunTag(key, value) for key, value in some_tags.items()],
                )

    def _tell_of_left_out(self, record: TrialRecord, found: Gathered) -> None:
        if found.n_left_out and record.number not in self._told_of_left_out:
            self._told_of_left_out.add(record.number)
            _log.warning(
                "Trial %d: left out of its artifacts: %s",
                record.number,
                found.describe_left_out(),
            )

    def _upload(self, run_id: str, files: Sequence[tuple[Path, str]]) -> list[str]:
        """Upload files; return a line for each that could not be, for good.

        Raises:
            TrackingUnavailable: The store does not answer; some files may be there.
        """
        missing: list[str] = []
        with tempfile.TemporaryDirectory(prefix="studyflow-") as folder:
            for index, (local, wanted) in enumerate(files):
                target = keys.artifact_path(wanted)
                parent = target.rpartition("/")[0]
                if (lack := self._lack_of_room(local)) is not None:
                    missing.append(f"{wanted}: {lack}")
                    continue
                try:
                    with self._translated():
                        source = self._staged(local, wanted, Path(folder) / str(index))
                        self._client.log_artifact(run_id, str(source), parent or None)
                except TrackingUnavailable:
                    raise
                except TrackingError as error:
                    missing.append(f"{wanted}: {_bounded(error.message, 200)}")
        return missing

    def _lack_of_room(self, local: Path) -> str | None:
        """Return why a file is not copied to a folder of this machine; `None` to upload it."""
        folder = self._artifact_folder()
        if folder is None:
            return None
        try:
            size = local.stat().st_size
            free = shutil.disk_usage(folder if folder.exists() else folder.parent).free
        except OSError:
            return None  # whoever copies it says what is wrong
        # A full disk would stop the study, not only this upload.
        if size < free - DISK_RESERVE_BYTES or size < SMALL_BYTES:
            return None
        return f"{size} bytes, where the disk has {free} left"

    def _staged(self, local: Path, wanted: str, folder: Path) -> Path:
        """Return what is uploaded of a file, under its name: of a log the end, without secrets."""
        name = keys.artifact_path(wanted).rpartition("/")[2]
        if wanted != LOG_NAME:
            return _staged(local, name, folder)
        size = local.stat().st_size
        folder.mkdir()
        path = folder / name
        with local.open("rb") as source, path.open("wb") as target:
            if size > LOG_LIMIT_BYTES:
                left_out = size - LOG_LIMIT_BYTES
                target.write(f"[the first {left_out} of {size} bytes are left out here]\n".encode())
            target.writelines(self._redact.tail(source, LOG_LIMIT_BYTES))
        return path

    def _objectives(self, record: TrialRecord) -> tuple[str, ...]:
        if self._card is not None:
            return self._card.objectives
        n = len(record.values or ())
        return ("objective",) if n == 1 else tuple(f"objective_{i}" for i in range(n))

    def _objective_names(self, summary: StudySummary) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if self._card is not None:
            return self._card.objectives, self._card.directions
        record = next((r for r in summary.records if r.values is not None), None)
        names = () if record is None else self._objectives(record)
        return names, ("minimize",) * len(names)


# Pure parts


def _script_clauses(record: TrialRecord, run_id: str) -> tuple[str, ...]:
    """Return what finds the runs that the newest attempt's script started by itself."""
    return (
        f"tags.`{TRIAL_RUN_TAG}` = '{record.run_id or run_id}'",
        f"tags.`{ATTEMPT_TAG}` = '{record.attempt}'",
    )


def _trial_tags(record: TrialRecord, *, synced: str) -> dict[str, str]:
    tags = {
        "studyflow.state": record.state.value,
        "studyflow.cause": record.cause.value if record.cause else "",
        ATTEMPT_TAG: str(record.attempt),
        "studyflow.message": _bounded(record.message, MESSAGE_LIMIT_CHARS),
        "studyflow.synced": synced,
    }
    renamed = {
        key: name
        for names, make in (
            (record.params, keys.key_for),
            (record.metrics, keys.key_for),
            (record.constraints, keys.constraint_key),
        )
        for name in names
        if (key := make(name)) != name
    }
    if renamed:
        tags |= keys.json_tags(keys.NAMES_TAG, renamed)
    return tags


def _closing_metrics(
    record: TrialRecord,
    objectives: Sequence[str],
    latest: Mapping[str, tuple[int, int, float]],
    end_ms: int,
) -> list[tuple[str, float, int, int]]:
    """Return the points that make each final value the latest of its metric.

    MLflow's latest value is the one with the highest step, then time, then value; so a final value
    goes to the last step known for its metric, and after whatever stands there. A value that is the
    latest already is left alone, so that closing twice adds nothing.

    Args:
        record: A finished trial.
        objectives: The study's objectives.
        latest: Step, time in milliseconds and value of each metric's latest point, by key.
        end_ms: When the trial ended.
    """
    finals: dict[str, float] = {keys.key_for(name): v for name, v in record.metrics.items()}
    if record.values is not None:
        finals |= {keys.key_for(n): v for n, v in zip(objectives, record.values, strict=False)}
        if len(record.values) == 1:
            finals.setdefault("objective", record.values[0])
    finals |= {keys.constraint_key(name): v for name, v in record.constraints.items()}
    if record.duration_seconds is not None:
        finals.setdefault("duration_seconds", record.duration_seconds)

    points: list[tuple[str, float, int, int]] = []
    if objectives and (key := keys.key_for(objectives[0])) not in latest:
        # The points themselves were lost with an outage; the storage still has these.
        begin_ms = _milliseconds(record.started_at) or end_ms
        points += [
            (key, value, min(begin_ms + index, end_ms), step)
            for index, (step, value) in enumerate(sorted(record.intermediate.items()))
            if math.isfinite(value)
        ]
    last_step = max(record.intermediate, default=0)
    for key, value in finals.items():
        if not math.isfinite(value):
            continue
        step, at_ms = last_step, end_ms
        if key in latest:
            known_step, known_ms, known = latest[key]
            if known == value:
                continue
            step = max(step, known_step)
            at_ms = max(end_ms, known_ms + 1) if step == known_step else end_ms
        points.append((key, value, at_ms, step))
    return points


def _nonfinite_tags(odd: Mapping[str, str]) -> dict[str, str]:
    return keys.json_tags("studyflow.nonfinite", odd) if odd else {}


def _best_values(
    best: Sequence[TrialRecord], objectives: Sequence[str], directions: Sequence[str]
) -> dict[str, float]:
    tried = [record.values for record in best if record.values is not None]
    if not tried:
        return {}
    if len(objectives) == 1:
        return {"best_value": tried[0][0]}
    bests: dict[str, float] = {"n_pareto": float(len(tried))}
    for index, (name, direction) in enumerate(zip(objectives, directions, strict=True)):
        column = [values[index] for values in tried]
        best_value = min(column) if direction == "minimize" else max(column)
        bests["best/" + keys.key_for(name, limit=200)] = best_value
    return {key: value for key, value in bests.items() if math.isfinite(value)}


def _summary_tags(summary: StudySummary, objectives: Sequence[str]) -> dict[str, str]:
    numbers = [str(record.number) for record in summary.best]
    more = f", and {len(numbers) - MOST_NUMBERS} more" if len(numbers) > MOST_NUMBERS else ""
    ended = "finished" if summary.finished else "interrupted"
    tags = {
        "studyflow.state": "running" if summary.is_driven else ended,
        "studyflow.best_trials": ",".join(numbers[:MOST_NUMBERS]) + more,
    }
    if len(objectives) == 1 and summary.best:
        for name, value in summary.best[0].params.items():
            tags["best." + keys.key_for(name, limit=200)] = str(value)
    return tags


def _summary_files(
    summary: StudySummary, objectives: Sequence[str], folder: Path
) -> list[tuple[Path, str]]:
    """Return local file and artifact path of everything the parent run holds at the end."""
    columns, rows = tables.trials_table(summary.records, objectives)
    texts = {
        "trials.csv": tables.as_csv(columns, rows),
        "trials.json": tables.as_mlflow_table(columns, rows),
    }
    if summary.best:
        configs = [dict(record.params) for record in summary.best]
        config: Any = configs[0] if len(objectives) <= 1 else configs
        texts["best_config.json"] = json.dumps(config, indent=2, ensure_ascii=False)
        texts["best_config.yaml"] = yaml.safe_dump(config, allow_unicode=True, sort_keys=False)
    files: list[tuple[Path, str]] = []
    for name, text in texts.items():
        if name not in summary.files:
            path = folder / name
            path.write_text(text, encoding="utf-8")
            files.append((path, name))
    return [*files, *((path, name) for name, path in summary.files.items())]


def _all_pages(fetch: Callable[[str | None], Any]) -> Iterator[Any]:
    """Yield the entries of all pages of an answer, of which `fetch` gets one by its token."""
    token = None
    while True:
        page = fetch(token)
        yield from page
        token = page.token
        if not token:
            return


def _latest(run: Any) -> dict[str, tuple[int, int, float]]:
    # `run.data.metrics` has values only; the protocol message has steps and times too.
    return {m.key: (m.step, m.timestamp, m.value) for m in run.data.to_proto().metrics}


def _pieces(entities: Mapping[str, str]) -> Iterator[dict[str, str]]:
    piece: dict[str, str] = {}
    size = 0
    for key, value in entities.items():
        cost = len(json.dumps(value)) + len(json.dumps(key)) + 30
        if piece and (len(piece) == ENTITIES_PER_BATCH or size + cost > BATCH_LIMIT_BYTES):
            yield piece
            piece, size = {}, 0
        piece[key] = value
        size += cost
    if piece:
        yield piece


def _staged(local: Path, name: str, folder: Path) -> Path:
    """Return a file of the wanted name and the content of `local`."""
    if local.name == name:
        return local
    folder.mkdir()
    path = folder / name
    path.symlink_to(local.absolute())
    return path


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)


def _restored(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) >= _HUGE else value


def _bounded(text: str, limit: int) -> str:
    """Return a text as a limit allows; one that is cut says so, and equals no other."""
    if len(text) <= limit:
        return text
    end = f"… [{len(text)} characters, sha256 {keys.digest_of(text)[:8]}]"
    return text[: limit - len(end)] + end


def _lines_tag(lines: Sequence[str]) -> str:
    """Return whole lines, as many as a tag holds, and how many more there are."""
    kept, size = 0, 40
    while kept < len(lines) and size + len(lines[kept]) + 1 <= TAG_LIMIT_CHARS:
        size += len(lines[kept]) + 1
        kept += 1
    more = [f"and {len(lines) - kept} more"] if kept < len(lines) else []
    return "\n".join([*lines[:kept], *more])


def _bounded_name(name: str, limit: int) -> str:
    return name if len(name) <= limit else f"{name[: limit - 9]}-{keys.digest_of(name)[:8]}"


def _without_run(record: TrialRecord) -> TrialRecord:
    return dataclasses.replace(record, run_id=None)


def _is_http(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def _sqlite_path(uri: str) -> Path | None:
    prefix = "sqlite:///"
    path = uri.removeprefix(prefix).partition("?")[0]
    return Path(path) if uri.startswith(prefix) and path not in ("", ":memory:") else None


def _without_credentials(uri: str) -> str:
    parts = urllib.parse.urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user id without a name
        return f"uid-{os.getuid()}" if hasattr(os, "getuid") else "unknown"


def _versions(source_dir: Path | None) -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--verify", "HEAD"],
            cwd=source_dir,
            capture_output=True,
            text=True,
            timeout=2,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return versions
    commit = head.stdout.strip()
    if head.returncode == 0 and re.fullmatch(r"[0-9a-f]{40,64}", commit):
        versions["git_commit"] = commit
    return versions


# MLflow itself


def connect(uri: str) -> Any:
    """Return MLflow's client on `uri`, with its process-wide defaults made bearable.

    Raises:
        MissingExtra: MLflow is not installed.
    """
    # MLflow starts its telemetry on import and knows no other way to be told.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mlflow.environment_variables as settings
            from mlflow import MlflowClient
    except ImportError as error:
        raise MissingExtra("The MLflow tracker", "mlflow") from error
    for variable, value in (
        (settings.MLFLOW_HTTP_REQUEST_TIMEOUT, REQUEST_TIMEOUT_SECONDS),
        (settings.MLFLOW_HTTP_REQUEST_MAX_RETRIES, REQUEST_RETRIES),
        (settings.MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR, 1),
        # A server may ask for an hour's patience; who waits is decided here.
        (settings.MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER, False),
        (settings.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT, True),
    ):
        variable.default = value
    for name, level in (
        ("alembic", logging.WARNING),  # one line for each of sixty migrations
        ("mlflow.store.db.utils", logging.CRITICAL),  # tracebacks of errors that it raises too
        ("urllib3.connectionpool", logging.ERROR),  # a line for each retry
    ):
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(level)
    database = _sqlite_path(uri)
    if database is None:
        return MlflowClient(uri)
    database.parent.mkdir(parents=True, exist_ok=True)
    with _creation_lock(database):
        _create_database(database, MlflowClient)
        for attempt in range(CONNECT_ATTEMPTS):
            try:
                return MlflowClient(uri)
            except Exception:
                if attempt + 1 == CONNECT_ATTEMPTS:
                    raise
                time.sleep(0.2 * 2**attempt)
    raise AssertionError("unreachable")


def check_server(uri: str) -> None:
    """Return if MLflow answers at `uri` and lets this user read.

    Raises:
        MissingExtra: MLflow is not installed.
        TrackingUnavailable: It does not answer in time.
        TrackingError: It refuses.
    """
    try:
        connect(uri).search_experiments(max_results=1)
    except Exception as error:
        raise translate(error, uri) from error


def _create_database(database: Path, client: Callable[[str], Any]) -> None:
    """Make MLflow's database under another name first, if there is none.

    Its tables come in many steps, and MLflow cannot go on with a half of them: whoever is
    interrupted meanwhile would leave a database that is of no use to anybody, for good.
    """
    if database.exists() and database.stat().st_size:
        return
    part = database.absolute().with_name(f".{database.name}.{os.getpid()}.part")
    try:
        client(f"sqlite:///{part}")
        with contextlib.suppress(FileExistsError):  # a server has made it meanwhile
            if database.exists() and not database.stat().st_size:
                database.unlink()
            os.link(part, database)
    except OSError:  # no links here: MLflow makes it in place
        pass
    finally:
        for left in (
            part,
            *(part.with_name(part.name + end) for end in ("-journal", "-wal", "-shm")),
        ):
            left.unlink(missing_ok=True)


@contextlib.contextmanager
def _creation_lock(database: Path) -> Iterator[None]:
    """Keep other trackers from creating the same tables at once. Others are met by retrying."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with database.with_name(database.name + ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def translate(error: Exception, uri: str) -> Exception:
    """Return this package's error for one of MLflow or of a library below it."""
    if isinstance(error, MissingExtra):
        return error
    text = " ".join(str(getattr(error, "message", None) or error).split())
    text = text.replace(uri, _without_credentials(uri))[:1000]
    where = _without_credentials(uri)
    kind = type(error).__name__
    status = _http_status(error)
    if "out-of-date database schema" in text:
        return TrackingError(
            f"MLflow's database at {where} was written by another version of MLflow: {text}",
            hint=f"back it up, then run: mlflow db upgrade {where}",
        )
    if status is not None and (status == 429 or (status >= 500 and status != 501)):
        return TrackingUnavailable(f"MLflow at {where} does not answer: {text}")
    if status is None and _is_outage(error):
        return TrackingUnavailable(f"MLflow at {where} does not answer: {kind}: {text}")
    hint = None
    if status == 403:
        hint = "does the server's --allowed-hosts name this host, and may this user write?"
    elif status == 401:
        hint = (
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
        )
    return TrackingError(f"MLflow at {where} refused: {kind}: {text}", hint=hint)


def _http_status(error: Exception) -> int | None:
    if type(error).__name__ == "InvalidUrlException":
        return 400
    if hasattr(error, "get_http_status_code"):
        return int(error.get_http_status_code())
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


def _is_outage(error: Exception) -> bool:
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    module, name = type(error).__module__.partition(".")[0], type(error).__name__
    if module in ("requests", "urllib3"):
        return True
    if module == "sqlalchemy":
        return name in ("OperationalError", "TimeoutError", "InterfaceError")
    return module in ("botocore", "boto3", "google", "azure") and (
        "Connect" in name or "Timeout" in name
    )
