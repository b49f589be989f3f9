"""Where attempts run: on this machine or as pods, behind one protocol.

protocol.py   what every executor guarantees
kind.py       what is known of an executor before there is one: how it is opened, what it needs
registry.py   the executors that there are
local/        processes of this machine
kubernetes/   pods of a cluster
diagnosis/    why an attempt ended
"""

from studyflow.executors.protocol import (
    AttemptId,
    AttemptLogs,
    AttemptState,
    AttemptStatus,
    Executor,
    ExecutorTraits,
    ExecutorWithLogs,
)
from studyflow.trial.attempt_files import AttemptFiles

__all__ = [
    "AttemptFiles",
    "AttemptId",
    "AttemptLogs",
    "AttemptState",
    "AttemptStatus",
    "Executor",
    "ExecutorTraits",
    "ExecutorWithLogs",
]
