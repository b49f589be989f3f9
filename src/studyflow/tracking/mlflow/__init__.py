"""A study in MLflow: one experiment, one parent run for the study, one child run for each trial.

| module | holds |
|---|---|
| `client` | the connection: addresses, MLflow's defaults changed, its errors translated |
| `experiment` | the experiment that holds the runs; restored when somebody deleted it |
| `search` | which runs there are |
| `runs` | the study's and the trials' runs: found, created, replaced when somebody deleted them |
| `batches` | parameters, metrics and tags in requests that MLflow accepts |
| `artifacts` | uploads of files |
| `documents` | pure: what names, tags, metrics and files say |
| `origin` | versions, commit and user |
| `closing` | how a trial's run is closed |
| `study_run` | what the study's own run shows |
| `running` | one metric of all running trials at once |
| `script_runs` | what training scripts logged by themselves |
| `tracker` | all of it as a `Tracker` |
"""

from studyflow.tracking.mlflow.artifacts import LOG_NAME
from studyflow.tracking.mlflow.client import Connection, check_server, embedded_uri
from studyflow.tracking.mlflow.tracker import MLflowTracker

__all__ = ["LOG_NAME", "Connection", "MLflowTracker", "check_server", "embedded_uri"]
