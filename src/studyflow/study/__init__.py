"""One study over Optuna's storage: ask, report, tell; the only writer of it."""

from studyflow.study.study import (
    Study,
    find_study,
    is_paused,
    load_records,
    seed_of,
    set_paused,
    study_names,
)
from studyflow.study.verdict import (
    StopReason,
    Verdict,
    describe_fruitless,
    describe_time_limit,
    is_counted,
    judge,
    n_trials_to_finish,
    stop_reason,
)

__all__ = [
    "StopReason",
    "Study",
    "Verdict",
    "describe_fruitless",
    "describe_time_limit",
    "find_study",
    "is_counted",
    "is_paused",
    "judge",
    "load_records",
    "n_trials_to_finish",
    "seed_of",
    "set_paused",
    "stop_reason",
    "study_names",
]
