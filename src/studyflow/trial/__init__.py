"""What passes between a runner and a trial, and what a study knows of a trial.

causes.py         why an attempt ends, and what follows
documents.py      `Trial`, to the training script; `Outcome`, back from it
fields.py         reads what such documents hold, and trusts none of it
metric_points.py  what a script reports while it trains
launchers.py      what launchers of distributed training set, and which process a script is
record.py         a trial as the storage has it
seals.py          tells what an attempt wrote from what another process put in its place
user_files.py     reads files that a script made or could have replaced

Standard library only: this package is part of every trial image.
"""

from studyflow.reasons import Cause, Consequence
from studyflow.trial.causes import MISTAKES, code_of, memory_cause
from studyflow.trial.documents import (
    ATTEMPT_TAG,
    HINT_LIMIT_CHARS,
    LOST_ATTEMPT_TAG,
    MESSAGE_LIMIT_CHARS,
    OUTCOME_LIMIT_BYTES,
    TRIAL_RUN_TAG,
    TRIAL_VARIABLE,
    UNWRITTEN,
    Outcome,
    TrackingRef,
    Trial,
    is_sealed_outcome,
)
from studyflow.trial.fields import BEGINNING_BYTES, NAME_LIMIT_CHARS, ParamValue
from studyflow.trial.launchers import SILENCE
from studyflow.trial.metric_points import MetricPoint

__all__ = [
    "ATTEMPT_TAG",
    "BEGINNING_BYTES",
    "HINT_LIMIT_CHARS",
    "LOST_ATTEMPT_TAG",
    "MESSAGE_LIMIT_CHARS",
    "MISTAKES",
    "NAME_LIMIT_CHARS",
    "OUTCOME_LIMIT_BYTES",
    "SILENCE",
    "TRIAL_RUN_TAG",
    "TRIAL_VARIABLE",
    "UNWRITTEN",
    "Cause",
    "Consequence",
    "MetricPoint",
    "Outcome",
    "ParamValue",
    "TrackingRef",
    "Trial",
    "code_of",
    "is_sealed_outcome",
    "memory_cause",
]
