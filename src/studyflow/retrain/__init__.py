"""Trains the best configurations of a study again, with fresh seeds, to tell luck from merit.

The best value of a study is too good: it is the smallest of many, and some of what made it so was
the seed. Here each of the best configurations is trained again with the same few new seeds, the
one with the best mean is chosen, and its model goes to MLflow's registry.

The repeats are a study of their own, `NAME-retrain`, whose points are all enqueued: it runs on the
same executors, is continued after a crash, and finishes at once when it is asked for again.
"""

from studyflow.retrain.plan import (
    Configuration,
    RetrainPlan,
    choose_seed_parameter,
    fresh_seeds,
    plan_retrain,
    rank_configurations,
    retrain_name,
    retrain_spec,
)
from studyflow.retrain.results import (
    Champion,
    Repeats,
    RetrainResult,
    confidence_interval,
    describe_luck,
    rank_repeats,
    results_markdown,
    results_table,
)
from studyflow.retrain.run import Registration, cancel_retrain, retrain

__all__ = [
    "Champion",
    "Configuration",
    "Registration",
    "Repeats",
    "RetrainPlan",
    "RetrainResult",
    "cancel_retrain",
    "choose_seed_parameter",
    "confidence_interval",
    "describe_luck",
    "fresh_seeds",
    "plan_retrain",
    "rank_configurations",
    "rank_repeats",
    "results_markdown",
    "results_table",
    "retrain",
    "retrain_name",
    "retrain_spec",
]
