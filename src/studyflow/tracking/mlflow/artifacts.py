"""Uploads of files to a run's artifacts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from studyflow.errors import TrackingError, TrackingUnavailable
from studyflow.redaction import Redactor
from studyflow.tracking import keys
from studyflow.tracking.mlflow.client import Connection, artifact_folder
from studyflow.tracking.mlflow.documents import bounded

LOG_LIMIT_BYTES: Final = 10 * 1024 * 1024
"""Longest log uploaded for a trial; of longer ones the end is kept, where the error is."""
LOG_NAME: Final = "trial.log"
"""Name of that log among the artifacts."""
DISK_RESERVE_BYTES: Final = 1 << 30
"""Room that artifacts leave on the disk of an embedded MLflow: the study's storage needs some."""
SMALL_BYTES: Final = 1 << 20
"""Files below this are copied however little room there is."""
REASON_LIMIT_CHARS: Final = 200


class ArtifactUploads:
    """Uploads files to runs, logs without their secrets.

    Args:
        mlflow: Where the runs are.
        redact: Takes secrets out of logs.
    """

    def __init__(self, mlflow: Connection, redact: Redactor) -> None:
        self._mlflow = mlflow
        self._redact = redact
        self._folder = artifact_folder(mlflow.uri)

    def upload(
        self, run_id: str, files: Sequence[tuple[Path, str]], store: str | None = None
    ) -> list[str]:
        """Upload files; return a line for each that could not be.

        Args:
            run_id: The run.
            files: Local file, and its path among the artifacts. The one called `LOG_NAME` is
                uploaded without secrets, and only its end when it is long.
            store: Address of the run's artifacts, if it is known: MLflow is not asked for it then.

        Raises:
            TrackingUnavailable: The store does not answer; some files may be there.
        """
        missing: list[str] = []
        with tempfile.TemporaryDirectory(prefix="studyflow-") as folder:
            for index, (local, wanted) in enumerate(files):
                parent = keys.artifact_path(wanted).rpartition("/")[0]
                if (lack := self._lack_of_room(local)) is not None:
                    missing.append(f"{wanted}: {lack}")
                    continue
                try:
                    with self._mlflow.client() as client:
                        source = self._staged(local, wanted, Path(folder) / str(index))
                        if store is None:
                            client.log_artifact(run_id, str(source), parent or None)
                        else:
                            self._mlflow.artifacts(store).log_artifact(str(source), parent or None)
                except TrackingUnavailable:
                    raise
                except TrackingError as error:
                    missing.append(f"{wanted}: {bounded(error.message, REASON_LIMIT_CHARS)}")
        return missing

    def _lack_of_room(self, local: Path) -> str | None:
        """Return why a file is not copied to a folder on this machine; `None` to upload it."""
        if self._folder is None:
            return None
        disk = self._folder if self._folder.exists() else self._folder.parent
        try:
            size = local.stat().st_size
            free = shutil.disk_usage(disk).free
        except OSError:
            return None  # the upload says what is wrong
        # A full disk would stop the study, not only this upload.
        if size < free - DISK_RESERVE_BYTES or size < SMALL_BYTES:
            return None
        return f"{size} bytes, where the disk has {free} left"

    def _staged(self, local: Path, wanted: str, folder: Path) -> Path:
        """Return a file with the wanted name and the content to upload."""
        name = keys.artifact_path(wanted).rpartition("/")[2]
        if wanted == LOG_NAME:
            folder.mkdir()
            return self._copy_log(local, folder / name)
        if local.name == name:
            return local
        folder.mkdir()
        path = folder / name
        path.symlink_to(local.absolute())
        return path

    def _copy_log(self, local: Path, path: Path) -> Path:
        """Copy the end of a log without its secrets; return the copy."""
        size = local.stat().st_size
        with local.open("rb") as source, path.open("wb") as target:
            if size > LOG_LIMIT_BYTES:
                left_out = size - LOG_LIMIT_BYTES
                target.write(f"[the first {left_out} of {size} bytes are left out here]\n".encode())
            target.writelines(self._redact.tail(source, LOG_LIMIT_BYTES))
        return path
