"""Drives a study: asks, launches, watches, prunes and records until the budget is spent.

`Tuner` is the loop. What it sees is a value (`snapshot`), and what it does next is decided by a
pure function of it (`reconcile.next_actions`); the other modules carry the actions out.
"""

from studyflow.tuner.loop import CANCEL_SECONDS, Tuner
from studyflow.tuner.mirror import TrialMirror
from studyflow.tuner.progress import TunerResult
from studyflow.tuner.settings import TunerSettings

__all__ = ["CANCEL_SECONDS", "TrialMirror", "Tuner", "TunerResult", "TunerSettings"]
