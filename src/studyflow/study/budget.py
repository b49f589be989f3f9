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


def n_trials_to_finish(spec: StudySpec) -> int:
    """Return how many trials end a study: the budget, or a grid's size if that is less."""
    budget = spec.budget.n_trials
    if spec.sampler.type != "grid":
        return budget
    return min(budget, spec.space.cardinality or budget)


def by_end(record: TrialRecord) -> tuple[float, int]:
    """Return the key that sorts finished trials by when they ended."""
    return record.finished_at or 0.0, record.number
