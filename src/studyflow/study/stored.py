"""Finds stored studies and reads their trials, without writing."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial

from studyflow.errors import StudyNotFound
from studyflow.spec import StudySpec, find_problems
from studyflow.study import storage_form as form
from studyflow.study.attempt_storage import AttemptStorage
from studyflow.study.given_back import as_given_back, given_back_in
from studyflow.trial.record import TrialRecord


def study_names(storage: optuna.storages.BaseStorage) -> tuple[str, ...]:
    """Return the names of all studies in a storage, in alphabetical order."""
    return tuple(sorted(optuna.get_all_study_names(storage)))


def find_study(name: str, storage: optuna.storages.BaseStorage) -> optuna.Study:
    """Return a stored study, for reading.

    Raises:
        StudyNotFound: There is none of that name; the message names those there are.
    """
    try:
        return optuna.load_study(
            study_name=name, storage=AttemptStorage(storage), sampler=_no_sampler()
        )
    except KeyError:
        known = ", ".join(study_names(storage))
        if not known:
            raise StudyNotFound(
                f"There is no study named {name!r}: this storage has none yet.",
                hint="begin it with `studyflow run FILE`, or set STUDYFLOW_STORAGE or "
                "STUDYFLOW_HOME if it ran elsewhere.",
            ) from None
        raise StudyNotFound(
            f"There is no study named {name!r} in this storage (there are: {known}).",
            hint="name one of them, or a study file, or set STUDYFLOW_STORAGE or STUDYFLOW_HOME.",
        ) from None


def load_records(study: optuna.Study) -> tuple[StudySpec | None, tuple[TrialRecord, ...]]:
    """Return the study file that a stored study last ran with, and its trials.

    The file is `None` for a study that studyflow did not make, or made by other rules.
    """
    text = study.user_attrs.get(form.SPEC)
    spec = None if text is None else find_problems(text)[0]
    fixed = {} if spec is None else spec.fixed
    given_back = given_back_in(study.user_attrs)
    return spec, tuple(
        as_given_back(form.to_record(frozen, fixed), given_back) for frozen in _stored_trials(study)
    )


def _stored_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return all trials with whatever is stored of them."""
    if isinstance(study._storage, AttemptStorage):
        return study._storage.stored_trials(study._study_id)
    return study.get_trials(deepcopy=False)


def _no_sampler() -> optuna.samplers.BaseSampler:
    """Return a sampler that costs nothing to make; the study is only read."""
    return optuna.samplers.RandomSampler()
