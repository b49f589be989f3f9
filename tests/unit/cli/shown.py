"""A study, its trials and its progress, with names that a terminal could take for markup."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.unit.study.studies import make_spec

from studyflow.observers.observer import Progress
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState

SPEC = make_spec(
    name="st[red]udy",
    objectives=[{"metric": "lo[/]ss", "direction": "minimize"}],
    search_space={
        "x[bold]": {"type": "float", "low": 0.0, "high": 1.0},
        "kind": {"type": "categorical", "choices": ["[blue]", "plain"]},
    },
)
DONE = TrialRecord(
    3,
    TrialState.COMPLETE,
    {"x[bold]": 0.123456, "kind": "[blue]"},
    values=(1.5,),
    cause=Cause.OK,
    attempt=1,
    started_at=100.0,
    finished_at=104.25,
)
RUNNING = TrialRecord(4, TrialState.RUNNING, {"x[bold]": 0.5, "kind": "plain"}, attempt=2)
BROKEN = replace(
    DONE,
    number=5,
    state=TrialState.FAILED,
    values=None,
    cause=Cause.USER_ERROR,
    message="IndexError: list[int] at [/weights]",
)


def progress(**changes: Any) -> Progress:
    known: dict[str, Any] = {
        "study": "st[red]udy",
        "n_finished": 1,
        "n_trials": 5,
        "running": (RUNNING,),
        "best": (DONE,),
        "elapsed_seconds": 10.0,
        "remaining_seconds": 75.0,
    }
    return Progress(**{**known, **changes})
