"""What an attempt's end is told as, from what its supervisor, its script and its log left."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import stat
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from studyflow.executors.diagnosis import (
    Ending,
    How,
    NoDocument,
    diagnose,
    missed_variables,
    redacted,
)
from studyflow.executors.local import supervisor
from studyflow.executors.local.attempt import Attempt
from studyflow.executors.local.killing import as_number
from studyflow.executors.protocol import AttemptState, AttemptStatus
from studyflow.reasons import Code, Reason
from studyflow.redaction import Redactor
from studyflow.trial import OUTCOME_LIMIT_BYTES, UNWRITTEN, Cause, Outcome
from studyflow.trial.seals import has_seal, seal_of
from studyflow.trial.user_files import read_piece

STOP_KIND: Final = "stop"
"""What the seal of a request to stop is about."""

LOG_TAIL_BYTES: Final = 64 << 10
"""How much of a log is searched for the reason of a failure."""

_IS_NO_DOCUMENT: Final = {
    errno.ELOOP: "a link",
    errno.ENXIO: "a socket",
    errno.EACCES: "an unreadable file",
    errno.EPERM: "an unreadable file",
}
"""Refusals to open a file that say something about the file, not about the disk."""

_KINDS_OF_FILES: Final = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe"}


def conclude(attempt: Attempt, redact: Redactor) -> AttemptStatus:
    """Return how an attempt ended of which nothing runs any more.

    Args:
        attempt: The attempt.
        redact: Takes secrets out of what the script said.

    Raises:
        OSError: The disk or this process cannot read its files now.
    """
    # Beside another lock than the supervisor's, that document is not the supervisor's either.
    is_reachable = attempt.ends_by is None
    document = attempt.read_json(supervisor.EXIT) if is_reachable else None
    if document is not None and not _is_own_end(document, attempt.key):
        document = {}
    if document is None:
        document = {"how": How.REMOVED, "started_at": attempt.status.started_at}
        document["ended_at"] = time.time()
    request = attempt.read_json(supervisor.STOP) or {}
    ending = read_ending(document, request, attempt.launch.timeout_seconds)
    is_stopped = document.get("how") == How.STOPPED
    if is_stopped and not is_own_stop(request, attempt.key):
        ending = replace(ending, how=How.FORGED_STOP)
    said = read_said(attempt.folder / supervisor.OUTCOME)
    tail = _log_tail(attempt.folder / supervisor.LOG, redact)
    outcome = diagnose(ending, said, tail, attempt.trial, redact)
    outcome = _without_missing_reports(outcome, attempt, redact)
    outcome = _with_foreign_writes(outcome, attempt)
    outcome = _with_missed_variables(outcome, tail, attempt.launch.left_out)
    return AttemptStatus(
        AttemptState.ENDED,
        outcome=redacted(outcome, redact),
        exit_code=ending.exit_code,
        started_at=_seconds(document.get("started_at")),
        ended_at=_seconds(document.get("ended_at")),
    )


def read_ending(
    document: dict[str, Any], request: dict[str, Any], timeout_seconds: float | None
) -> Ending:
    """Return what a supervisor recorded of an end; `LOST` where its document is damaged.

    Args:
        document: `exit.json`.
        request: `stop.json`; empty without one.
        timeout_seconds: The attempt's time limit; `None` without one.
    """
    how = _read_how(document.get("how"))
    if how is How.STOPPED and "cause" not in request:
        how = How.REMOVED  # what asked for its end was no runner's request
    stop_cause = _read_cause(request.get("cause"))
    return Ending(
        how=how,
        exit_code=as_number(document.get("exit_code")),
        oom=document.get("oom") is True,
        finished_first=document.get("finished_first") is True,
        stop_cause=stop_cause,
        stop_reason=Reason(stop_cause, str(request.get("reason", ""))),
        timeout_seconds=timeout_seconds,
    )


def read_said(path: Path) -> bytes | NoDocument | None:
    """Return what a script left where its outcome belongs; `None` when nothing is there.

    Raises:
        OSError: The disk or this process cannot read it now, such as with too many open files.
    """
    try:
        # Neither a link nor a pipe is followed: what is behind it is not the script's to show.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):  # not even its folder, perhaps
        return None
    except OSError as error:
        if error.errno not in _IS_NO_DOCUMENT:
            raise
        with contextlib.suppress(OSError):
            text = str(path.readlink())
            if text.startswith(UNWRITTEN):
                return text.encode(errors="surrogateescape")
        return NoDocument(_IS_NO_DOCUMENT[error.errno])
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            return NoDocument(_KINDS_OF_FILES.get(stat.S_IFMT(mode), "a special file"))
        return os.read(descriptor, OUTCOME_LIMIT_BYTES + 1)
    finally:
        os.close(descriptor)


def _log_tail(path: Path, redact: Redactor) -> str:
    limit_bytes = LOG_TAIL_BYTES + redact.reach_chars
    log = read_piece(path, limit_bytes, from_end=True) or b""
    return b"".join(redact.tail(io.BytesIO(log), LOG_TAIL_BYTES)).decode(errors="replace")


def _without_missing_reports(outcome: Outcome, attempt: Attempt, redact: Redactor) -> Outcome:
    """Return an outcome that is no silence where the last report may be missing."""
    why = attempt.metrics.why_incomplete(redact) if outcome.is_silent else ""
    if not why:
        return outcome
    return replace(
        outcome,
        message=f"The script called no finish(), and its last report may be missing: {why}.",
        hint="call sdk.finish(...) before the script ends; only sdk.report(...) may write where "
        "the reports are.",
        code=Code.METRICS_UNREADABLE,
    )


def is_own_stop(request: dict[str, Any], key: str | None) -> bool:
    """Return whether a runner wrote a request to stop.

    Args:
        request: What stands in the attempt's folder.
        key: Its key; `None` to take whoever's.
    """
    return key is None or has_seal(request, key, STOP_KIND)


def exit_token(key: str) -> str:
    """Return what only an attempt's supervisor, or its runner, writes into its `exit.json`."""
    return seal_of(key, "exit", "")


def _is_own_end(document: dict[str, Any], key: str | None) -> bool:
    return key is None or document.get("token") == exit_token(key)


def _with_foreign_writes(outcome: Outcome, attempt: Attempt) -> Outcome:
    """Return an outcome that says what another process wrote to the attempt's files.

    None of it counts: what the runner knows of the attempt is in its memory, and what the script
    said has a seal.
    """
    if attempt.key is None or attempt.ends_by is not None:
        return outcome
    found = attempt.changed_documents()
    if n_lines := attempt.metrics.n_foreign:
        found.append(f"{n_lines} line{'s' * (n_lines > 1)} of metrics.jsonl")
    if not found:
        return outcome
    said = f"Another process wrote {' and '.join(found)}; that does not count."
    return replace(outcome, message=f"{outcome.message} {said}".strip())


def _with_missed_variables(outcome: Outcome, tail: str, left_out: Collection[str]) -> Outcome:
    """Return an outcome that says which of the runner's variables the script seems to miss."""
    if outcome.cause is not Cause.USER_ERROR:
        return outcome
    missed = missed_variables(outcome, tail, left_out)
    if not missed:
        return outcome
    names = ", ".join(missed)
    return replace(
        outcome,
        message=f"{outcome.message} The runner has {names}, and trials do not get it: what looks "
        "like a secret stays with the runner.",
        hint=f"pass it on by the study file: `trial: {{inherit_env: [{names}]}}`.",
        code=Code.VARIABLE_LEFT_OUT,
    )


def _read_how(value: object) -> How:
    return How(value) if isinstance(value, str) and value in set(How) else How.LOST


def _read_cause(value: object) -> Cause:
    return Cause(value) if isinstance(value, str) and value in set(Cause) else Cause.CANCELLED


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
