"""Why an attempt ended: exit code, signals, outcome document and last lines become one `Outcome`.

Pure: no file is read and no clock asked here, so every rule is a row of a table in the tests.
"""

from __future__ import annotations

import enum
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from studyflow.errors import DocumentError
from studyflow.executors.failures import ANSI, last_failures, last_lines, recorded_failure
from studyflow.executors.plain_mlflow import explain_crash, explain_warning
from studyflow.trial import (
    BEGINNING_BYTES,
    MESSAGE_LIMIT_CHARS,
    OUTCOME_LIMIT_BYTES,
    TRIAL_VARIABLE,
    Cause,
    Outcome,
    Trial,
)
from studyflow.trial.launchers import find_silence

LINE_LIMIT_CHARS: Final = 300
"""Longest piece of a log shown in a message."""

SHELL_SIGNAL_BASE: Final = 128
"""A shell, and so a script that wraps the training, exits with this plus the number of a signal."""

_SCRIPT_CAUSES: Final = frozenset(
    {Cause.OK, Cause.NAN, Cause.BAD_METRIC, Cause.USER_ERROR, Cause.HOST_OOM, Cause.CUDA_OOM}
)
"""Causes that a script can know. The others are the runner's to give: a script that could say
`lost` would be attempted for ever."""

_OUTSIDE_SIGNALS: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGHUP})
"""Signals that somebody else sends: an administrator, a machine that shuts down."""

_RESULTS: Final = frozenset({Cause.OK, Cause.NAN})
"""Causes of a script that gave its result."""

_BROKEN_DEVICE: Final = re.compile(
    r"((CUDA|HIP)( error)?: )?"
    r"(uncorrectable (ECC|NVLink) error"
    r"|(all )?CUDA-capable device(s|\(s\)) (is/)?are busy or unavailable"
    r"|system not yet initialized)"  # NVSwitch without its fabric manager
    r"|(Unable to determine the device handle for .*)?(NVRM: .*)?"
    r"(\d+, .*)?GPU (is lost|has fallen off the bus)"
    r"|(Failed to initialize NVML: )?Driver/library version mismatch",
    re.IGNORECASE,
)
"""How messages begin that no script and no parameters can cause. An illegal memory access or a
missing device is not here: the one may be the script's own doing, the other a study that asked for
no GPU."""

_CHILD_KILLED: Final = re.compile(
    r"killed by signal: Killed|^Killed\b|exitcode *: -9\b|died with <Signals\.SIGKILL"
    r"|terminated with signal SIGKILL|SIGKILL\(-9\)|process pool was terminated abruptly",
    re.MULTILINE,
)
"""How PyTorch's data loader, a shell, torchrun and process pools tell of a child that got
SIGKILL."""


_SAID_ALONE: Final = re.compile(r"^finished: \S.*=[-+.\w]+$", re.MULTILINE)
"""What `sdk.finish` prints outside a study."""


class How(enum.StrEnum):
    """What ended an attempt, before anybody asks why."""

    EXITED = "exited"
    """The script ended by itself, or by a signal that studyflow did not send."""
    TIMEOUT = "timeout"
    """It ran out of time."""
    STOPPED = "stopped"
    """A runner asked for its end."""
    LOST = "lost"
    """Nobody saw its end."""
    REMOVED = "removed"
    """Its folder, or what a runner follows it by, was removed or replaced while it ran."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The facts about an attempt's end, as an executor found them."""

    how: How
    exit_code: int | None = None
    """Exit code of the script, negative for a signal; `None` when it never ran or nobody knows."""
    oom: bool = False
    """Whether the kernel killed something for want of memory while the script ran."""
    finished_first: bool = False
    """Whether the outcome was there before the script was stopped or ran out of time."""
    stop_cause: Cause | None = None
    """What the runner that stopped it wants it to end with."""
    stop_reason: str = ""
    timeout_seconds: float | None = None
    """The limit that it ran into."""


@dataclass(frozen=True, slots=True)
class NoDocument:
    """Something that stands where `sdk.finish` writes and cannot be read as a document."""

    what: str
    """Such as "a folder"."""


def diagnose(
    ending: Ending,
    said: bytes | NoDocument | None,
    log_tail: str,
    trial: Trial,
    redact: Callable[[str], str] = str,
) -> Outcome:
    """Return the outcome of an ended attempt.

    What the script said by `sdk.finish` before anything else happened stands: a crash while the
    interpreter shuts down, a hang after the result or a stop that came late change nothing.
    Otherwise a requested stop and the time limit come first, then the document, then exit code and
    last lines. Metrics may be NaN or infinite; that is the study's to judge. A pruned attempt has
    the metrics of its document all the same: the study knows whether it had any step left.

    Something that is said and refused is `bad-metric`. Only a script that ended in order and said
    nothing at all is silent (`Outcome.is_silent`).

    Args:
        ending: How the attempt ended.
        said: What stands where `sdk.finish` writes, however little; `None` when there is nothing.
        log_tail: The end of standard output and standard error; may be torn and hold anything.
        trial: The attempt that was submitted: the document must be about this very one.
        redact: Takes secrets out of the document's message, before any of it is cut off: what is
            left of half a secret is not known again.
    """
    document = None if said is None else _read(said, trial, redact)
    if ending.how in (How.STOPPED, How.TIMEOUT) and not _stands(document, ending):
        imposed = _outcome(trial, *_imposed(ending))
        has_result = document is not None and document.cause is Cause.OK
        if document is not None and has_result and imposed.cause is Cause.PRUNED:
            return replace(imposed, metrics=document.metrics)
        return imposed
    if document is not None:
        if ending.how is How.EXITED and ending.exit_code:
            return _with_exit(document, ending, log_tail, trial)
        return document
    if ending.how is How.LOST:
        return _outcome(
            trial,
            Cause.LOST,
            "Its machine shut down, or the process that watched over it was killed.",
        )
    if ending.how is How.REMOVED:
        return _outcome(
            trial,
            Cause.LOST,
            "Its folder, or a file in it by which the runner follows it, was removed or replaced. "
            "Hint: does the script clean up more than its working folder?",
        )
    if ending.exit_code == 0:
        silence = _outcome(trial, Cause.BAD_METRIC, _describe_silence(log_tail, trial))
        return replace(silence, is_silent=True)
    return _outcome(trial, *_judge_exit(ending, log_tail, trial))


def blame_device(outcome: Outcome, log_tail: str) -> Outcome:
    """Return the outcome of a script on one of several nodes: `node-fault` if its device is broken.

    Args:
        outcome: What `diagnose` made of the end.
        log_tail: The end of standard output and standard error; may be torn and hold anything.
    """
    if outcome.cause is not Cause.USER_ERROR:
        return outcome
    failures = last_failures(log_tail)
    if not any(failure.kind for failure in failures):
        failures = last_lines(log_tail, 2)
    for failure in (recorded_failure(outcome.message), *failures):
        if failure.begins_with(_BROKEN_DEVICE):
            shown = f"Its device is broken: {readable(failure.line)}"
            return replace(outcome, cause=Cause.NODE_FAULT, message=shown)
    return outcome


def _stands(document: Outcome | None, ending: Ending) -> bool:
    """Return whether what the script said came before its stop or the end of its time."""
    if document is None or document.stopped:
        return False
    if ending.how is How.STOPPED:
        # finish() says itself that no stop had been asked for: times of files may be equal, or the
        # clock may have been set back between them. A crash may have been a child's that the
        # script survived: the stop found it running.
        return document.cause is Cause.OK or (ending.finished_first and document.cause in _RESULTS)
    return ending.finished_first and document.cause is not Cause.BAD_METRIC


def _with_exit(document: Outcome, ending: Ending, log_tail: str, trial: Trial) -> Outcome:
    """Return what a script said before it failed, with how it failed.

    The values stand, yet what follows may have been meant to count: saving a model.
    """
    if document.cause not in (Cause.OK, Cause.BAD_METRIC):
        return document
    after = "After finish() the script" if document.cause is Cause.OK else "The script also"
    _, what = _judge_exit(ending, log_tail, trial)
    message = f"{document.message} {after} failed: {what}".strip()
    return replace(document, message=message[:MESSAGE_LIMIT_CHARS])


def _imposed(ending: Ending) -> tuple[Cause, str]:
    if ending.how is How.STOPPED:
        return ending.stop_cause or Cause.CANCELLED, ending.stop_reason
    limit = "" if ending.timeout_seconds is None else f" of {ending.timeout_seconds:g} s"
    return Cause.TIMEOUT, (
        f"Reached the time limit{limit}. Hint: raise trial.timeout_seconds in the study file, or "
        "train for fewer steps."
    )


def _read(said: bytes | NoDocument, trial: Trial, redact: Callable[[str], str]) -> Outcome:
    """Return what the script said, checked; `bad-metric` when it is refused."""
    if isinstance(said, NoDocument):
        return _outcome(
            trial,
            Cause.BAD_METRIC,
            f"{said.what[:1].upper()}{said.what[1:]} stands where the outcome document belongs. "
            "Hint: only sdk.finish(...) may write there.",
        )
    if not said.strip():
        return _outcome(
            trial,
            Cause.BAD_METRIC,
            f"The outcome document is empty ({_size(said)}): it could not be written. "
            "Hint: is the disk full? Only sdk.finish(...) may write there.",
        )
    try:
        outcome = Outcome.from_json(said)
    except DocumentError as error:
        return _outcome(trial, Cause.BAD_METRIC, _why_refused(said, error, redact))
    outcome = replace(outcome, message=redact(outcome.message))
    found = (outcome.study, outcome.number, outcome.attempt)
    expected = (trial.study, trial.number, trial.attempt)
    if found != expected:
        return _outcome(
            trial,
            Cause.BAD_METRIC,
            f"The outcome document is about {_name(*found, redact)}, not about "
            f"{_name(*expected, redact)}, and was refused. It begins {_beginning(said, redact)} "
            "Hint: does the script hand its environment to another trial?",
        )
    if outcome.cause not in _SCRIPT_CAUSES:
        return _outcome(
            trial,
            Cause.BAD_METRIC,
            f"The outcome document claims the cause {outcome.cause.value!r}, which no script can "
            f"know. It begins {_beginning(said, redact)}",
        )
    # An image may hold an older SDK, or none: then a document is written by hand.
    memory = recorded_failure(outcome.message).memory_cause
    if outcome.cause is Cause.USER_ERROR and memory is not None:
        return _outcome(trial, memory, readable(outcome.message))
    return outcome


def _why_refused(said: bytes, error: DocumentError, redact: Callable[[str], str]) -> str:
    """Return why a document cannot be read and how it begins, without secrets."""
    text = said.decode(errors="surrogateescape")
    redacted = redact(text)
    if redacted != text:
        # An error shows pieces of what it is about: of a text without secrets, it shows none.
        try:
            Outcome.from_json(redacted.encode(errors="surrogateescape"))
        except DocumentError as other:
            error = other
        else:
            return f"The outcome document is malformed. It begins {_beginning(said, redact)}"
    return readable(str(error))


def _size(said: bytes) -> str:
    is_cut = len(said) > OUTCOME_LIMIT_BYTES  # no more of it was read
    return f"more than {OUTCOME_LIMIT_BYTES} bytes" if is_cut else f"{len(said)} bytes"


def _beginning(said: bytes, redact: Callable[[str], str]) -> str:
    text = redact(said.decode(errors="replace"))
    return f"{readable(text, BEGINNING_BYTES)!r}."


def _judge_exit(ending: Ending, log_tail: str, trial: Trial) -> tuple[Cause, str]:
    code = ending.exit_code
    if code is None:
        return Cause.LOST, "The script ended, and how it ended is not known."
    number = _signal_number(code)
    failures = last_failures(log_tail)
    child_was_killed = any(
        _CHILD_KILLED.search(f"{failure.line}\n{failure.after}") for failure in failures
    )
    if ending.oom and (number == signal.SIGKILL or child_was_killed):
        return Cause.HOST_OOM, "The kernel killed it for want of memory."
    for failure in failures:
        if cause := failure.memory_cause:
            return cause, readable(failure.line)
    if code > 0 and (refused := explain_crash(log_tail, trial)):
        return Cause.USER_ERROR, refused
    last_line = _last_line(log_tail)
    shown = f" Last line: {last_line}" if last_line else ""
    if number in _OUTSIDE_SIGNALS:
        return Cause.LOST, f"Killed by {_signal_name(number)} from outside.{shown}"
    if code < 0 and number is not None:
        return Cause.USER_ERROR, f"Killed by {_signal_name(number)}.{shown}"
    return Cause.USER_ERROR, f"Exit code {code}.{shown}"


def _describe_silence(log_tail: str, trial: Trial) -> str:
    ended = f"Trial {trial.number} ended without an objective value (exit code 0)"
    silent = find_silence(log_tail)
    alone = _SAID_ALONE.search(log_tail)
    if silent is None and alone is not None:
        return (
            f"{ended}. Its log says {readable(alone[0], 60)!r}, as sdk.finish(...) does where the "
            f"variable {TRIAL_VARIABLE} is not set. Hint: hand it on to the process that trains: "
            "env -i, sudo, ssh and containers leave it out."
        )
    if silent is None:
        refused = explain_warning(log_tail, trial)
        return f"{ended}. {refused or 'Hint: call sdk.finish(...) before the script ends.'}"
    number, size = silent.variables
    return (
        f"{ended}: a process of rank {silent.number} called the SDK ({number}={silent.number}, "
        f"{size}={silent.size}), and only rank 0 reports. Hint: in a distributed training, call "
        f"sdk.finish(...) in rank 0 too; in any other, do not set {number} and {size} "
        "(trial.env of the study file, or the script)."
    )


def readable(text: str, limit_chars: int = LINE_LIMIT_CHARS) -> str:
    """Return text from a trial as one short line without colours and control characters."""
    # What cannot be seen in the result need not be looked at; escapes may triple a line's length.
    plain = ANSI.sub("", text[: 8 * limit_chars])
    plain = "".join(c if c.isprintable() else " " for c in plain)
    plain = " ".join(plain.split())
    return plain if len(plain) <= limit_chars else plain[: limit_chars - 1] + "…"


def _last_line(log_tail: str) -> str:
    # A progress bar rewrites its line; splitlines takes what follows the last return for the last.
    for line in reversed(log_tail.splitlines()):
        # A log that was cut off at its head while it was written to has a hole there, read as NULs.
        if shown := readable(line.lstrip("\0")):
            return shown
    return ""


def _signal_number(code: int) -> int | None:
    if code < 0:
        return -code
    if code > SHELL_SIGNAL_BASE:
        return code - SHELL_SIGNAL_BASE
    return None


def _signal_name(number: int | None) -> str:
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return f"signal {number}"


def _name(study: str, number: int, attempt: int, redact: Callable[[str], str]) -> str:
    return f"trial {number}, attempt {attempt} of study {readable(redact(study), 60)!r}"


def _outcome(trial: Trial, cause: Cause, message: str) -> Outcome:
    return Outcome(
        study=trial.study,
        number=trial.number,
        attempt=trial.attempt,
        cause=cause,
        message=message[:MESSAGE_LIMIT_CHARS],
    )
