"""How many trials a budget is expected to make where no number bounds them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from studyflow.ledger.statement import Statement


@dataclass(frozen=True, slots=True)
class ExpectedTrials:
    """How many trials a budget is expected to make from now on."""

    number: int
    n_known: int
    """Trials that have ended and say so; 0 where each is taken to last `trial.timeout_seconds`, so
    that the number is the least."""

    def __str__(self) -> str:
        if self.n_known == 0:
            return f"at least {self.number}, if each takes trial.timeout_seconds"
        have = "one that has" if self.n_known == 1 else f"{self.n_known} that have"
        return f"about {self.number}, by what {have} ended took"


def expected_trials(found: Statement, slots: int) -> ExpectedTrials | None:
    """Return how many trials a study is expected to start from now on; `None` if nothing is known.

    Args:
        found: How the study stands.
        slots: Trials in parallel.
    """
    durations = found.account.durations
    if not durations.n_trials and found.spec.trial.timeout_seconds is None:
        return None
    least = min(_numbers(found, slots), default=None)
    return None if least is None else ExpectedTrials(max(least, 0), durations.n_trials)


def _numbers(found: Statement, slots: int) -> Iterator[int]:
    """Yield how many trials fit into each limit."""
    account = found.account
    typical = account.durations.typical_seconds
    for balance in account.balances:
        if balance.typical > 0:
            yield math.floor(balance.left / balance.typical * (1 + 1e-9))
    if account.finish_at is not None:
        yield slots * math.floor((account.finish_at - account.now) / typical)
    if found.spec.budget.timeout_seconds is not None:
        yield slots * math.ceil(found.spec.budget.timeout_seconds / typical)
