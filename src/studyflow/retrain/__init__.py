"""Trains the best configurations of a study again, with fresh seeds, to tell luck from merit.

The best value of a study is optimistic: it is the best of many, and partly due to its seed. So each
of the best configurations is trained again with the same few new seeds, the one with the best mean
is chosen, and its model is registered in MLflow.

The repeats are a study of their own, `NAME-retrain`, with every point enqueued. It runs on the same
executors, continues after a crash, and has nothing to do when it is run again.
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
