"""Finds a stored study by what a person calls it: its file, or its name."""

from __future__ import annotations

from pathlib import Path

from studyflow.reports import StudyData
from studyflow.reports.stored import stored_study
from studyflow.settings import Settings
from studyflow.spec import StudySpec


def is_study_file(study: str) -> bool:
    """Return whether a person means a study file, and not a study's name."""
    return Path(study).suffix in (".yaml", ".yml")


def load_study(study: str, settings: Settings) -> StudyData:
    """Return a stored study by the path of its file or by its name.

    Raises:
        StudyNotFound: It is not in the storage.
        SpecError: The file is wrong.
    """
    from_file = StudySpec.from_yaml(study) if is_study_file(study) else None
    name = study if from_file is None else from_file.name
    return stored_study(name, settings, from_file)
