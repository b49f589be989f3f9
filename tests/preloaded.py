"""What runners of tests have imported before they are forked; nothing here starts a thread of ours.

Their reports have no figures: drawing takes longer than all else that a small study does, and has
tests of its own.
"""

from __future__ import annotations

import gc
import importlib

import click
import contourpy
import mlflow.store.tracking.sqlalchemy_store
import mlflow.tracking

import studyflow.cli
import studyflow.reports.page
import studyflow.runner
import studyflow.tracking.mlflow

__all__ = ["click", "contourpy", "mlflow", "studyflow"]

for name in studyflow.cli.main.list_commands(click.Context(studyflow.cli.main)):
    studyflow.cli.main.get_command(click.Context(studyflow.cli.main), name)

vars(importlib.import_module("studyflow.reports.figures"))["FIGURES"] = {}

gc.freeze()  # those that are forked look for garbage among what they make themselves
