"""One study over Optuna's storage: ask, report, tell; the only writer of it."""

from studyflow.study.attributes import is_paused, load_beats, seed_of, set_paused
from studyflow.study.budget import (
    has_its_trials,
    is_counted,
    n_trials_left,
    n_trials_to_finish,
    uses_budget,
)
from studyflow.study.canary import Canary
from studyflow.study.curve import (
    Curve,
    apply_curve,
    last_step_of,
    last_step_reported,
    why_diverged,
)
from studyflow.study.ending import describe_finished
from studyflow.study.heartbeat import heartbeat, is_from, this_machine, this_runner
from studyflow.study.index import TrialIndex
from studyflow.study.leases import (
    BEAT_SECONDS,
    LEASE_SECONDS,
    Leases,
    beats_elsewhere,
    shows_life,
)
from studyflow.study.nodes import NodeRecord, judge_nodes, nodes_to_avoid
from studyflow.study.spent import why_spent
from studyflow.study.stop_rules import (
    StopReason,
    describe_time_limit,
    failure_signature,
    needs_no_runner,
    stop_reason,
    why_fruitless,
)
from studyflow.study.stored import find_study, load_records, study_names
from studyflow.study.study import Study
from studyflow.study.verdict import Verdict, judge

__all__ = [
    "BEAT_SECONDS",
    "LEASE_SECONDS",
    "Canary",
    "Curve",
    "Leases",
    "NodeRecord",
    "StopReason",
    "Study",
    "TrialIndex",
    "Verdict",
    "apply_curve",
    "beats_elsewhere",
    "describe_finished",
    "describe_time_limit",
    "failure_signature",
    "find_study",
    "has_its_trials",
    "heartbeat",
    "is_counted",
    "is_from",
    "is_paused",
    "judge",
    "judge_nodes",
    "last_step_of",
    "last_step_reported",
    "load_beats",
    "load_records",
    "n_trials_left",
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
    "uses_budget",
    "why_diverged",
    "why_fruitless",
    "why_spent",
]
