"""What local attempts leave: their logs, artifacts and documents."""

from __future__ import annotations

import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from studyflow.executors.local import supervisor
from studyflow.executors.local.files import (
    ARTIFACTS,
    METRICS,
    TRIAL,
    is_file,
)
from studyflow.executors.local.study_folder import StudyFolder
from studyflow.executors.protocol import AttemptId
from studyflow.trial.attempt_files import AttemptFiles
from studyflow.trial.user_files import NotAFileError, open_file

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """Reads what the attempts of one study left in their folders."""

    folder: StudyFolder

    def files(self, attempt: AttemptId) -> AttemptFiles:
        """Return what an attempt left behind."""
        folder = self.folder.attempt(attempt)
        try:
            return AttemptFiles(
                log=_file_at(folder / supervisor.LOG),
                artifacts=_artifacts_at(folder / ARTIFACTS),
                metrics=_file_at(folder / METRICS),
                metrics_key=self.folder.keys.known(attempt),
                extra={
                    path.name: path
                    for name in (TRIAL, supervisor.OUTCOME, supervisor.EXIT)
                    if (path := _file_at(folder / name)) is not None
                },
            )
        except OSError as error:
            logger.warning("trial %s: its files cannot be read: %s", attempt, error)
            return AttemptFiles()

    def read_log(self, attempt: AttemptId, offset: int, limit_bytes: int) -> bytes:
        """Return up to `limit_bytes` of a log from a byte offset; empty at the end.

        Raises:
            OSError: The disk does not answer.
        """
        try:
            with open_file(self.folder.attempt(attempt) / supervisor.LOG) as log:
                log.seek(offset)
                return log.read(limit_bytes)
        except (FileNotFoundError, NotAFileError):
            return b""


def _file_at(path: Path) -> Path | None:
    return path if is_file(path) else None


def _artifacts_at(folder: Path) -> tuple[Path, ...]:
    """Return what is in a folder of artifacts, or what is in its place where that is no folder."""
    try:
        is_folder = stat.S_ISDIR(os.lstat(folder).st_mode)
        return tuple(sorted(folder.iterdir())) if is_folder else (folder,)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ()
