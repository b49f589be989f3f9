"""How attempts that were lost are written into Optuna's storage, and read back.

They stand twice among a trial's user attributes: as studyflow 0.1.0 reads and adds to them, and by
the names of all that is known of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from studyflow.trial import Cause
from studyflow.trial.record import LostAttempt

ATTEMPTS: Final = "attempts"
"""Attempts that were lost and followed by another, as studyflow 0.1.0 reads and adds to them: a
list of [attempt, cause, message, seconds, node, end]; what is not known is `null`, and older
entries are shorter."""
LOST: Final = "lost_attempts"
"""The same attempts by key: a list of objects, see `to_document`. One that only `ATTEMPTS` has was
lost under studyflow 0.1.0; where both stand, this one is read."""

_FIELDS: Final = tuple(field.name for field in dataclasses.fields(LostAttempt))
_POSITIONS: Final = ("attempt", "cause", "message", "trained_seconds", "node", "ended_at")
"""What an entry of `ATTEMPTS` has, in order."""


def with_lost(attrs: Mapping[str, Any], lost: LostAttempt) -> dict[str, Any]:
    """Return the user attributes of a trial that has lost another attempt: those that change.

    Args:
        attrs: What is stored of the trial.
        lost: The attempt.
    """
    of_older = [getattr(lost, name) for name in _POSITIONS]
    return {
        ATTEMPTS: [*attrs.get(ATTEMPTS, ()), of_older],
        LOST: [*attrs.get(LOST, ()), to_document(lost)],
    }


def to_document(lost: LostAttempt) -> dict[str, Any]:
    """Return what is stored of a lost attempt, by the names of its fields, without what is `None`.

    An older reader passes over names that it does not know.
    """
    given = {field.name: getattr(lost, field.name) for field in dataclasses.fields(lost)}
    return {name: value for name, value in given.items() if value is not None}


def lost_attempts(attrs: Mapping[str, Any]) -> tuple[LostAttempt, ...]:
    """Return the lost attempts among a trial's user attributes, in order."""
    entries = attrs.get(ATTEMPTS)
    if not entries:
        return ()
    older = [dict(zip(_POSITIONS, e, strict=False)) for e in _items(entries) if _items(e)]
    newer = {
        document["attempt"]: document
        for document in _items(attrs.get(LOST))
        if isinstance(document, dict) and _is_numbered(document)
    }
    return tuple(
        _lost_attempt(newer.get(entry["attempt"], entry)) for entry in older if _is_numbered(entry)
    )


def _items(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _is_numbered(document: Mapping[str, Any]) -> bool:
    return type(document.get("attempt")) is int and "cause" in document


def _lost_attempt(document: Mapping[str, Any]) -> LostAttempt:
    known = {name: document[name] for name in _FIELDS if name in document}
    known["cause"] = known_cause(str(document["cause"])) or Cause.LOST
    return LostAttempt(**known)


def known_cause(text: str) -> Cause | None:
    """Return a stored cause; `None` for that of a later version, and for what is none."""
    try:
        return Cause(text)
    except ValueError:
        return None
