"""What a script left where its outcome belongs, checked: nothing in it is believed unseen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from studyflow.errors import DocumentError
from studyflow.executors.diagnosis.ending import NoDocument
from studyflow.executors.diagnosis.failures import recorded_failure
from studyflow.executors.diagnosis.text import readable
from studyflow.reasons import Code, Reason, ReasonCode
from studyflow.trial import (
    BEGINNING_BYTES,
    OUTCOME_LIMIT_BYTES,
    Cause,
    Outcome,
    Trial,
    is_sealed_outcome,
)

_SCRIPT_CAUSES: Final = frozenset(
    {Cause.OK, Cause.NAN, Cause.BAD_METRIC, Cause.USER_ERROR, Cause.HOST_OOM, Cause.CUDA_OOM}
)
"""Causes that a script can know. The others are the runner's to give: a script that could say
`lost` would be attempted for ever."""

Redact = Callable[[str], str]
"""Takes secrets out of a text."""


def outcome_of(trial: Trial, cause: Cause, reason: Reason) -> Outcome:
    """Return an attempt's outcome without metrics."""
    return Outcome(
        study=trial.study,
        number=trial.number,
        attempt=trial.attempt,
        cause=cause,
        message=reason.message,
        hint=reason.hint,
        code=reason.code,
    )


def read_outcome(said: bytes | NoDocument, trial: Trial, redact: Redact) -> Outcome:
    """Return what the script said; `bad-metric` when it is refused.

    Args:
        said: What stands where `sdk.finish` writes.
        trial: The attempt: the document must be about this very one.
        redact: Takes secrets out of what is shown.
    """
    if isinstance(said, NoDocument):
        return _refused(
            trial,
            Code.OUTCOME_DAMAGED,
            f"{said.what[:1].upper()}{said.what[1:]} stands where the outcome document belongs.",
            "only sdk.finish(...) may write there.",
        )
    if not said.strip():
        return _refused(
            trial,
            Code.OUTCOME_DAMAGED,
            f"The outcome document is empty ({_size(said)}): it could not be written.",
            "is the disk full? Only sdk.finish(...) may write there.",
        )
    try:
        outcome = Outcome.from_json(said)
    except DocumentError as error:
        return _unreadable(trial, said, error, redact)
    return _checked(
        replace(
            outcome,
            message=redact(outcome.message),
            hint=None if outcome.hint is None else redact(outcome.hint),
        ),
        said,
        trial,
        redact,
    )


def _checked(outcome: Outcome, said: bytes, trial: Trial, redact: Redact) -> Outcome:
    found = (outcome.study, outcome.number, outcome.attempt)
    expected = (trial.study, trial.number, trial.attempt)
    if found != expected:
        return _refused(
            trial,
            Code.OUTCOME_FOREIGN,
            f"The outcome document is about {_name(*found, redact)}, not about "
            f"{_name(*expected, redact)}, and was refused. It begins {_beginning(said, redact)}",
            "does the script hand its environment to another trial?",
        )
    if trial.key is not None and not is_sealed_outcome(said, trial.key):
        return _refused(
            trial,
            Code.OUTCOME_FORGED,
            "The outcome document lacks the seal of this attempt, and was refused: another process "
            f"wrote it, or changed it. It begins {_beginning(said, redact)}",
            "does another trial write there? A script that writes it without this studyflow's sdk "
            "copies `key` from STUDYFLOW_TRIAL into the document.",
        )
    if outcome.cause not in _SCRIPT_CAUSES:
        return _refused(
            trial,
            Code.OUTCOME_REFUSED,
            f"The outcome document claims the cause {outcome.cause.value!r}, which no script can "
            f"know. It begins {_beginning(said, redact)}",
        )
    # An image may hold an older SDK, or none: then a document is written by hand.
    memory = recorded_failure(outcome.message).memory_cause
    if outcome.cause is Cause.USER_ERROR and memory is not None:
        return outcome_of(trial, memory, Reason(memory, readable(outcome.message)))
    return outcome


def _unreadable(trial: Trial, said: bytes, error: DocumentError, redact: Redact) -> Outcome:
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
            told = f"The outcome document is malformed. It begins {_beginning(said, redact)}"
            return _refused(trial, Code.OUTCOME_DAMAGED, told)
    return _refused(trial, Code.OUTCOME_DAMAGED, readable(error.message), error.hint)


def _refused(trial: Trial, code: ReasonCode, message: str, hint: str | None = None) -> Outcome:
    return outcome_of(trial, Cause.BAD_METRIC, Reason(code, message, hint))


def _size(said: bytes) -> str:
    is_cut = len(said) > OUTCOME_LIMIT_BYTES  # no more of it was read
    return f"more than {OUTCOME_LIMIT_BYTES} bytes" if is_cut else f"{len(said)} bytes"


def _beginning(said: bytes, redact: Redact) -> str:
    text = redact(said.decode(errors="replace"))
    return f"{readable(text, BEGINNING_BYTES)!r}."


def _name(study: str, number: int, attempt: int, redact: Redact) -> str:
    return f"trial {number}, attempt {attempt} of study {readable(redact(study), 60)!r}"
