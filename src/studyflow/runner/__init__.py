"""Runs a study from its file to its report: opens it, drives its trials, reports what came out.

study_run.py  the story: `run_study`, and `cancel_study` for one whose runner was killed
opening.py    a study open with all that works on it, and closed again
closing.py    the report, and MLflow brought up to date
options.py    what a run is given besides the study file and the settings
result.py     a study as a runner left it

Both the command line and Prefect's flow call `run_study`; they differ only in who watches.
"""

from studyflow.runner.opening import CLOSE_SECONDS, Run, open_run
from studyflow.runner.options import RunOptions
from studyflow.runner.result import StudyResult
from studyflow.runner.study_run import cancel_study, run_study

__all__ = [
    "CLOSE_SECONDS",
    "Run",
    "RunOptions",
    "StudyResult",
    "cancel_study",
    "open_run",
    "run_study",
]
