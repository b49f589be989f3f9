"""When hyperparameters are learnt anew: with each result at first, later after every few percent.

After hundreds of results one more changes lengthscales and noise by less than they are uncertain,
and learning them is half of what a suggestion costs. The schedule is a function of the finished
trials alone, so that a runner that has restarted, or another one, has the same model.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from optuna.trial import FrozenTrial

ALWAYS_UP_TO: Final = 500
"""Finished trials up to which each result is learnt from at once."""

SHARE: Final = 20
"""Beyond that, hyperparameters are learnt again once a study has grown by one part in so many."""


def n_learnt_from(n_finished: int) -> int:
    """Return from how many of the finished trials, the first ones, hyperparameters are learnt."""
    if n_finished <= ALWAYS_UP_TO:
        return n_finished
    n = ALWAYS_UP_TO
    while (following := n + n // SHARE) <= n_finished:
        n = following
    return n


def later_numbers(trials: Sequence[FrozenTrial]) -> frozenset[int]:
    """Return the numbers of the finished trials that hyperparameters are not learnt from yet.

    Those that ended last; of those that ended at once, the ones of higher number.

    Args:
        trials: All trials of a study.
    """
    finished = [trial for trial in trials if trial.state.is_finished()]
    n_later = len(finished) - n_learnt_from(len(finished))
    if not n_later:
        return frozenset()
    by_end = sorted(finished, key=lambda t: (t.datetime_complete or datetime.min, t.number))
    return frozenset(trial.number for trial in by_end[-n_later:])
