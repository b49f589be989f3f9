"""Gives failed trials their budget back, once a person has fixed why they failed."""

from __future__ import annotations

import optuna

from studyflow.errors import StudyNotFound
from studyflow.spec import StudySpec
from studyflow.study import storage_form as form
from studyflow.study.given_back import given_back_in
from studyflow.study.identity import check_format, check_identity
from studyflow.study.stored import find_study
from studyflow.trial import Consequence
from studyflow.trial.record import TrialRecord, TrialState


def may_be_retried(record: TrialRecord) -> bool:
    """Return whether a trial failed by what a person can fix.

    That is its script, its environment, or a place that lost all its attempts; what the sampler
    learns from, such as a trial that diverged, stands.
    """
    fixable = (Consequence.FAIL, Consequence.RETRY, Consequence.WAIT)
    return (
        record.state is TrialState.FAILED
        and record.cause is not None
        and record.cause.consequence in fixable
        and not record.is_taken_over
    )


def retry_failed(spec: StudySpec, storage: optuna.storages.BaseStorage) -> int:
    """Give a study's failed trials their budget back and enqueue their parameters.

    Each is retried once: what fails again is another trial. A study that does not exist has none.

    Args:
        spec: The study file.
        storage: Where studies are kept. No runner may be at work that was started before.

    Returns:
        How many trials are retried.

    Raises:
        StudyMismatch: The stored study has other objectives or another search space.
    """
    try:
        study = find_study(spec.name, storage)
    except StudyNotFound:
        return 0
    check_format(study)
    check_identity(spec, study)
    given_back = given_back_in(study.user_attrs)
    trials = study.get_trials(deepcopy=False)
    failed = [
        frozen
        for frozen in trials
        if frozen.number not in given_back and may_be_retried(form.to_record(frozen))
    ]
    if failed:
        numbers = sorted({*given_back, *(frozen.number for frozen in failed)})
        # First: whoever dies between the two has the budget back and tries other points.
        study.set_user_attr(form.GIVEN_BACK, numbers)
    for frozen in failed:
        study.enqueue_trial(frozen.params)
    return len(failed)
