"""How far a run has come by each limit of the study's budget, and how long it still takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from studyflow.ledger.limits import Account, LimitKind
from studyflow.spec import StudySpec


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a study stands at one moment of a run."""

    n_trials: int | None
    """Trials to finish; `None` for as many as another limit allows."""
    n_finished: int
    n_new: int
    """Of these, how many this run has finished."""
    elapsed_seconds: float
    """How long this run has taken."""
    worked_seconds: float
    """The same without pauses."""
    account: Account | None
    """How the budget stands; `None` where trials and seconds alone bound the study."""


class Outlook:
    """Says how much of a budget is used up, by the limit that is nearest to its end.

    Args:
        spec: The study.
    """

    def __init__(self, spec: StudySpec) -> None:
        self._spec = spec
        self._spent_before: dict[LimitKind, tuple[float, float]] = {}
        """By limit, what was spent when this run saw it first, and after how many seconds."""

    def share(self, found: Standing) -> float | None:
        """Return the part that is used up, 0 to 1; `None` for a budget of trials alone."""
        return max((min(max(s, 0.0), 1.0) for s in self._shares(found)), default=None)

    def seconds_left(self, found: Standing) -> float | None:
        """Return how long until the first limit is reached at the pace so far; `None` if unknown.

        With `n_trials` it is not known before a trial has finished.
        """
        left = list(self._left(found))
        if found.n_trials is not None:
            if found.n_new == 0:
                return None
            left.append(found.elapsed_seconds / found.n_new * (found.n_trials - found.n_finished))
        return min((max(seconds, 0.0) for seconds in left), default=None)

    def _shares(self, found: Standing) -> Iterator[float]:
        limit = self._spec.budget.timeout_seconds
        if limit is not None:
            yield found.worked_seconds / limit
        if found.account is None:
            return
        for balance in found.account.balances:
            yield balance.spent / balance.limit
        if found.account.finish_at is not None:
            left = found.account.finish_at - found.account.now
            yield found.elapsed_seconds / max(
                found.elapsed_seconds + left, found.elapsed_seconds, 1
            )

    def _left(self, found: Standing) -> Iterator[float]:
        limit = self._spec.budget.timeout_seconds
        if limit is not None:
            yield limit - found.worked_seconds
        if found.account is None:
            return
        for balance in found.account.balances:
            before = (balance.spent, found.elapsed_seconds)
            spent, since = self._spent_before.setdefault(balance.kind, before)
            if balance.spent > spent and found.elapsed_seconds > since:
                per_second = (balance.spent - spent) / (found.elapsed_seconds - since)
                yield (balance.limit - balance.spent) / per_second
        if found.account.finish_at is not None:
            yield found.account.finish_at - found.account.now
