"""A consistent copy of Optuna's journal while runners write to it."""

from __future__ import annotations

from pathlib import Path

from studyflow.storage import ProcessLock, open_storage
from studyflow.storage.urls import JOURNAL


def copy_journal(path: Path, target: Path) -> None:
    """Copy a journal up to its last whole line, while nobody writes to it; read the copy.

    Args:
        path: The journal.
        target: The copy; written anew.

    Raises:
        StorageBroken: It is damaged.
        OSError: The disk refuses.
    """
    lock = ProcessLock(path.with_name(f"{path.name}.lock"))
    with lock.shared(), path.open("rb") as source:
        data = source.read()
    target.write_bytes(data[: data.rfind(b"\n") + 1])
    open_storage(f"{JOURNAL}{target}", create=False).get_all_studies()
