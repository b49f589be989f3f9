"""How the ledger is written into Optuna's storage: one attribute for each attempt of a trial.

It is written with the end of its attempt, by the same conditional write, so an attempt has one row
whoever sees its end. What an older reader does not know, it passes over.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Final

from studyflow.trial import Cause
from studyflow.trial.cost import AttemptCost, Begin
from studyflow.trial.record import Resumption

COST: Final = "cost:"
"""User attribute, followed by an attempt's number: what it cost, by the names of `AttemptCost`."""
BEGIN: Final = "begun"
"""User attribute: what was known when the newest attempt was begun, by the names of `Begin`."""

RESUMED: Final = "resumed:"
"""User attribute, followed by an attempt's number: why it took up a paused trial, by the names of
`Resumption`."""

_FIELDS: Final = frozenset(field.name for field in dataclasses.fields(AttemptCost))


def attribute_of(cost: AttemptCost | None) -> dict[str, Any]:
    """Return the user attribute that keeps a row; none without a row."""
    if cost is None:
        return {}
    usual = AttemptCost(cost.attempt, cost.cause)
    given = {name: getattr(cost, name) for name in sorted(_FIELDS)}
    shown = {name: value for name, value in given.items() if value != getattr(usual, name)}
    key = f"{COST}{cost.attempt}"
    return {key: {"attempt": cost.attempt, "cause": cost.cause.value, **shown}}


def begin_attribute(begin: Begin | None) -> dict[str, Any]:
    """Return the user attribute that keeps how an attempt was begun; none if that is unknown."""
    if begin is None:
        return {}
    left = {"left": dict(begin.left)} if begin.left else {}
    return {BEGIN: {"attempt": begin.attempt, "at": begin.at, **left}} | _resumed(begin)


def _resumed(begin: Begin) -> dict[str, Any]:
    if begin.resumption is None:
        return {}
    return {
        f"{RESUMED}{begin.attempt}": {
            "attempt": begin.attempt,
            "message": begin.resumption.message,
            "at": begin.at,
            "numbers": dict(begin.resumption.numbers),
        }
    }


def resumptions_in(attrs: Mapping[str, Any]) -> tuple[Resumption, ...]:
    """Return why a trial was taken up after pauses, by attempt; damaged ones are left out."""
    found = [_resumption(value) for key, value in attrs.items() if key.startswith(RESUMED)]
    return tuple(sorted((r for r in found if r is not None), key=lambda r: r.attempt))


def _resumption(document: Any) -> Resumption | None:
    try:
        return Resumption(
            int(document["attempt"]),
            str(document.get("message", "")),
            document.get("at"),
            dict(document.get("numbers", {})),
        )
    except (TypeError, KeyError, ValueError, AttributeError):
        return None


def costs_in(attrs: Mapping[str, Any]) -> tuple[AttemptCost, ...]:
    """Return the rows among a trial's user attributes, by attempt; damaged ones are left out."""
    found = (_cost(value) for key, value in attrs.items() if key.startswith(COST))
    return tuple(sorted((c for c in found if c is not None), key=lambda cost: cost.attempt))


def begin_in(attrs: Mapping[str, Any]) -> Begin | None:
    """Return how a trial's newest attempt was begun; `None` if that is not known."""
    document: Any = attrs.get(BEGIN)
    try:
        begin = Begin(int(document["attempt"]), document.get("at"), dict(document.get("left", {})))
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
    return begin if begin.attempt == attrs.get("attempt") else None


def _cost(document: Any) -> AttemptCost | None:
    try:
        known = {name: value for name, value in document.items() if name in _FIELDS}
        known["cause"] = Cause(known["cause"])
        cost = AttemptCost(**known)
        is_sound = all(map(math.isfinite, (cost.unit_seconds, cost.lost_seconds)))
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
    return cost if is_sound else None
