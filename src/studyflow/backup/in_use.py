"""Who works on what a restore would replace: it waits for nobody, and ends nobody's work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from studyflow.backup.folder import running_attempts
from studyflow.backup.places import Place
from studyflow.backup.postgres import other_sessions
from studyflow.errors import BackupUnavailable
from studyflow.runner_lock import is_held, read_holder
from studyflow.servers.announced import running_pid
from studyflow.settings import RUNNER_LOCK


def refuse_used(home: Path, databases: list[Place]) -> None:
    """Return if nobody works on an installation.

    Args:
        home: Where whoever runs studies on this machine leaves their locks.
        databases: The PostgreSQL databases that would be replaced.

    Raises:
        BackupUnavailable: Somebody does; says who. Or a database is away.
        MissingExtra: The databases' driver is not installed.
    """
    found = [*_here(home), *_elsewhere(databases)]
    if found:
        raise BackupUnavailable(
            f"Somebody works on what would be replaced: {'; '.join(found)}.",
            hint="end them first (in a cluster: scale the Deployments to 0, see docs/backup.md), "
            "then restore again. Nothing was changed.",
        )


def _here(home: Path) -> Iterator[str]:
    root = home / "studies"
    for lock in sorted(root.glob(f"*/{RUNNER_LOCK}")):
        if is_held(lock):
            who = read_holder(lock) or "another process"
            yield f"a runner of the study in {lock.parent.name} ({who})"
    for folder in running_attempts(root):
        yield f"the script of {folder.relative_to(root)}"
    pid = running_pid(home)
    if pid is not None:
        yield f"`studyflow ui` (process {pid})"


def _elsewhere(databases: list[Place]) -> Iterator[str]:
    for place in databases:
        n_sessions, clients = other_sessions(place.url)
        if n_sessions:
            noun = "session" if n_sessions == 1 else "sessions"
            yield f"{n_sessions} {noun} on {place.shown}, from {clients}"
