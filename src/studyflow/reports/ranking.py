"""The order in which people read trials: the best first."""

from __future__ import annotations

import math

from studyflow.reports.data import StudyData
from studyflow.trial.record import TrialRecord, TrialState

_STATES = (
    TrialState.COMPLETE,
    TrialState.RUNNING,
    TrialState.PRUNED,
    TrialState.WAITING,
    TrialState.FAILED,
)


def best_first(data: StudyData) -> tuple[TrialRecord, ...]:
    """Return all trials: the best or the Pareto front, the other complete ones by their value.

    Infeasible ones follow, then those that run, were pruned, wait or failed, by number.
    """
    sign = 1.0 if data.spec.directions[0] == "minimize" else -1.0

    def place(record: TrialRecord) -> tuple[float | int, ...]:
        is_complete = record.state is TrialState.COMPLETE and record.values is not None
        value = sign * record.values[0] if is_complete and record.values else 0.0
        return (
            record.number not in data.best_numbers,
            _STATES.index(record.state),
            is_complete and not record.is_feasible,
            math.inf if math.isnan(value) else value,
            record.number,
        )

    return tuple(sorted(data.trials, key=place))
