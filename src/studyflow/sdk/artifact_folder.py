"""The folder that a trial's artifacts are copied to, where runner and trial share one."""

from __future__ import annotations

import contextlib
import shutil
import threading
from pathlib import Path
from typing import Final

from studyflow.sdk.console import print_error
from studyflow.trial.user_files import Gathered, copy_file, gather

ARTIFACT_WARNINGS: Final = 20
"""Most lines about what was left out of artifacts."""


class ArtifactFolder:
    """Copies files and folders to the artifacts of one attempt.

    Args:
        folder: Where they are; made with the first artifact.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._left_out: set[str] = set()
        """What was said of artifacts: a script that keeps one in each epoch hears it once."""

    def keep(self, path: Path, name: Path) -> Path:
        """Return where the copy of a file or folder is; the path itself when there is none.

        What is left out is told on standard error.

        Args:
            path: What to copy; it exists.
            name: Where in the folder.
        """
        target = self._folder / name
        if path.resolve() == target.parent.resolve() / target.name:
            return target
        try:
            is_kept, left_out = self._copy(path.resolve(), target)
        except OSError as error:  # a full disk, say: no chart or model is worth a training
            is_kept, left_out = False, f"all of it (cannot be copied: {error.strerror or error})"
        if left_out:
            self._warn(name, left_out)
        return target if is_kept else path

    def _copy(self, path: Path, target: Path) -> tuple[bool, str]:
        """Return whether there is a copy now, and in half a line what was left out."""
        # All is found before anything is copied: a folder may hold the place it is copied to.
        found = gather([(path, "", path)])
        if self._folder.is_symlink():
            return False, "all of it (the artifact folder was replaced by a link)"
        if not path.is_dir() and not found.files:
            return False, found.describe_left_out()
        target.parent.mkdir(parents=True, exist_ok=True)
        if found.size > (free := shutil.disk_usage(target.parent).free):
            return False, f"all of it ({found.size} bytes, where the disk has room for {free})"
        self._replace(target, found, is_folder=path.is_dir())
        return True, found.describe_left_out()

    def _replace(self, target: Path, found: Gathered, *, is_folder: bool) -> None:
        """Copy files into the place of what is at the target.

        Copied, not linked: a script that writes the next checkpoint into the same file would change
        this one too. Under another name first, so that nobody uploads half of it.
        """
        part = target.with_name(f".{threading.get_ident()}.part")
        _remove(part)
        try:
            if is_folder:
                part.mkdir()
            for file in found.files:
                copy = part / file.name if is_folder else part
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy_file(file.path, copy, file.size)
            with self._lock:
                if is_folder or target.is_dir():
                    _remove(target)
                part.replace(target)
        finally:  # a part of a copy
            with contextlib.suppress(OSError):
                _remove(part)

    def _warn(self, name: Path, left_out: str) -> None:
        with self._lock:
            if left_out in self._left_out or len(self._left_out) >= ARTIFACT_WARNINGS:
                return
            self._left_out.add(left_out)
        print_error(
            f"studyflow: artifact {str(name)!r}: left out {left_out}; the training goes on.\n"
        )


def _remove(path: Path) -> None:
    """Remove whatever is at a path, if anything is; a link, not what it points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
