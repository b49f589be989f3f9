"""Whether a stored study's budget of hours, money and time has an end to its trials. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from studyflow.ledger.statement import statement
from studyflow.reasons import Cause, Reason
from studyflow.spec import StudySpec
from studyflow.study.budget import by_end, n_trials_left, n_trials_to_finish, uses_budget
from studyflow.trial.record import TrialRecord, TrialState


def why_spent(
    spec: StudySpec, records: Sequence[TrialRecord], finish_at: float | None, now: float
) -> Reason | None:
    """Return why no further trial of a stored study starts by its budget; `None` if one may.

    Only `gpu_hours`, `cost` and `finish_by` are looked at. A study is not over while trials run,
    and it is if the last one that ended did not fit.

    Args:
        spec: The study file that its trials were last started by.
        records: Its trials in any order and state.
        finish_at: When it is to be finished, in seconds since the epoch; `None` for no such time.
        now: Seconds since the epoch.
    """
    if not spec.budget.is_metered or any(r.state is TrialState.RUNNING for r in records):
        return None
    ended = [record for record in records if record.state.is_finished]
    last = max(ended, key=by_end, default=None)
    if last is not None and last.cause is Cause.BUDGET:
        return last.reason
    left = n_trials_left(n_trials_to_finish(spec), sum(map(uses_budget, records)))
    return statement(spec, records, n_left=left, now=now, finish_at=finish_at).blocker
