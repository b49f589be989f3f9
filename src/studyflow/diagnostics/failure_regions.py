"""Which parameters the trials of one failure kind have in common: one bound of one parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeGuard

from studyflow.reports.wording import value
from studyflow.trial import ParamValue

MIN_TRIALS: Final = 2
"""Failed trials from which a region is told: one has all of its parameters in common."""
MIN_SEPARATION: Final = 0.75
"""Share of the kind inside the region, less that of the others, from which it is told."""

Params = Mapping[str, ParamValue]


@dataclass(frozen=True, slots=True)
class FailureRegion:
    """A part of the search space that one bound cuts off."""

    condition: str
    """Such as `batch_size ≥ 96`."""
    n_inside: int
    """Failed trials in it."""
    n_others: int
    """Other trials in it."""


def common_region(failed: Sequence[Params], others: Sequence[Params]) -> FailureRegion | None:
    """Return the bound that best tells trials of one failure kind from the others.

    `None` when no single bound does, or when there is too little to compare.

    Args:
        failed: Parameters of the trials of the kind.
        others: Parameters of the trials that went otherwise.
    """
    if len(failed) < MIN_TRIALS or not others:
        return None
    best: tuple[float, FailureRegion] | None = None
    for bound in _bounds(failed):
        inside = sum(bound.holds(params) for params in failed)
        beside = sum(bound.holds(params) for params in others)
        separation = inside / len(failed) - beside / len(others)
        if best is None or separation > best[0]:
            best = separation, FailureRegion(str(bound), inside, beside)
    return best[1] if best is not None and best[0] >= MIN_SEPARATION else None


@dataclass(frozen=True, slots=True)
class _Bound:
    """A condition on one parameter."""

    name: str
    relation: Literal["≥", "≤", "="]
    limit: ParamValue

    def holds(self, params: Params) -> bool:
        if self.name not in params:
            return False
        given = params[self.name]
        if _is_number(given) and _is_number(self.limit) and self.relation != "=":
            return given >= self.limit if self.relation == "≥" else given <= self.limit
        # `True` equals 1 in Python, yet they are two choices.
        return given == self.limit and type(given) is type(self.limit)

    def __str__(self) -> str:
        return f"{self.name} {self.relation} {value(self.limit)}"


def _bounds(failed: Sequence[Params]) -> Iterator[_Bound]:
    """Yield the bounds that some failed trial lies on."""
    for name in dict.fromkeys(key for params in failed for key in params):
        for one in dict.fromkeys(params[name] for params in failed if name in params):
            if _is_number(one):
                yield _Bound(name, "≥", one)
                yield _Bound(name, "≤", one)
            else:
                yield _Bound(name, "=", one)


def _is_number(given: ParamValue) -> TypeGuard[int | float]:
    return isinstance(given, int | float) and not isinstance(given, bool)
