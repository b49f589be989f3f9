"""One attempt as a runner follows it: its documents, its lock, and what was seen of it so far."""

from __future__ import annotations

import enum
import fcntl
import json
import logging
import os
import stat
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from studyflow.errors import DocumentError
from studyflow.executors.local import supervisor
from studyflow.executors.local.files import (
    DOCUMENT_LIMIT_BYTES,
    LAUNCH,
    METRICS,
    TRIAL,
    is_file,
    read_document,
    version_of,
)
from studyflow.executors.local.metrics import MetricsReader
from studyflow.executors.local.supervisor_handle import SupervisorHandle
from studyflow.executors.protocol import AttemptId, AttemptState, AttemptStatus
from studyflow.trial import Trial
from studyflow.trial.cost import Allocation
from studyflow.trial.seals import has_seal, sealed
from studyflow.trial.user_files import Kind, NotAFileError, kind_of, open_file, read_piece

logger = logging.getLogger(__name__)

START_PATIENCE_SECONDS: Final = 2.0
"""How long another runner may take between making an attempt's folder and starting its script."""

CHECK_SECONDS: Final = 0.1
"""Seconds between checks for new metrics while `wait` waits; an end is noticed at once."""

KILL_SECONDS: Final = 0.005
"""First pause between killing processes and checking whether they are dead; it doubles up to
`CHECK_SECONDS`: one that waits for a device dies when that answers."""


_LAUNCH: Final = "launch"


@dataclass(frozen=True, slots=True)
class Launch:
    """What the runner that made an attempt decided about it."""

    command: tuple[str, ...]
    gpus: tuple[str, ...]
    timeout_seconds: float | None
    """Longest time for the script; `None` for no limit."""
    stop_grace_seconds: float
    left_out: tuple[str, ...] = ()
    """Names of the runner's variables that the script did not get, as they look like secrets."""

    def to_json(self, trial: str, key: str | None) -> str:
        """Return the document that `from_json` reads, with a seal over it and the trial's.

        Args:
            trial: The text of the trial's document.
            key: The attempt's; `None` for no seal.
        """
        document = {
            "command": list(self.command),
            "gpus": list(self.gpus),
            "timeout_seconds": self.timeout_seconds,
            "stop_grace_seconds": self.stop_grace_seconds,
            "left_out": list(self.left_out),
        }
        return json.dumps(document if key is None else sealed(document, key, _LAUNCH, trial))

    @classmethod
    def from_json(cls, text: bytes, trial: str, key: str | None) -> Launch:
        """Return what the document in an attempt's folder says.

        Args:
            text: The document.
            trial: The text of the trial's document.
            key: The attempt's; `None` for one without a seal.

        Raises:
            ValueError, KeyError, TypeError, OverflowError, RecursionError: It is damaged.
            DocumentError: It, or the trial's document, is not as the runner wrote it.
        """
        document = json.loads(text)
        if key is not None and not has_seal(document, key, _LAUNCH, trial):
            raise DocumentError(
                f"{TRIAL} or {LAUNCH} lacks the seal of this attempt: another process wrote it, or "
                "changed it."
            )
        timeout = document["timeout_seconds"]
        return cls(
            command=tuple(map(str, document["command"])),
            gpus=tuple(map(str, document["gpus"])),
            timeout_seconds=None if timeout is None else float(timeout),
            stop_grace_seconds=float(document["stop_grace_seconds"]),
            left_out=tuple(map(str, document.get("left_out", ()))),
        )


class LockState(enum.Enum):
    """What the lock of an attempt says of its supervisor."""

    HELD = "held"
    FREE = "free"
    MISSING = "missing"
    """The attempt's folder, or the lock in it, is not there or is something else."""


def lock_state(folder: Path) -> LockState:
    """Return what an attempt's lock says; never waits for it.

    Raises:
        OSError: The disk does not answer.
    """
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            return LockState.MISSING
        with open_file(folder / supervisor.LOCK) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return LockState.HELD
    except (FileNotFoundError, NotADirectoryError, PermissionError, NotAFileError):
        return LockState.MISSING
    return LockState.FREE


def has_ended(folder: Path) -> bool:
    """Return whether an attempt's supervisor recorded its end. A document alone proves nothing.

    Raises:
        OSError: The disk does not answer.
    """
    return is_file(folder / supervisor.EXIT) and lock_state(folder) is LockState.FREE


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What `wait` compares: when it changes, `poll` has something to do."""

    exit: Kind
    pid: tuple[int, int] | None
    """Which file `pid.json` is; `None` where that does not matter any more."""
    metrics: tuple[int, int, int] | None
    is_supervisor_dead: bool


class Attempt:
    """One attempt as an executor object follows it.

    Args:
        attempt: Its numbers.
        folder: Where its files are.
        key: The key that seals them; `None` for an attempt of an earlier version of studyflow.

    Raises:
        FileNotFoundError: There is no such attempt.
        NotAFileError, ValueError, KeyError, TypeError, OverflowError, RecursionError,
        DocumentError: Its documents are damaged.
    """

    def __init__(self, attempt: AttemptId, folder: Path, key: str | None = None) -> None:
        self.id = attempt
        self.folder = folder
        self.key = key
        """Seals what belongs to it; `None` for an attempt of an earlier version of studyflow."""
        self._documents = {name: read_document(folder / name) for name in (TRIAL, LAUNCH)}
        text = self._documents[TRIAL].decode()
        self.trial = replace(Trial.from_json(text), key=key)
        self.launch = Launch.from_json(self._documents[LAUNCH], text, key)
        self.metrics = MetricsReader(folder / METRICS, key)
        self.status = AttemptStatus(AttemptState.PENDING)
        self.supervisor = SupervisorHandle()
        self._first_seen_at = time.monotonic()
        self.check_at = self._first_seen_at + START_PATIENCE_SECONDS
        """When `wait` returns though nothing changed, on the monotonic clock."""
        self._kill_pause = KILL_SECONDS
        self.ends_by: float | None = None
        """Until when the supervisor may end the attempt by itself, once it cannot be followed."""
        self.is_lock_doubtful = False
        """Whether the lock was free at the last poll while the supervisor lived."""
        self._told: set[str] = set()
        self.fingerprint = self.take_fingerprint()
        """What the last poll began with."""

    @property
    def allocation(self) -> Allocation:
        """What it holds: the GPUs that were handed to it."""
        return Allocation(len(self.launch.gpus), "gpu" if self.launch.gpus else None)

    @property
    def is_ended(self) -> bool:
        """Whether its end was concluded."""
        return self.status.state is AttemptState.ENDED

    @property
    def has_never_started(self) -> bool:
        """Whether no supervisor of it has come so far as to start the script."""
        return self.status.state is AttemptState.PENDING and all(
            kind_of(self.folder / name) is Kind.NOTHING
            for name in (supervisor.PID, supervisor.EXIT)
        )

    @property
    def start_wait_seconds(self) -> float:
        """For how much longer the runner that made it may take to start it; below 0 when over."""
        return self._first_seen_at + START_PATIENCE_SECONDS - time.monotonic()

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return a document that a supervisor or runner wrote; `None` when it is not there."""
        try:
            document = json.loads(read_document(self.folder / name))
        except FileNotFoundError:
            return None
        except (NotAFileError, ValueError, RecursionError):
            # The script's doing, or a full disk under a file system that does not keep the order.
            if name not in self._told:
                self._told.add(name)
                logger.warning("trial %s: %s is unreadable", self.id, self.folder / name)
            return {}
        return document if isinstance(document, dict) else {}

    def changed_documents(self) -> list[str]:
        """Return which documents of its runner are not what they were when it was first seen.

        Raises:
            OSError: The disk does not answer.
        """
        return [
            name
            for name, was in self._documents.items()
            if read_piece(self.folder / name, DOCUMENT_LIMIT_BYTES) != was
        ]

    def check_again(self, seconds: float) -> None:
        """Let `wait` return after this time at the latest."""
        self.check_at = min(self.check_at, time.monotonic() + seconds)

    def check_again_after_kill(self) -> None:
        """Let `wait` return soon, and later each time: what was killed may take long to die."""
        self.check_again(self._kill_pause)
        self._kill_pause = min(2 * self._kill_pause, CHECK_SECONDS)

    def take_fingerprint(self) -> Fingerprint:
        """Return what can be seen of the attempt without opening a file.

        Raises:
            OSError: The disk does not answer.
        """
        is_pending = self.status.state is AttemptState.PENDING
        return Fingerprint(
            exit=kind_of(self.folder / supervisor.EXIT),
            pid=version_of(self.folder / supervisor.PID) if is_pending else None,
            metrics=self.metrics.version(),
            is_supervisor_dead=self.supervisor.is_dead(),
        )

    def has_changed(self) -> bool:
        """Return whether `poll` has something to do."""
        try:
            return self.fingerprint != self.take_fingerprint()
        except OSError:  # poll tells what the disk has
            return True
