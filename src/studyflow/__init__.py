"""studyflow tunes hyperparameters on a GPU cluster: Prefect, Optuna, BoTorch, MLflow, Kubernetes.

Training code imports `studyflow.sdk`, which needs nothing but the standard library.
"""

from __future__ import annotations

__version__ = "0.2.0"
