"""Finds a stored study by what a person calls it: its file, or its name."""

from __future__ import annotations

from pathlib import Path

from studyflow.errors import StudyNotFound
from studyflow.reports import StudyData
from studyflow.reports.stored import stored_study
from studyflow.settings import Settings
from studyflow.spec import StudySpec


def is_study_file(study: str) -> bool:
    """Return whether a person means a study file, and not a study's name."""
    return Path(study).suffix in (".yaml", ".yml")


def load_study(study: str, settings: Settings) -> StudyData:
    """Return a stored study by its name or its file.

    Args:
        study: The study's name, or the path of its file, which may lack the ending or be the
            folder that holds `study.yaml`. A name that is stored comes before a file.
        settings: Where the storage is.

    Raises:
        StudyNotFound: It is not in the storage.
        SpecError: The file is wrong.
    """
    if is_study_file(study):
        return _load_file(Path(study), settings)
    try:
        return stored_study(study, settings)
    except StudyNotFound:
        if (file := _file_meant(study)) is None:
            raise
    return _load_file(file, settings)


def _load_file(path: Path, settings: Settings) -> StudyData:
    spec = StudySpec.from_yaml(path)
    return stored_study(spec.name, settings, spec)


def _file_meant(study: str) -> Path | None:
    """Return the study file that is there for a path without its ending, or for a folder."""
    candidates = (Path(f"{study}.yaml"), Path(f"{study}.yml"), Path(study, "study.yaml"))
    return next((path for path in candidates if path.is_file()), None)
