"""The failure ladder: simpler and simpler ways to a suggestion, until one works.

A study must not end, nor a trial be left running for ever, because a matrix was singular. Each rung
needs less than the one above; the last needs nothing. Which rung gave a suggestion, and why those
above did not, is recorded on the trial. When the time for a suggestion is up, the models that have
not been asked yet are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

from studyflow.samplers.deadline import OutOfTime

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
    """A space-filling point, because every model failed or the time was up."""
    RANDOM = "random"
    """An independent draw of each parameter: the search space itself could not be read."""


_MODELS: Final = frozenset({Rung.MODEL, Rung.ISOTROPIC, Rung.PRIOR})
"""The rungs that take time."""


@dataclass(frozen=True)
class Descent(Generic[T]):
    """What a ladder gave."""

    rung: Rung
    result: T
    reason: str | None
    """One clause for each rung that was tried and failed; `None` if the first one worked."""


def descend(attempts: Sequence[tuple[Rung, Callable[[], T]]]) -> Descent[T]:
    """Return the result of the first attempt that does not raise.

    After one that ran out of time, no model is attempted.

    Args:
        attempts: From the best to the last resort.

    Raises:
        Exception: What the last attempt raised.
    """
    reasons: list[str] = []
    is_out_of_time = False
    for rung, attempt in attempts[:-1]:
        if is_out_of_time and rung in _MODELS:
            continue
        try:
            return Descent(rung, attempt(), "; ".join(reasons) or None)
        except Exception as error:  # noqa: BLE001  (any failure of a model is survivable: next rung)
            text = str(error).split("\n", 1)[0][:200]
            reasons.append(f"{rung}: {type(error).__name__}: {text}")
            is_out_of_time |= isinstance(error, OutOfTime)
    rung, attempt = attempts[-1]
    return Descent(rung, attempt(), "; ".join(reasons) or None)
