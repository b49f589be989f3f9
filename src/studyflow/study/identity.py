"""Checks that a study file and a stored study belong together, and marks a new study as its."""

from __future__ import annotations

import optuna

from studyflow.errors import StudyError, StudyMismatch
from studyflow.spec import StudySpec, describe_differences
from studyflow.study import storage_form as form


def check_format(study: optuna.Study) -> None:
    """Return if this studyflow may go on with a stored study.

    Raises:
        StudyError: A later studyflow has written it in a format that is not known here.
    """
    stored = study.user_attrs.get(form.FORMAT, form.FORMAT_NUMBER)
    if not isinstance(stored, int) or stored > form.FORMAT_NUMBER:
        raise StudyError(
            f"The study {study.study_name!r} is stored in format {stored!r}, and this studyflow "
            f"writes format {form.FORMAT_NUMBER}: a later one has worked on it.",
            hint="go on with the later studyflow, or start a new study under another name.",
        )


def check_identity(spec: StudySpec, study: optuna.Study) -> None:
    """Return if a study file may go on with a stored study; a new one is marked as its.

    Raises:
        StudyMismatch: It has other objectives or another search space.
    """
    stored = study.user_attrs.get(form.IDENTITY)
    if stored is None:
        # Just created, here or by a runner that died at once; or another program's study.
        directions = [direction.name.lower() for direction in study.directions]
        differences = describe_differences(
            {"directions": directions}, {"directions": list(spec.directions)}
        )
    else:
        differences = describe_differences(stored, spec.identity())
    if stored is None and not differences:
        study.set_user_attr(form.IDENTITY, spec.identity())
    if differences:
        old = [] if stored is None else [o["metric"] for o in stored["objectives"]]
        can_fork = old == [objective.metric for objective in spec.objectives]
        raise StudyMismatch(
            f"The study {spec.name!r} exists and differs from the study file in what makes its "
            "trials comparable:",
            differences=differences,
            hint="undo the change, or start a new study that takes over the trials that fit: "
            f"--fork NEW-NAME (its old trials stay in {spec.name!r})."
            if can_fork
            else f"undo the change, or give the study file another name: the trials of "
            f"{spec.name!r} have other metrics, so none could be taken over.",
        )
