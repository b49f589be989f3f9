"""Where attempts run: on this machine or as pods, behind one protocol."""

from studyflow.executors.protocol import (
    AttemptFiles,
    AttemptId,
    AttemptState,
    AttemptStatus,
    Executor,
)

__all__ = ["AttemptFiles", "AttemptId", "AttemptState", "AttemptStatus", "Executor"]
