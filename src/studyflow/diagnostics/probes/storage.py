"""Asks the study storage: whether it can be read and written, and for one study."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna

from studyflow.errors import StorageUnavailable
from studyflow.reports import StudyData
from studyflow.storage import file_of, open_storage, storage_errors
from studyflow.study import is_paused


@dataclass(frozen=True, slots=True)
class StoredStudy:
    """A study as its storage has it."""

    data: StudyData
    study: optuna.Study
    is_paused: bool
    read_seconds: float
    """How long one small read took."""


def read_study(load: Callable[[], StudyData], url: str) -> StoredStudy:
    """Return a study, and how long one small read of it took.

    Args:
        load: Reads the study.
        url: The storage.

    Raises:
        StudyNotFound: There is no such study.
        StorageUnavailable: The storage does not answer.
    """
    with storage_errors(url):
        data = load()
        if data.optuna_study is None:
            raise StorageUnavailable(f"The study {data.spec.name!r} was not read from a storage.")
        began = time.perf_counter()
        paused = is_paused(data.optuna_study)
        return StoredStudy(data, data.optuna_study, paused, time.perf_counter() - began)


@dataclass(frozen=True, slots=True)
class StorageAccess:
    """What this user may do with a storage."""

    n_studies: int | None
    """How many studies it has; `None` for a database, which is written to instead."""
    read_only: Path | None = None
    """The file or folder that cannot be written; `None` when all can be."""


def read_access(url: str) -> StorageAccess:
    """Return whether studies can be read and written. What is written is removed again.

    Raises:
        StudyflowError: The storage does not answer, or cannot be used.
    """
    path = file_of(url)
    with storage_errors(url):
        if path is None:
            write_and_remove(open_storage(url))
            return StorageAccess(None)
        n = len(optuna.get_all_study_names(open_storage(url, create=False)))
    target = path if path.exists() else nearest_folder(path.parent)
    return StorageAccess(n, None if os.access(target, os.W_OK) else target)


def nearest_folder(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def write_and_remove(storage: optuna.storages.BaseStorage) -> None:
    """Make a study in a storage and remove it again."""
    name = f"studyflow-doctor-{uuid.uuid4()}"
    optuna.create_study(study_name=name, storage=storage, sampler=optuna.samplers.RandomSampler())
    optuna.delete_study(study_name=name, storage=storage)
