"""What runners of tests have imported before they are forked; nothing here starts a thread of ours.

Their reports have no figures: drawing takes longer than all else that a small study does, and has
tests of its own.
"""

from __future__ import annotations

import importlib

import matplotlib.backends.backend_agg
import mlflow.store.tracking.sqlalchemy_store
import mlflow.tracking

import studyflow.cli
import studyflow.reports.page
import studyflow.runner
import studyflow.tracking.mlflow

__all__ = ["matplotlib", "mlflow", "studyflow"]

vars(importlib.import_module("studyflow.reports.figures"))["FIGURES"] = {}
