"""Asks everybody about a study or an installation, each for a few seconds, and changes nothing.

Each server is asked by one module, for `preflight` and for `blockers` alike:

storage.py    the study storage
mlflow.py     MLflow
prefect.py    Prefect's server, by plain HTTP
cluster.py    the cluster
runner.py     the processes of this machine
snapshots.py  all of them about one study, side by side
"""

from studyflow.diagnostics.probes.runner import find_runner
from studyflow.diagnostics.probes.snapshots import Named, is_driven, take_snapshot

__all__ = ["Named", "find_runner", "is_driven", "take_snapshot"]
