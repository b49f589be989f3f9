"""A study as people see it in MLflow, behind one protocol.

Importing this package is cheap: MLflow itself is imported by the first call of an `MLflowTracker`.
"""

from studyflow.tracking.memory import MemoryTracker
from studyflow.tracking.mirror import Mirror, MirrorStatus
from studyflow.tracking.mlflow import MLflowTracker, embedded_uri
from studyflow.tracking.protocol import StudyCard, StudySummary, Tracker
from studyflow.tracking.sync import SyncReport, sync_study

__all__ = [
    "MLflowTracker",
    "MemoryTracker",
    "Mirror",
    "MirrorStatus",
    "StudyCard",
    "StudySummary",
    "SyncReport",
    "Tracker",
    "embedded_uri",
    "sync_study",
]
