"""Which of all that is known of an attempt's end counts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from studyflow.executors.diagnosis.ending import Ending, How, NoDocument
from studyflow.executors.diagnosis.exits import judge_exit
from studyflow.executors.diagnosis.failures import last_failures, last_lines, recorded_failure
from studyflow.executors.diagnosis.said import Redact, outcome_of, read_outcome
from studyflow.executors.diagnosis.silence import why_silent
from studyflow.executors.diagnosis.text import readable
from studyflow.reasons import Code, Reason
from studyflow.trial import MESSAGE_LIMIT_CHARS, Cause, Outcome, Trial

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

_UNSEEN: Final[Mapping[How, Reason]] = {
    How.LOST: Reason(
        Cause.LOST, "Its machine shut down, or the process that watched over it was killed."
    ),
    How.FORGED_STOP: Reason(
        Code.STOP_FORGED,
        "Another process wrote the stop.json that ended it: no runner asked for its end.",
        "does another trial write there?",
    ),
    How.REMOVED: Reason(
        Code.FOLDER_REMOVED,
        "Its folder, or a file in it by which the runner follows it, was removed or replaced.",
        "does the script clean up more than its working folder?",
    ),
}
"""Ends that nobody saw, of scripts that said nothing: all of them are `lost`."""


def diagnose(
    ending: Ending,
    said: bytes | NoDocument | None,
    log_tail: str,
    trial: Trial,
    redact: Redact = str,
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
    document = None if said is None else read_outcome(said, trial, redact)
    outcome = _judge(ending, document, log_tail, trial)
    return replace(outcome, message=outcome.message[:MESSAGE_LIMIT_CHARS])


def _judge(ending: Ending, document: Outcome | None, log_tail: str, trial: Trial) -> Outcome:
    if ending.how in (How.STOPPED, How.TIMEOUT) and not _stands(document, ending):
        imposed = outcome_of(trial, *_imposed(ending))
        has_result = document is not None and document.cause is Cause.OK
        if document is not None and has_result and imposed.cause is Cause.PRUNED:
            return replace(imposed, metrics=document.metrics)
        return imposed
    if ending.how is How.FORGED_STOP and _was_cut_short(document):
        document = None
    if document is not None:
        if ending.how is How.EXITED and ending.exit_code:
            return _with_exit(document, ending, log_tail, trial)
        return document
    if ending.how in _UNSEEN:
        return outcome_of(trial, Cause.LOST, _UNSEEN[ending.how])
    if ending.exit_code == 0:
        return outcome_of(trial, Cause.BAD_METRIC, why_silent(log_tail, trial))
    return outcome_of(trial, *judge_exit(ending, log_tail, trial))


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
            return replace(
                outcome, cause=Cause.NODE_FAULT, message=shown, hint=None, code=Cause.NODE_FAULT
            )
    return outcome


def redacted(outcome: Outcome, redact: Redact) -> Outcome:
    """Return an outcome whose words hold no secrets."""
    hint = None if outcome.hint is None else redact(outcome.hint)
    return replace(outcome, message=redact(outcome.message), hint=hint)


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


def _was_cut_short(document: Outcome | None) -> bool:
    """Return whether a script said what it says because of the stop: half a result, or a crash."""
    return document is not None and (document.stopped or document.cause is Cause.USER_ERROR)


def _with_exit(document: Outcome, ending: Ending, log_tail: str, trial: Trial) -> Outcome:
    """Return what a script said before it failed, with how it failed.

    The values stand, yet what follows may have been meant to count: saving a model.
    """
    if document.cause not in (Cause.OK, Cause.BAD_METRIC):
        return document
    after = "After finish() the script" if document.cause is Cause.OK else "The script also"
    _, reason = judge_exit(ending, log_tail, trial)
    message = f"{document.message} {after} failed: {reason.message}".strip()
    return replace(document, message=message, hint=document.hint or reason.hint)


def _imposed(ending: Ending) -> tuple[Cause, Reason]:
    """Return what an attempt ends with that was stopped or ran out of time."""
    if ending.how is How.STOPPED:
        cause = ending.stop_cause or Cause.CANCELLED
        return cause, ending.stop_reason or Reason(cause, "")
    limit = "" if ending.timeout_seconds is None else f" of {ending.timeout_seconds:g} s"
    return Cause.TIMEOUT, Reason(
        Cause.TIMEOUT,
        f"Reached the time limit{limit}.",
        "raise trial.timeout_seconds in the study file, or train for fewer steps.",
    )
