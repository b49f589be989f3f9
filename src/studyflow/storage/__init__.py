"""The storage of studies, their single source of truth: one file, or a database by URL.

Nothing else in studyflow knows which one it is. Three kinds of URL:

- `journal:///path`: Optuna's journal in one file, the embedded default; see
  `docs/decisions/0001-embedded-storage.md`.
- `sqlite:///path`: one SQLite file.
- `postgresql://…`, `mysql://…`, …: any database that Optuna's `RDBStorage` knows.

A command that only reads fails at once when the storage is away; a runner waits
(`PatientStorage`).
"""

from studyflow.storage.changes import TrialChange
from studyflow.storage.forwarding import ForwardingStorage
from studyflow.storage.network_files import is_on_network
from studyflow.storage.opening import (
    TransactionLimits,
    open_storage,
    quiet_optuna,
    storage_errors,
)
from studyflow.storage.patient import PatientStorage
from studyflow.storage.process_lock import ProcessLock
from studyflow.storage.urls import (
    DEFAULT_FOLDER,
    default_storage_url,
    file_of,
    redacted,
    unverified_host,
)

__all__ = [
    "DEFAULT_FOLDER",
    "ForwardingStorage",
    "PatientStorage",
    "ProcessLock",
    "TransactionLimits",
    "TrialChange",
    "default_storage_url",
    "file_of",
    "is_on_network",
    "open_storage",
    "quiet_optuna",
    "redacted",
    "storage_errors",
    "unverified_host",
]
