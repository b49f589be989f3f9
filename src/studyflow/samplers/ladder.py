"""The failure ladder: simpler and simpler ways to a suggestion, until one works.

A study must not end, nor a trial be left running for ever, because a matrix was singular. Each rung
needs less than the one above; the last needs nothing. Which rung gave a suggestion, and why those
above did not, is recorded on the trial.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class Rung(StrEnum):
    """How a suggestion was made, from the best to the last resort."""

    MODEL = "model"
    """The model with one lengthscale per parameter."""
    ISOTROPIC = "isotropic"
    """The model with one lengthscale for all: three numbers to fit."""
    PRIOR = "prior"
    """The model with its prior's hyperparameters: nothing to fit."""
    STARTUP = "startup"
    """A space-filling point, because too little is finished to model."""
    SPACE_FILLING = "space-filling"
    """A space-filling point, because every model failed."""
    RANDOM = "random"
    """An independent draw of each parameter: the search space itself could not be read."""


@dataclass(frozen=True)
class Descent(Generic[T]):
    """What a ladder gave."""

    rung: Rung
    result: T
    reason: str | None
    """One clause for each rung that failed; `None` if the first one worked."""


def descend(attempts: Sequence[tuple[Rung, Callable[[], T]]]) -> Descent[T]:
    """Return the result of the first attempt that does not raise.

    Args:
        attempts: From the best to the last resort.

    Raises:
        Exception: What the last attempt raised.
    """
    reasons: list[str] = []
    for rung, attempt in attempts[:-1]:
        try:
            return Descent(rung, attempt(), "; ".join(reasons) or None)
        except Exception as error:  # noqa: BLE001  (any failure of a model is survivable: next rung)
            text = str(error).split("\n", 1)[0][:200]
            reasons.append(f"{rung}: {type(error).__name__}: {text}")
    rung, attempt = attempts[-1]
    return Descent(rung, attempt(), "; ".join(reasons) or None)
