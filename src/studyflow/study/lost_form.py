"""How attempts that were lost or paused are written into Optuna's storage, and read back.

A paused one stands among the lost ones, with its own cause: an earlier studyflow takes it for lost,
and goes on with its trial at once. They stand twice among a trial's user attributes: as studyflow
0.1.0 reads and adds to them, and by the names of all that is known of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from studyflow.trial import Cause
from studyflow.trial.record import LostAttempt, PausedAttempt

FollowedAttempt = LostAttempt | PausedAttempt

ATTEMPTS: Final = "attempts"
"""Attempts that were lost and followed by another, as studyflow 0.1.0 reads and adds to them: a
list of [attempt, cause, message, seconds, node, end]; what is not known is `null`, and older
entries are shorter."""
LOST: Final = "lost_attempts"
"""The same attempts by key: a list of objects, see `to_document`. One that only `ATTEMPTS` has was
lost under studyflow 0.1.0; where both stand, this one is read."""

_FIELDS: Final = tuple(field.name for field in dataclasses.fields(LostAttempt))
_PAUSED_FIELDS: Final = tuple(field.name for field in dataclasses.fields(PausedAttempt))
_POSITIONS: Final = ("attempt", "cause", "message", "trained_seconds", "node", "ended_at")
"""What an entry of `ATTEMPTS` has, in order."""


def with_followed(attrs: Mapping[str, Any], lost: FollowedAttempt) -> dict[str, Any]:
    """Return the user attributes of a trial of which another attempt was lost or paused.

    Args:
        attrs: What is stored of the trial.
        lost: The attempt.
    """
    of_older = [getattr(lost, name) for name in _POSITIONS]
    return {
        ATTEMPTS: [*attrs.get(ATTEMPTS, ()), of_older],
        LOST: [*attrs.get(LOST, ()), to_document(lost)],
    }


def to_document(lost: FollowedAttempt) -> dict[str, Any]:
    """Return what is stored of an attempt, by the names of its fields, without what is `None`.

    An older reader passes over names that it does not know.
    """
    given = {field.name: getattr(lost, field.name) for field in dataclasses.fields(lost)}
    given["cause"] = lost.cause
    given["numbers"] = dict(lost.numbers) if isinstance(lost, PausedAttempt) else None
    return {name: value for name, value in given.items() if value is not None}


def followed_attempts(attrs: Mapping[str, Any]) -> tuple[FollowedAttempt, ...]:
    """Return the lost and the paused attempts among a trial's user attributes, in order."""
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
        _followed_attempt(newer.get(entry["attempt"], entry))
        for entry in older
        if _is_numbered(entry)
    )


def _items(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _is_numbered(document: Mapping[str, Any]) -> bool:
    return type(document.get("attempt")) is int and "cause" in document


def _followed_attempt(document: Mapping[str, Any]) -> FollowedAttempt:
    cause = known_cause(str(document["cause"])) or Cause.LOST
    if cause is Cause.PAUSED:
        paused = {name: document[name] for name in _PAUSED_FIELDS if name in document}
        if not isinstance(paused.get("numbers", {}), dict):
            del paused["numbers"]
        return PausedAttempt(**paused)
    known = {name: document[name] for name in _FIELDS if name in document}
    return LostAttempt(**known | {"cause": cause})


def known_cause(text: str) -> Cause | None:
    """Return a stored cause; `None` for that of a later version, and for what is none."""
    try:
        return Cause(text)
    except ValueError:
        return None
