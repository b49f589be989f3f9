"""What one training process knows about its trial and has said so far.

Modules that only some trainings need are imported where they are needed: every trial pays for the
others, a process of each data loader too.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import errno
import json
import operator
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final

from studyflow.errors import DocumentError
from studyflow.sdk.crash import crash_cause
from studyflow.sdk.metrics import read_metrics, shorten
from studyflow.sdk.outcome_file import Keep, OutcomeFile, write_all
from studyflow.trial import (
    OUTCOME_LIMIT_BYTES,
    TRIAL_VARIABLE,
    UNWRITTEN,
    Cause,
    MetricPoint,
    Outcome,
    ParamValue,
    TrackingRef,
    Trial,
)
from studyflow.trial.launchers import read_rank

if TYPE_CHECKING:
    from studyflow.sdk.mlflow_artifacts import ArtifactUploader
    from studyflow.sdk.mlflow_sender import MlflowSender

PARAMS_VARIABLE: Final = "STUDYFLOW_PARAMS"
"""Parameters as a JSON object, for running a training script by hand."""

FLUSH_SECONDS: Final = 10.0
"""Longest wait for MLflow when the script finishes or ends; metrics still unsent then are lost."""

FIRST_PID: Final = 1
"""Number of the first process of a container. The kernel gives it no signal that it handles by
default: SIGTERM leaves it running until the grace is over and SIGKILL comes."""

_FORKED: Final = (
    "This process was forked from the one that first called studyflow.sdk, and only that one "
    "reports."
)

_DISK_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""How a disk refuses to store more."""

STEP_LIMIT: Final = 2**63
"""Steps from here on are no numbers of 64 bits: neither MLflow nor a database stores them."""

END_SECONDS: Final = FLUSH_SECONDS + 5.0
"""Longest time between SIGTERM and the end of a container's first process: for its `finally` blocks
and the flush, and against a script that catches `SystemExit` or waits for a thread. Half of the
grace that Kubernetes gives by default."""


ARTIFACT_WARNINGS: Final = 20
"""Most lines about what was left out of artifacts."""


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
    """Folder that all attempts of this trial share."""

    @property
    def is_alone(self) -> bool:
        """Whether the script runs outside any study."""
        return not self.study


@dataclass(slots=True)
class _Unwritten:
    """The last outcome of this process, while it could not be written."""

    file: OutcomeFile
    content: bytes
    keep: Keep
    is_marked: bool = False
    """Whether something stands in its place."""


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
        write: Callable[[str], object] | None = None,
    ) -> None:
        self._trial = trial
        self._environment = environment
        self._write = write or _print
        # Data loaders are forked from the training: they know all this and must keep silent.
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._has_finished = False
        self._has_told_rank = False
        self._has_spoken = False
        self._told_forked_in = 0
        """The forked process that has said that it is one."""
        self._unwritten: _Unwritten | None = None
        self._written: tuple[OutcomeFile, bytes] | None = None
        """The last outcome of this process that was put in place."""
        self._line_is_torn = False
        self._lost_report = ""
        """Why the last report is not where the study reads it; empty when it is."""
        self._sigterm_received = False
        self._listens_to_sigterm = False
        self._is_ending = False
        self._sigterm_before: Any = signal.SIG_DFL
        self._restores_after_fork = False
        self._forks = threading.local()
        self._sender: MlflowSender | None = None
        self._uploader: ArtifactUploader | None = None
        self._flush_seconds_left = FLUSH_SECONDS
        self._temporary: Path | None = None
        self._left_out: set[str] = set()
        """What was said of artifacts: a script that keeps one in each epoch hears it once."""

    @property
    def speaks(self) -> bool:
        """Whether this process is the one that reports: the first of its tree, of rank 0.

        One that has reported goes on to: ranks that it sets afterwards are for others.
        """
        if os.getpid() != self._pid:
            return False
        rank = read_rank(self._environment)
        return self._has_spoken or rank is None or rank.number == 0

    def current_trial(self, defaults: Mapping[str, ParamValue]) -> CurrentTrial:
        """Return the trial, or outside a study a stand-in."""
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
        """Pass metrics of one step on."""
        if isinstance(step, bool):
            raise TypeError(f"report: the step must be an integer, not {step!r}.")
        try:
            number = operator.index(step)
        except TypeError as error:
            raise TypeError(f"report: the step must be an integer, not {shorten(step)}.") from error
        if number < 0:
            raise ValueError(f"report: the step must be 0 or more, not {shorten(number)}.")
        if number >= STEP_LIMIT:
            raise ValueError(f"report: the step must be below 2**63, not {shorten(number)}.")
        values = read_metrics("report", metrics)
        if not self._speaks_or_tells("report" if self._expects_any(values) else "") or not values:
            return
        self._has_spoken = True
        if self._trial is None:
            shown = " ".join(f"{name}={value:.6g}" for name, value in values.items())
            self._write(f"step {number}: {shown}\n")
            return
        now_ms = time.time_ns() // 1_000_000
        points = [MetricPoint(name, number, value, now_ms) for name, value in values.items()]
        if self._is_last_step(number, values):
            self._let_finish()
        if self._trial.metrics_path is not None:
            self._append(self._trial.metrics_path, points)
        elif (sender := self._mlflow_sender()) is not None:
            sender.put(points)

    def finish(self, value: Any, metrics: Mapping[str, Any]) -> None:
        """Write the outcome."""
        trial = self._trial
        stopped = self._is_told_to_stop()
        try:
            named = _name_value(value, metrics, trial)
            values = read_metrics("finish", named)
        except (TypeError, ValueError) as error:
            self._refuse(error, stopped)
            raise
        if not self._speaks_or_tells("finish"):
            return
        self._has_spoken = True
        if trial is None:
            shown = " ".join(f"{name}={value:.6g}" for name, value in values.items())
            self._write(f"finished: {shown}\n")
            return
        cause, message = Cause.OK, ""
        if missing := [name for name in trial.metrics if name not in values]:
            cause = Cause.BAD_METRIC
            message = (
                f"finish() was called without {_enumerate(missing)}; it got "
                f"{_enumerate(list(values)) or 'nothing'}. Hint: the study file and the script "
                "must use the same names."
            )
        try:
            self._record(cause, values, message, stopped)
        except DocumentError as error:
            self._refuse(error, stopped)
            raise
        except OSError as error:
            raise _unwritable(
                "finish: the result cannot be written", trial.outcome_path, error
            ) from error
        self._has_finished = True
        self._flush()

    def record_crash(self, error: BaseException) -> None:
        """Write the outcome for an exception that ended the script, unless the trial has a result.

        The result of any process of the trial counts: a child that fails does not take it back.
        """
        if self._has_finished or not self.speaks:
            return
        verdict = crash_cause(error, self._redact)
        if verdict is not None:
            with contextlib.suppress(OSError):  # the traceback is shown in any case
                self._record(
                    *(verdict[0], {}, verdict[1]), self._is_told_to_stop(), keep=Keep.RESULT
                )

    def should_stop(self) -> bool:
        """Return whether a stop was asked for."""
        if not self._listens_to_sigterm:
            self._listen_to_sigterm()
        return self._is_told_to_stop()

    def end_on_sigterm(self, pid: int) -> None:
        """Make SIGTERM end this process if it is its container's first and handles it by default.

        `should_stop` makes a request of it instead. A script that installs a handler of its own
        keeps that.

        Args:
            pid: Number of this process.
        """
        if (
            pid == FIRST_PID
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        ):
            self._handle_sigterm(self._end)

    def artifact(self, path: Path, name: str | None) -> Path:
        """Copy a file or folder to the artifacts, or upload it where there is no common folder."""
        if not path.exists():
            raise FileNotFoundError(f"artifact: there is nothing at {path}.")
        relative = Path(path.resolve().name if name is None else name)
        if relative.is_absolute() or ".." in relative.parts or relative == Path():
            raise ValueError(
                f"artifact: the name must stay within the artifact folder, not {name!r}."
            )
        if not self._speaks_or_tells():
            return path
        folder = None if self._trial is None else self._trial.artifact_dir
        if folder is None:
            if (uploader := self._artifact_uploader()) is not None:
                uploader.upload(path, PurePosixPath(relative.as_posix()))
            return path
        target = Path(folder) / relative
        if path.resolve() == target.parent.resolve() / target.name:
            return target
        try:
            is_kept, left_out = self._keep_artifact(path.resolve(), target, Path(folder))
        except OSError as error:  # a full disk, say: no chart or model is worth a training
            is_kept, left_out = False, f"all of it (cannot be copied: {error.strerror or error})"
        if left_out:
            self._warn_of_artifact(relative, left_out)
        return target if is_kept else path

    def _keep_artifact(self, path: Path, target: Path, folder: Path) -> tuple[bool, str]:
        """Copy a file or folder to the artifacts.

        Returns:
            Whether there is a copy now, and in half a line what was left out.
        """
        import shutil

        from studyflow.trial.user_files import copy_file, gather

        is_folder = path.is_dir()
        # All is found before anything is copied: a folder may hold the place it is copied to.
        found = gather([(path, "", path)])
        if folder.is_symlink():
            return False, "all of it (the artifact folder was replaced by a link)"
        if not is_folder and not found.files:
            return False, found.describe_left_out()
        target.parent.mkdir(parents=True, exist_ok=True)
        if found.size > (free := shutil.disk_usage(target.parent).free):
            return False, f"all of it ({found.size} bytes, where the disk has room for {free})"
        # Copied, not linked: a script that writes the next checkpoint into the same file would
        # change this one too. Under another name first, so that nobody uploads half of it.
        part = target.with_name(f".{threading.get_ident()}.part")
        _remove(part)
        try:
            if is_folder:
                part.mkdir()
            for file in found.files:
                copy = part / file.name if is_folder else part
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy_file(file.path, copy, file.size)
            with self._lock:
                if is_folder or target.is_dir():
                    _remove(target)
                part.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                _remove(part)
            raise
        return True, found.describe_left_out()

    def checkpoint_dir(self) -> Path:
        """Return the folder for checkpoints; it exists."""
        path = None if self._trial is None else self._trial.checkpoint_dir
        if path is not None:
            folder = Path(path)
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        with self._lock:
            if self._temporary is None:
                import tempfile

                self._temporary = Path(tempfile.mkdtemp(prefix="studyflow-checkpoints-"))
            return self._temporary

    def close(self) -> None:
        """Send what is still unsent, for a bounded time; remove the temporary folder."""
        if os.getpid() != self._pid:
            return
        if not self._flush() and not self._lost_report:
            self._lost_report = "they did not reach MLflow"
        if self._lost_report and not self._has_finished and self._unwritten is None:
            self._record_loss(self._lost_report)
        if self._unwritten is not None:
            self._write_late(self._unwritten)
        elif self._has_finished and self._written is not None:
            file, content = self._written
            file.restore(content)
        if self._uploader is not None:
            self._uploader.close()
        if self._temporary is not None:
            import shutil

            shutil.rmtree(self._temporary, ignore_errors=True)

    def _speaks_or_tells(self, result_of: str = "") -> bool:
        """Return `speaks`; a process that is silent says why, once.

        Args:
            result_of: Name of the function that is called with what the study waits for; empty for
                another call.
        """
        if self.speaks:
            return True
        rank = read_rank(self._environment)
        if os.getpid() != self._pid and (rank is None or rank.number == 0):
            self._tell_forked(result_of)
        elif rank is not None and not self._has_told_rank and os.getpid() == self._pid:
            self._has_told_rank = True
            _write_error(f"{rank.silence()}\n")
        return False

    def _expects_any(self, metrics: Collection[str]) -> bool:
        return self._trial is not None and not set(self._trial.metrics).isdisjoint(metrics)

    def _tell_forked(self, result_of: str) -> None:
        """Say that nothing comes of this call; else an earlier report would count as the result."""
        if self._told_forked_in != os.getpid():
            self._told_forked_in = os.getpid()
            _write_error(f"studyflow: {_FORKED} Nothing reaches the study from here.\n")
        trial = self._trial
        if trial is None or trial.outcome_path is None or not result_of:
            return
        message = (
            f"{result_of}() was called in another process than the first. {_FORKED} Hint: call "
            "sdk.finish(...) in the first process; or start the other one by spawn instead of fork."
        )
        outcome = Outcome(trial.study, trial.number, trial.attempt, Cause.USER_ERROR, {}, message)
        with contextlib.suppress(OSError):
            OutcomeFile(Path(trial.outcome_path), trial).write(
                outcome.to_json().encode(), Keep.ANYTHING
            )

    def _redact(self, text: str) -> str:
        """Return a text that leaves this process without the secrets of its variables."""
        from studyflow.redaction import Redactor, secrets_of

        return Redactor(secrets_of(self._environment))(text)

    def _append(self, path: str, points: list[MetricPoint]) -> None:
        lines = "".join(f"{point.to_json()}\n" for point in points).encode()
        with self._lock:
            # What a full disk left of an earlier line must not spoil this one.
            content = b"\n" + lines if self._line_is_torn else lines
            try:
                # One write to a file opened for appending: lines of processes do not mix. A pipe
                # that someone made there must not stop the training.
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK
                descriptor = os.open(path, flags, 0o644)
                try:
                    self._line_is_torn = True
                    write_all(descriptor, content)
                finally:
                    os.close(descriptor)
            except OSError as error:
                self._lost_report = error.strerror or str(error)
                if error.errno in _DISK_ERRORS:
                    raise _unwritable("report: the step cannot be written", path, error) from error
                self._warn_once(f"metrics cannot be written: {error}")
                return
            self._line_is_torn = False
            self._lost_report = ""

    def _is_last_step(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Return whether a report of the objective is that of the last step there may be."""
        trial = self._trial
        if trial is None or trial.budget is None:
            return False
        return step >= trial.budget - 1 and (not trial.metrics or trial.metrics[0] in metrics)

    def _let_finish(self) -> None:
        """Let the script reach `finish` when it is stopped from here on; the grace bounds it.

        No step is left to be saved, and its result is about to come. A script that handles SIGTERM
        itself keeps its handler.
        """
        if not self._listens_to_sigterm and signal.getsignal(signal.SIGTERM) in (
            signal.SIG_DFL,
            self._end,
        ):
            self._listen_to_sigterm()

    def _is_told_to_stop(self) -> bool:
        path = None if self._trial is None else self._trial.stop_path
        if self._sigterm_received or path is None:
            return self._sigterm_received
        try:
            return Path(path).exists()
        except OSError:  # a folder that may not be looked into is no reason to stop, or to fail
            return False

    def _record(
        self,
        cause: Cause,
        metrics: Mapping[str, float],
        message: str,
        stopped: bool = False,
        keep: Keep = Keep.NOTHING,
    ) -> None:
        """Write the outcome; what cannot be written leaves a mark, so that it is no silence.

        Raises:
            OSError: It could not be written.
            DocumentError: The metrics that the study expects are too many for an outcome.
        """
        trial = self._trial
        if trial is None or trial.outcome_path is None or not self.speaks:
            return
        text = _outcome_text(
            trial,
            Outcome(trial.study, trial.number, trial.attempt, cause, metrics, message, stopped),
        )
        file = OutcomeFile(Path(trial.outcome_path), trial)
        with self._lock:
            self._unwritten = _Unwritten(file, text.encode(), keep)
            try:
                file.write(text.encode(), keep)
            except OSError as error:
                self._unwritten.is_marked = file.mark(f"{UNWRITTEN}{error.strerror or error}")
                raise
            self._unwritten = None
            self._written = (file, text.encode())

    def _refuse(self, error: Exception, stopped: bool) -> None:
        """Record that `finish` was called wrongly: the script may catch what it raises."""
        # A process that fails takes back what it said itself, not what another one did.
        keep = Keep.NOTHING if self._has_finished else Keep.RESULT
        with contextlib.suppress(OSError):
            self._record(Cause.USER_ERROR, {}, self._redact(str(error)), stopped, keep)

    def _record_loss(self, why: str) -> None:
        """Record that the last reports are lost: else an earlier one would count as the result."""
        message = (
            f"The script called no finish(), and its last reported metrics are lost: {why}. "
            "Hint: call sdk.finish(...) before the script ends."
        )
        with contextlib.suppress(OSError):
            self._record(Cause.BAD_METRIC, {}, message, keep=Keep.ANYTHING)

    def _write_late(self, unwritten: _Unwritten) -> None:
        """Try once more to write the outcome before the process ends.

        Where nothing can be left in its place, the exit code tells the study that an earlier
        report is not the result.
        """
        try:
            unwritten.file.write(unwritten.content, unwritten.keep)
        except OSError as error:
            if not unwritten.is_marked:
                with contextlib.suppress(OSError, ValueError):
                    sys.stderr.write(f"studyflow: the outcome cannot be written: {error}\n")
                    sys.stdout.flush()
                    sys.stderr.flush()
                os._exit(1)

    def _mlflow_sender(self) -> MlflowSender | None:
        tracking = self._reachable_tracking()
        if tracking is None:
            return None
        with self._lock:
            if self._sender is None:
                from studyflow.sdk.mlflow_sender import MlflowSender, credentials

                self._sender = MlflowSender(
                    tracking.uri, tracking.run_id, credentials(self._environment)
                )
            return self._sender

    def _artifact_uploader(self) -> ArtifactUploader | None:
        tracking = self._reachable_tracking()
        if tracking is None:
            return None
        with self._lock:
            if self._uploader is None:
                from studyflow.sdk.mlflow_artifacts import ArtifactUploader
                from studyflow.sdk.mlflow_sender import credentials

                self._uploader = ArtifactUploader(
                    tracking.uri, tracking.run_id, credentials(self._environment)
                )
            return self._uploader

    def _reachable_tracking(self) -> TrackingRef | None:
        """Return the run, if the trial can write to it: a folder or database is the runner's."""
        tracking = None if self._trial is None else self._trial.tracking
        if tracking is None or not tracking.uri.startswith(("http://", "https://")):
            return None
        return tracking

    def _flush(self) -> bool:
        """Wait for MLflow; all waits of a process together are bounded.

        Returns:
            Whether MLflow has all metrics.
        """
        if self._sender is None:
            return True
        began = time.monotonic()
        is_sent = self._sender.flush(self._flush_seconds_left)
        self._flush_seconds_left = max(0.0, self._flush_seconds_left - (time.monotonic() - began))
        return is_sent and not self._sender.is_refused

    def _listen_to_sigterm(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may; its next call does it
        self._listens_to_sigterm = True
        self._handle_sigterm(self._remember_sigterm)
        atexit.register(self._ignore_sigterm)

    def _ignore_sigterm(self) -> None:
        """Let a script that is leaving leave: a request that comes now would kill it.

        Python gives signals back their default action while it shuts down, before the script's last
        objects are gone.
        """
        if signal.getsignal(signal.SIGTERM) == self._remember_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _handle_sigterm(self, handler: Callable[[int, FrameType | None], None]) -> None:
        previous = signal.signal(signal.SIGTERM, handler)
        if previous != self._end:
            self._sigterm_before = previous
        if not self._restores_after_fork:
            self._restores_after_fork = True
            # Without this `terminate()` would not end data loaders and other forked processes. It
            # may come as soon as the process is there; so SIGTERM waits until that can be killed.
            os.register_at_fork(
                before=self._hold_sigterm,
                after_in_parent=self._release_sigterm,
                after_in_child=self._restore_sigterm,
            )

    def _hold_sigterm(self) -> None:
        self._forks.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def _release_sigterm(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._forks.mask)

    def _restore_sigterm(self) -> None:
        is_ours = signal.getsignal(signal.SIGTERM) in (self._end, self._remember_sigterm)
        if is_ours and self._sigterm_before is not None:  # None: was not installed from Python
            signal.signal(signal.SIGTERM, self._sigterm_before)
        self._release_sigterm()

    def _remember_sigterm(self, number: int, frame: FrameType | None) -> None:
        self._sigterm_received = True
        if callable(self._sigterm_before):
            self._sigterm_before(number, frame)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        """End the process as SIGTERM ends others, with what is to be done at exit done."""
        self._sigterm_received = True
        # A handler that was installed over this one and calls it expects nothing: in any other
        # process it would have found the default there, which cannot be called.
        if self._is_ending or signal.getsignal(signal.SIGTERM) != self._end:
            return
        self._is_ending = True
        # threading.Thread takes locks, which the code that the signal interrupted may hold.
        with contextlib.suppress(RuntimeError):
            _thread.start_new_thread(_exit_late, (128 + number,))
        raise SystemExit(128 + number)

    def _warn_of_artifact(self, name: Path, left_out: str) -> None:
        with self._lock:
            if left_out in self._left_out or len(self._left_out) >= ARTIFACT_WARNINGS:
                return
            self._left_out.add(left_out)
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(
                f"studyflow: artifact {str(name)!r}: left out {left_out}; the training goes on.\n"
            )

    _has_warned = False

    def _warn_once(self, text: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            _write_error(f"studyflow: {text}\n")


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


def _exit_late(code: int) -> None:
    time.sleep(END_SECONDS)
    os._exit(code)


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


def _read_params(text: str | None) -> dict[str, ParamValue]:
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


def _name_value(value: Any, metrics: Mapping[str, Any], trial: Trial | None) -> Mapping[str, Any]:
    """Return the metrics by name, the positional value among them."""
    if value is None:
        if not metrics and trial is not None:
            raise TypeError(
                "finish: no value was given (None counts as none). "
                f"The study expects {_enumerate(list(trial.metrics)) or 'a metric'}."
            )
        return metrics
    expected = ("value",) if trial is None or not trial.metrics else trial.metrics
    if len(expected) != 1:
        raise TypeError(
            f"finish: the study expects {_enumerate(list(expected))}: pass them by name instead of "
            f"{shorten(value)}."
        )
    if expected[0] in metrics:
        raise TypeError(f"finish: {expected[0]!r} is given twice, without and with its name.")
    return {expected[0]: value, **metrics}


def _outcome_text(trial: Trial, outcome: Outcome) -> str:
    """Return the outcome document; of too many metrics, the expected ones."""
    try:
        return outcome.to_json()
    except DocumentError:
        metrics = outcome.metrics
        expected = {name: metrics[name] for name in trial.metrics if name in metrics}
        note = (
            f"finish() kept the {len(expected)} metrics that the study expects and left out "
            f"{len(metrics) - len(expected)} others: an outcome has at most {OUTCOME_LIMIT_BYTES} "
            "bytes. Hint: report() the others."
        )
        kept = replace(outcome, metrics=expected, message=f"{outcome.message} {note}".strip())
        text = kept.to_json()  # raises: the study itself expects too many
        sys.stderr.write(f"studyflow: {note}\n")
        return text


def _unwritable(what: str, path: str | None, error: OSError) -> OSError:
    return OSError(
        error.errno,
        f"{what}, so the study does not see it: {error.strerror or error}. "
        "Hint: is the disk full, or a quota or a limit on file sizes reached?",
        path,
    )


def _remove(path: Path) -> None:
    """Remove whatever is at a path, if anything is; a link, not what it points to."""
    if path.is_dir() and not path.is_symlink():
        import shutil

        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _enumerate(names: list[str], limit: int = 8) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def _print(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # a closed pipe is no reason to stop training
        sys.stdout.write(line)
        sys.stdout.flush()


def _write_error(line: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # None without a console
        sys.stderr.write(line)
        sys.stderr.flush()
