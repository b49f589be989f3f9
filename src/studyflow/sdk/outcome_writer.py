"""What one process says about the end of its trial: a result, a mistake, a crash, a loss."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from studyflow.errors import DocumentError
from studyflow.sdk.console import print_error
from studyflow.sdk.crash import crash_cause
from studyflow.sdk.metrics import list_names
from studyflow.sdk.outcome_file import Keep, OutcomeFile, unwritable
from studyflow.sdk.reporting_process import ReportingProcess
from studyflow.trial import OUTCOME_LIMIT_BYTES, UNWRITTEN, Cause, Outcome, Trial


@dataclass(slots=True)
class _Unwritten:
    """The last outcome of this process, while it could not be written."""

    file: OutcomeFile
    content: bytes
    keep: Keep
    is_marked: bool = False
    """Whether something stands in its place."""


class OutcomeWriter:
    """Writes the outcome of one attempt for this process, if it is the one that reports.

    Args:
        trial: The attempt; `None` outside a study, where nothing is written.
        process: Whether this process reports.
        environment: Variables whose secrets are taken out of messages.
    """

    def __init__(
        self, trial: Trial | None, process: ReportingProcess, environment: Mapping[str, str]
    ) -> None:
        self._trial = trial
        self._process = process
        self._environment = environment
        self._lock = threading.RLock()
        self._has_finished = False
        self._unwritten: _Unwritten | None = None
        self._written: tuple[OutcomeFile, bytes] | None = None
        """The last outcome of this process that was put in place."""

    def finish(self, trial: Trial, values: Mapping[str, float], stopped: bool) -> None:
        """Write the result of the trial.

        Args:
            trial: The attempt.
            values: The metrics.
            stopped: Whether the script had been told to stop.

        Raises:
            DocumentError: The metrics that the study expects are too many for an outcome.
            OSError: It could not be written.
        """
        cause, message, hint = Cause.OK, "", None
        if missing := [name for name in trial.metrics if name not in values]:
            cause = Cause.BAD_METRIC
            message = (
                f"finish() was called without {list_names(missing)}; it got "
                f"{list_names(list(values)) or 'nothing'}."
            )
            hint = "the study file and the script must use the same names."
        try:
            self._record(cause, values, message, stopped, hint=hint)
        except DocumentError as error:
            self.refuse(error, stopped)
            raise
        except OSError as error:
            what = "finish: the result cannot be written"
            raise unwritable(what, trial.outcome_path, error) from error
        self._has_finished = True

    def refuse(self, error: Exception, stopped: bool) -> None:
        """Record that `finish` was called wrongly: the script may catch what it raises."""
        # A process that fails takes back what it said itself, not what another one did.
        keep = Keep.NOTHING if self._has_finished else Keep.RESULT
        with contextlib.suppress(OSError):
            self._record(Cause.USER_ERROR, {}, self._redact(str(error)), stopped, keep)

    def record_crash(self, error: BaseException, stopped: bool) -> None:
        """Record an exception that ended the script, unless the trial has a result.

        The result of any process of the trial counts: a child that fails does not take it back.
        """
        if self._has_finished or not self._process.reports:
            return
        verdict = crash_cause(error, self._redact)
        if verdict is not None:
            cause, message = verdict
            with contextlib.suppress(OSError):  # the traceback is shown in any case
                self._record(cause, {}, message, stopped, Keep.RESULT)

    def close(self, lost_report: str) -> None:
        """See to it that the outcome is there when the process ends.

        Args:
            lost_report: Why the last reported metrics are lost; empty when they are not. Without a
                result an earlier report would count as one, so this is the outcome then.
        """
        if lost_report and not self._has_finished and self._unwritten is None:
            self._record_loss(lost_report)
        if self._unwritten is not None:
            self._write_late(self._unwritten)
        elif self._has_finished and self._written is not None:
            file, content = self._written
            file.restore(content)

    def _record(
        self,
        cause: Cause,
        metrics: Mapping[str, float],
        message: str,
        stopped: bool = False,
        keep: Keep = Keep.NOTHING,
        hint: str | None = None,
    ) -> None:
        """Write the outcome; what cannot be written leaves a mark, so that it is no silence.

        Raises:
            OSError: It could not be written.
            DocumentError: The metrics that the study expects are too many for an outcome.
        """
        trial = self._trial
        if trial is None or trial.outcome_path is None or not self._process.reports:
            return
        text = _outcome_text(
            trial,
            Outcome(
                trial.study,
                trial.number,
                trial.attempt,
                cause,
                metrics,
                message,
                stopped,
                hint=hint,
            ),
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

    def _record_loss(self, why: str) -> None:
        message = f"The script called no finish(), and its last reported metrics are lost: {why}."
        hint = "call sdk.finish(...) before the script ends."
        with contextlib.suppress(OSError):
            self._record(Cause.BAD_METRIC, {}, message, keep=Keep.ANYTHING, hint=hint)

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

    def _redact(self, text: str) -> str:
        """Return a text that leaves this process without the secrets of its variables."""
        from studyflow.redaction import Redactor, secrets_of

        return Redactor(secrets_of(self._environment))(text)


def _outcome_text(trial: Trial, outcome: Outcome) -> str:
    """Return the outcome document; of too many metrics, the expected ones.

    Raises:
        DocumentError: The expected ones alone are too many.
    """
    try:
        return outcome.to_json(trial.key)
    except DocumentError:
        metrics = outcome.metrics
        expected = {name: metrics[name] for name in trial.metrics if name in metrics}
        note = (
            f"finish() kept the {len(expected)} metrics that the study expects and left out "
            f"{len(metrics) - len(expected)} others: an outcome has at most {OUTCOME_LIMIT_BYTES} "
            "bytes."
        )
        hint = "report() the others."
        kept = replace(
            outcome,
            metrics=expected,
            message=f"{outcome.message} {note}".strip(),
            hint=outcome.hint or hint,
        )
        text = kept.to_json(trial.key)
        print_error(f"studyflow: {note} Hint: {hint}\n")
        return text
