"""What counts towards a study's budget of trials. Pure."""

from __future__ import annotations

from studyflow.spec import StudySpec
from studyflow.trial import Consequence
from studyflow.trial.record import TrialRecord, TrialState


def is_counted(record: TrialRecord) -> bool:
    """Return whether a trial is finished and uses up one of `budget.n_trials`.

    Trials that were cancelled or that a limit ended do not, nor do those taken over from another
    study, failures before any success, and failed trials whose budget was given back.
    """
    return (
        record.state.is_finished
        and (record.cause is None or record.cause.consequence is not Consequence.END)
        and not record.is_taken_over
        and not record.is_first_failure
        and not record.is_given_back
    )


def uses_budget(record: TrialRecord) -> bool:
    """Return whether a trial uses up one of `budget.n_trials`, or will if it goes on."""
    return record.state is TrialState.RUNNING or is_counted(record)


def n_trials_to_finish(spec: StudySpec) -> int | None:
    """Return how many trials end a study: the budget, or a grid's size if that is less.

    `None` for as many as another limit of the budget allows.
    """
    limits = [spec.budget.n_trials]
    if spec.sampler.type == "grid":
        limits.append(spec.space.cardinality)
    return min((limit for limit in limits if limit is not None), default=None)


def n_trials_left(n_trials: int | None, n_used: int) -> int | None:
    """Return how many trials a study may still start; `None` for any number.

    Args:
        n_trials: How many end it, as `n_trials_to_finish` says.
        n_used: How many it has used up.
    """
    return None if n_trials is None else max(n_trials - n_used, 0)


def has_its_trials(n_trials: int | None, n_counted: int) -> bool:
    """Return whether a study has all its trials; never where their number has no limit.

    Args:
        n_trials: How many end it, as `n_trials_to_finish` says.
        n_counted: How many count.
    """
    return n_trials is not None and n_counted >= n_trials


def by_end(record: TrialRecord) -> tuple[float, int]:
    """Return the key that sorts finished trials by when they ended."""
    return record.finished_at or 0.0, record.number
