"""How far each run of a deployment takes its study: so many trials more than it found finished."""

from __future__ import annotations

from typing import Final

import optuna

from studyflow.spec import StudySpec
from studyflow.study.budget import is_counted
from studyflow.study.stored import load_records

RUN_BUDGET: Final = "studyflow:allowance"
"""Study attribute, followed by a run's id: the number of trials that this run is to reach."""


def trials_to_reach(spec: StudySpec, storage: optuna.storages.BaseStorage, run: str) -> int | None:
    """Return how many trials the study has when a run has added its `budget.n_trials`.

    `None` for a file without that number: each run goes on until another limit is reached.

    The number is kept with the study, which is made for it if need be: a run whose process is
    killed and replaced does not add its trials a second time.

    Args:
        spec: The study file; its budget is what one run adds.
        storage: Where studies are kept.
        run: Id of the run, the same for the process that replaces a killed one.
    """
    n_more = spec.budget.n_trials
    if n_more is None:
        return None
    study = optuna.create_study(
        study_name=spec.name,
        storage=storage,
        directions=list(spec.directions),
        load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(),  # nothing is asked here
    )
    key = f"{RUN_BUDGET}:{run}"
    if key not in study.user_attrs:
        _, records = load_records(study)
        n_finished = sum(is_counted(record) for record in records)
        study.set_user_attr(key, n_finished + n_more)
    return int(study.user_attrs[key])
