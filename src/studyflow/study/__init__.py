"""One study over Optuna's storage: ask, report, tell; the only writer of it."""

from studyflow.study.canary import Canary
from studyflow.study.curve import (
    Curve,
    apply_curve,
    last_step_of,
    why_diverged,
)
from studyflow.study.heartbeat import heartbeat, is_from, this_machine, this_runner
from studyflow.study.leases import (
    BEAT_SECONDS,
    LEASE_SECONDS,
    Leases,
    beats_elsewhere,
    shows_life,
)
from studyflow.study.nodes import NodeRecord, judge_nodes, nodes_to_avoid
from studyflow.study.study import (
    Study,
    find_study,
    is_paused,
    load_beats,
    load_records,
    seed_of,
    set_paused,
    study_names,
)
from studyflow.study.verdict import (
    StopReason,
    Verdict,
    describe_time_limit,
    failure_signature,
    is_counted,
    judge,
    n_trials_to_finish,
    needs_no_runner,
    stop_reason,
    why_fruitless,
)

__all__ = [
    "BEAT_SECONDS",
    "LEASE_SECONDS",
    "Canary",
    "Curve",
    "Leases",
    "NodeRecord",
    "StopReason",
    "Study",
    "Verdict",
    "apply_curve",
    "beats_elsewhere",
    "describe_time_limit",
    "failure_signature",
    "find_study",
    "heartbeat",
    "is_counted",
    "is_from",
    "is_paused",
    "judge",
    "judge_nodes",
    "last_step_of",
    "load_beats",
    "load_records",
    "n_trials_to_finish",
    "needs_no_runner",
    "nodes_to_avoid",
    "seed_of",
    "set_paused",
    "shows_life",
    "stop_reason",
    "study_names",
    "this_machine",
    "this_runner",
    "why_diverged",
    "why_fruitless",
]
