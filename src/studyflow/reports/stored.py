"""A study of the storage, as its reports see it."""

from __future__ import annotations

from studyflow.errors import SpecError
from studyflow.reports.data import StudyData
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.storage import open_storage, redacted
from studyflow.study import find_study, load_records


def stored_study(name: str, settings: Settings, from_file: StudySpec | None = None) -> StudyData:
    """Return a stored study with its trials.

    Args:
        name: The study's name.
        settings: Where the storage is.
        from_file: Its study file; stands in where the storage holds none.

    Raises:
        StudyNotFound: It is not in the storage.
        SpecError: Neither the storage nor the caller has its study file.
    """
    stored = find_study(name, open_storage(settings.storage_url, create=False))
    known, records = load_records(stored)
    spec = known or from_file
    if spec is None:
        raise SpecError(
            f"The study {name!r} in {redacted(settings.storage_url)} holds no study file "
            "(studyflow did not make it, or a version did that this one cannot read). "
            "Name the study file instead."
        )
    return StudyData(spec, records, stored)
