"""What one training process knows about its trial, and where what it says goes.

Modules that only some trainings need are imported where they are needed: every trial pays for the
others, a process of each data loader too.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from studyflow.errors import DocumentError
from studyflow.sdk.console import print_line
from studyflow.sdk.metrics import name_value, read_keep, read_metrics, read_step, shorten
from studyflow.sdk.outcome_writer import OutcomeWriter
from studyflow.sdk.reporting_process import ReportingProcess
from studyflow.sdk.sigterm import Sigterm
from studyflow.trial import TRIAL_VARIABLE, MetricPoint, ParamValue, Trial
from studyflow.trial.checkpoint_folders import CHECKPOINT_METRIC, FILES, folders_in

if TYPE_CHECKING:
    from studyflow.sdk.artifact_folder import ArtifactFolder
    from studyflow.sdk.checkpoints import Checkpoints
    from studyflow.sdk.metrics_file import MetricsFile
    from studyflow.sdk.mlflow_link import MlflowLink

PARAMS_VARIABLE: Final = "STUDYFLOW_PARAMS"
"""Parameters as a JSON object, for running a training script by hand."""


@dataclass(frozen=True, slots=True)
class CurrentTrial:
    """The trial as a training script sees it."""

    params: dict[str, ParamValue]
    """The parameters to train with, a copy of the script's own."""
    number: int = 0
    """Number of the trial within its study, from 0."""
    attempt: int = 1
    """From 1; above 1 there may be something to resume in `checkpoint_dir`."""
    study: str = ""
    """Name of the study; empty outside one."""
    budget: int | None = None
    """Steps this trial may train for; `None` when the script decides."""
    metrics: tuple[str, ...] = ()
    """Metrics that the study expects from `finish`."""
    checkpoint_dir: Path = field(default_factory=Path)
    """Folder for checkpoint files, with those of the attempt before; see `sdk.checkpoint_dir`."""

    @property
    def is_alone(self) -> bool:
        """Whether the script runs outside any study."""
        return not self.study


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A published checkpoint, found whole."""

    path: Path
    """Folder with what was saved; to be read only."""
    step: int
    """Step that `sdk.checkpoint` was given."""
    attempt: int
    """Attempt of the trial that published it, from 1."""
    published_at: float
    """When, in seconds since the epoch, by the clock of the machine that ran that attempt."""


class Session:
    """The conversation of one process with its study.

    Args:
        trial: The attempt; `None` outside a study.
        environment: Variables of the process.
        write: Takes the lines that are printed outside a study.
    """

    def __init__(
        self,
        trial: Trial | None,
        environment: Mapping[str, str] = os.environ,
        write: Callable[[str], object] = print_line,
    ) -> None:
        self._trial = trial
        self._environment = environment
        self._write = write
        self._process = ReportingProcess(trial, environment)
        self._outcome = OutcomeWriter(trial, self._process, environment)
        self._sigterm = Sigterm()
        self._lock = threading.RLock()
        self._metrics_file: MetricsFile | None = None
        self._artifact_folder: ArtifactFolder | None = None
        self._mlflow: MlflowLink | None = None
        self._checkpoints: Checkpoints | None = None
        self._temporary: Path | None = None

    @property
    def speaks(self) -> bool:
        """Whether this process is the one that reports: the first of its tree, of rank 0."""
        return self._process.reports

    def current_trial(self, defaults: Mapping[str, ParamValue]) -> CurrentTrial:
        """Return the trial, or outside a study a stand-in.

        Raises:
            DocumentError: `STUDYFLOW_PARAMS` cannot be read.
            OSError: See `checkpoint_dir`.
        """
        trial = self._trial
        if trial is None:
            return CurrentTrial(
                params={**defaults, **_read_params(self._environment.get(PARAMS_VARIABLE))},
                checkpoint_dir=self.checkpoint_dir(),
            )
        return CurrentTrial(
            params=dict(trial.params),
            number=trial.number,
            attempt=trial.attempt,
            study=trial.study,
            budget=trial.budget,
            metrics=trial.metrics,
            checkpoint_dir=self.checkpoint_dir(),
        )

    def report(self, step: Any, metrics: Mapping[str, Any]) -> None:
        """Pass metrics of one step on.

        Raises:
            TypeError: The step or a metric is no number.
            ValueError: The step or a name is not acceptable.
            OSError: The disk takes no more.
        """
        number, values = read_step(step), read_metrics("report", metrics)
        trial = self._trial
        is_expected = trial is not None and not set(trial.metrics).isdisjoint(values)
        if not self._process.reports_or_says_why_not("report" if is_expected else "") or not values:
            return
        self._process.note_report()
        if trial is None:
            self._write(f"step {number}: {_show(values)}\n")
            return
        now_ms = time.time_ns() // 1_000_000
        points = [MetricPoint(name, number, value, now_ms) for name, value in values.items()]
        if _is_last_step(trial, number, values):
            self._sigterm.let_finish()
        self._send(trial, points)

    def finish(self, value: Any, metrics: Mapping[str, Any]) -> None:
        """Write the outcome.

        Raises:
            TypeError: A value is no number, or it is not clear which metric it is.
            ValueError: A name is not acceptable.
            DocumentError: The metrics that the study expects are too many for an outcome.
            OSError: The outcome could not be written.
        """
        trial = self._trial
        stopped = self._is_told_to_stop()
        expected = None if trial is None else trial.metrics
        try:
            values = read_metrics("finish", name_value(value, metrics, expected))
        except (TypeError, ValueError) as error:
            self._outcome.refuse(error, stopped)
            raise
        if not self._process.reports_or_says_why_not("finish"):
            return
        self._process.note_report()
        if trial is None:
            self._write(f"finished: {_show(values)}\n")
            return
        self._outcome.finish(trial, values, stopped)
        if self._mlflow is not None:
            self._mlflow.flush()

    def record_crash(self, error: BaseException) -> None:
        """Write the outcome for an exception that ended the script, unless there is a result."""
        self._outcome.record_crash(error, self._is_told_to_stop())

    def should_stop(self) -> bool:
        """Return whether a stop was asked for."""
        self._sigterm.make_request()
        return self._is_told_to_stop()

    def end_on_sigterm(self, pid: int) -> None:
        """Make SIGTERM end this process if it is its container's first and handles it by default.

        `should_stop` makes a request of it instead.

        Args:
            pid: Number of this process.
        """
        self._sigterm.end_first_process(pid)

    def artifact(self, path: Path, name: str | None) -> Path:
        """Copy a file or folder to the artifacts, or upload it where there is no common folder.

        Raises:
            FileNotFoundError: There is nothing at `path`.
            ValueError: The name leaves the artifact folder.
        """
        if not path.exists():
            raise FileNotFoundError(f"artifact: there is nothing at {path}.")
        relative = Path(path.resolve().name if name is None else name)
        if relative.is_absolute() or ".." in relative.parts or relative == Path():
            raise ValueError(
                f"artifact: the name must stay within the artifact folder, not {name!r}."
            )
        if not self._process.reports_or_says_why_not():
            return path
        folder = None if self._trial is None else self._trial.artifact_dir
        if folder is not None:
            return self._open_artifact_folder(folder).keep(path, relative)
        if (mlflow := self._open_mlflow()) is not None:
            mlflow.upload(path, PurePosixPath(relative.as_posix()))
        return path

    def checkpoint_dir(self) -> Path:
        """Return the folder for checkpoint files; it exists.

        Raises:
            OSError: Those of the attempt before cannot be copied into it.
        """
        trial = self._trial
        if trial is not None and trial.checkpoints is not None:
            files = Path(trial.checkpoints.own) / FILES
            return files if files.is_dir() else self._open_checkpoints().files()
        shared = None if trial is None else trial.checkpoint_dir
        folder = self._temporary_folder() if shared is None else Path(shared)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def checkpoint(self, step: Any, keep: Any) -> Iterator[Path]:
        """Give a folder to save a checkpoint in, and publish it when the block ends in order.

        Raises:
            TypeError: The step or `keep` is no integer.
            ValueError: One of them is too small, or nothing was saved.
            OSError: The disk takes no more.
        """
        number, n_kept = read_step(step, "checkpoint"), read_keep(keep)
        if not self._process.reports_or_says_why_not():
            import tempfile

            with tempfile.TemporaryDirectory(prefix="studyflow-unpublished-") as folder:
                yield Path(folder)
            return
        with self._open_checkpoints().publish(number, n_kept) as path:
            yield path
        self._tell_checkpoint(number)

    def last_checkpoint(self) -> Checkpoint | None:
        """Return the published checkpoint to go on from; `None` when there is none."""
        return self._open_checkpoints().last()

    def _tell_checkpoint(self, step: int) -> None:
        """Let the runner know of a checkpoint: one that outlives this attempt, and no other."""
        trial = self._trial
        if trial is None or trial.checkpoint_dir is None:
            return
        point = MetricPoint(
            CHECKPOINT_METRIC, step, float(trial.attempt), time.time_ns() // 1_000_000
        )
        with contextlib.suppress(OSError):  # it is published all the same
            self._send(trial, [point])

    def _send(self, trial: Trial, points: Sequence[MetricPoint]) -> None:
        """Pass points on where the trial's are expected.

        Raises:
            OSError: The disk takes no more.
        """
        if trial.metrics_path is not None:
            self._open_metrics_file(trial.metrics_path, trial.key).append(points)
        elif (mlflow := self._open_mlflow()) is not None:
            mlflow.report(points)

    def close(self) -> None:
        """Send what is still unsent, for a bounded time; remove the temporary folder."""
        if not self._process.is_first:
            return
        lost = "" if self._metrics_file is None else self._metrics_file.lost
        if self._mlflow is not None and not self._mlflow.flush():
            lost = lost or "they did not reach MLflow"
        self._outcome.close(lost)
        if self._mlflow is not None:
            self._mlflow.close()
        if self._temporary is not None:
            import shutil

            shutil.rmtree(self._temporary, ignore_errors=True)

    def _is_told_to_stop(self) -> bool:
        path = None if self._trial is None else self._trial.stop_path
        if self._sigterm.is_received or path is None:
            return self._sigterm.is_received
        try:
            return Path(path).exists()
        except OSError:  # a folder that may not be looked into is no reason to stop, or to fail
            return False

    # What only some trainings need

    def _open_metrics_file(self, path: str, key: str | None) -> MetricsFile:
        with self._lock:
            if self._metrics_file is None:
                from studyflow.sdk.metrics_file import MetricsFile

                self._metrics_file = MetricsFile(path, key)
            return self._metrics_file

    def _open_checkpoints(self) -> Checkpoints:
        with self._lock:
            if self._checkpoints is None:
                from studyflow.sdk.checkpoints import Checkpoints

                trial = self._trial
                attempt = 1 if trial is None else trial.attempt
                folders = None if trial is None else trial.checkpoints
                if folders is None:  # alone, without a claim, or a runner of studyflow 0.1.0
                    shared = None if trial is None else trial.checkpoint_dir
                    folders = folders_in(shared or str(self._temporary_folder()), attempt)
                self._checkpoints = Checkpoints(folders, attempt)
            return self._checkpoints

    def _temporary_folder(self) -> Path:
        with self._lock:
            if self._temporary is None:
                import tempfile

                self._temporary = Path(tempfile.mkdtemp(prefix="studyflow-checkpoints-"))
            return self._temporary

    def _open_artifact_folder(self, path: str) -> ArtifactFolder:
        with self._lock:
            if self._artifact_folder is None:
                from studyflow.sdk.artifact_folder import ArtifactFolder

                self._artifact_folder = ArtifactFolder(Path(path))
            return self._artifact_folder

    def _open_mlflow(self) -> MlflowLink | None:
        """Return the link to the trial's run; `None` where it cannot write to one."""
        tracking = None if self._trial is None else self._trial.tracking
        with self._lock:
            if self._mlflow is None and tracking is not None:
                from studyflow.sdk.mlflow_link import MlflowLink, is_reachable

                if is_reachable(tracking):
                    self._mlflow = MlflowLink(tracking, self._environment)
            return self._mlflow


_session: Session | None = None
_session_lock = threading.Lock()


def session(pid: int | None = None) -> Session:
    """Return this process's session; the first call reads the environment.

    Args:
        pid: Number of this process; `None` to ask the system.

    Raises:
        DocumentError: `STUDYFLOW_TRIAL` cannot be read.
    """
    global _session
    if _session is None:
        with _session_lock:
            if _session is None:
                text = os.environ.get(TRIAL_VARIABLE)
                trial = None if text is None else Trial.from_json(text)
                _session = Session(trial)
                atexit.register(_session.close)
                if trial is not None:
                    _record_crashes_of(_session)
                    _session.end_on_sigterm(os.getpid() if pid is None else pid)
    return _session


def _record_crashes_of(current: Session) -> None:
    previous = sys.excepthook

    def record_and_pass_on(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        try:
            current.record_crash(error)
        finally:
            previous(kind, error, traceback)

    sys.excepthook = record_and_pass_on


def _is_last_step(trial: Trial, step: int, metrics: Mapping[str, float]) -> bool:
    """Return whether a report of the objective is that of the last step there may be."""
    if trial.budget is None:
        return False
    return step >= trial.budget - 1 and (not trial.metrics or trial.metrics[0] in metrics)


def _show(values: Mapping[str, float]) -> str:
    return " ".join(f"{name}={value:.6g}" for name, value in values.items())


def _read_params(text: str | None) -> dict[str, ParamValue]:
    """Return the parameters of a script that is run by hand.

    Raises:
        DocumentError: They are not a JSON object.
    """
    if not text:
        return {}
    try:
        params = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentError(
            f"{PARAMS_VARIABLE} is not JSON: {error}.",
            hint=f"for example: {PARAMS_VARIABLE}='{{\"learning_rate\": 0.01}}'",
        ) from error
    if not isinstance(params, dict):
        raise DocumentError(f"{PARAMS_VARIABLE} must be a JSON object, not {shorten(params)}.")
    return params
