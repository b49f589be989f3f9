"""What passes between a runner and a trial, and what a study knows of a trial.

causes.py      why an attempt ends, and what follows
documents.py   `Trial`, to the training script; `Outcome`, back from it; the points that it reports
launchers.py   what launchers of distributed training set, and which process a script is
record.py      a trial as the storage has it
seals.py       tells what an attempt wrote from what another process put in its place
user_files.py  reads files that a script made or could have replaced

Standard library only: this package is part of every trial image.
"""

from studyflow.reasons import Cause, Consequence
from studyflow.trial.causes import MISTAKES, code_of, memory_cause
from studyflow.trial.documents import (
    ATTEMPT_TAG,
    BEGINNING_BYTES,
    HINT_LIMIT_CHARS,
    MESSAGE_LIMIT_CHARS,
    NAME_LIMIT_CHARS,
    OUTCOME_LIMIT_BYTES,
    TRIAL_RUN_TAG,
    TRIAL_VARIABLE,
    UNWRITTEN,
    MetricPoint,
    Outcome,
    ParamValue,
    TrackingRef,
    Trial,
    is_sealed_outcome,
)
from studyflow.trial.launchers import SILENCE

__all__ = [
    "ATTEMPT_TAG",
    "BEGINNING_BYTES",
    "HINT_LIMIT_CHARS",
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
