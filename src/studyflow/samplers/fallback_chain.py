"""The fallback chain: simpler and simpler ways to a suggestion, until one works.

A study must not end, nor a trial be left running for ever, because a matrix was singular. Each
level needs less than the one before; the last needs nothing. The trial records which level gave its
suggestion, and why those before did not. When the time for a suggestion is up, the models that have
not been asked yet are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from studyflow.samplers.deadline import OutOfTime
from studyflow.samplers.levels import MODEL_LEVELS, SuggestionLevel

T = TypeVar("T")


@dataclass(frozen=True)
class ChainResult(Generic[T]):
    """What a fallback chain gave."""

    level: SuggestionLevel
    result: T
    reason: str | None
    """One clause for each level that was tried and failed; `None` if the first one worked."""


def first_result(
    attempts: Sequence[tuple[SuggestionLevel, Callable[[], T]]],
) -> ChainResult[T]:
    """Return the result of the first attempt that does not raise.

    After one that ran out of time, no model is attempted.

    Args:
        attempts: From the best to the last resort, at least one.

    Raises:
        Exception: What the last attempt raised.
    """
    reasons: list[str] = []
    is_out_of_time = False
    for level, attempt in attempts[:-1]:
        if is_out_of_time and level in MODEL_LEVELS:
            continue
        try:
            return ChainResult(level, attempt(), "; ".join(reasons) or None)
        except Exception as error:  # noqa: BLE001  (any failure of a model is survivable)
            # The reason is stored on the trial, and the sampler logs it.
            text = str(error).split("\n", 1)[0][:200]
            reasons.append(f"{level}: {type(error).__name__}: {text}")
            is_out_of_time |= isinstance(error, OutOfTime)
    level, attempt = attempts[-1]
    return ChainResult(level, attempt(), "; ".join(reasons) or None)
