"""Makes small studies for tests: specs, records, and studies over a storage in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from studyflow.samplers import make_pruner, make_sampler
from studyflow.spec import StudySpec
from studyflow.study import Study, Verdict
from studyflow.trial import Cause, Outcome
from studyflow.trial.record import TrialRecord, TrialState

X = {"type": "float", "low": 0.0, "high": 1.0}


def make_spec(**changes: Any) -> StudySpec:
    """Return a study of one parameter and one objective, with sections replaced by `changes`."""
    document: dict[str, Any] = {
        "name": "demo",
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "search_space": {"x": X},
        "sampler": {"type": "random", "seed": 0},
        "budget": {"n_trials": 5},
        "trial": {"command": ["python", "train.py"]},
    }
    return StudySpec.from_mapping({**document, **changes})


def open_study(
    spec: StudySpec,
    storage: optuna.storages.BaseStorage | None = None,
    fork_from: str | None = None,
) -> Study:
    """Return the study of a spec, in a new storage unless one is given."""
    return Study.open(
        spec,
        storage or optuna.storages.InMemoryStorage(),
        make_sampler=lambda seed, n_trials: make_sampler(spec, seed, n_trials),
        pruner=make_pruner(spec),
        fork_from=fork_from,
    )


def complete(*values: float, constraints: Mapping[str, float] | None = None) -> Verdict:
    """Return the verdict on a trial that went well."""
    return Verdict(Cause.OK, TrialState.COMPLETE, values=values, constraints=constraints or {})


def failed(cause: Cause = Cause.USER_ERROR, message: str = "it broke") -> Verdict:
    """Return the verdict on a trial that failed."""
    return Verdict(cause, TrialState.FAILED, message)


def outcome(
    cause: Cause = Cause.OK, message: str = "", attempt: int = 1, **metrics: float
) -> Outcome:
    """Return what an attempt of trial 0 ended with."""
    return Outcome("demo", 0, attempt, cause, metrics, message)


def record(
    number: int,
    *values: float,
    cause: Cause | None = None,
    message: str = "",
    state: TrialState | None = None,
    violation: float = 0.0,
    is_taken_over: bool = False,
) -> TrialRecord:
    """Return a trial: complete when it has values, else failed with a cause."""
    if state is None:
        state = TrialState.COMPLETE if values else TrialState.FAILED
    return TrialRecord(
        number,
        state,
        {"x": 0.5},
        values=values or None,
        constraints={"size <= 1": violation},
        cause=cause or (Cause.OK if values else Cause.USER_ERROR),
        message=message,
        finished_at=float(number) if state.is_finished else None,
        is_taken_over=is_taken_over,
    )


def run_all(study: Study, value: Any = None) -> list[TrialRecord]:
    """Ask and tell until there is no room; return the trials in the order they were asked for."""
    asked = []
    while (trial := study.ask()) is not None:
        asked.append(trial)
        study.tell(trial.number, complete(*(value or _spread)(trial)), {})
    return asked


def _spread(trial: TrialRecord) -> tuple[float, ...]:
    return (float(trial.number),)
