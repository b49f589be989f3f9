"""Where the checkpoints of a trial's attempts are: a folder for each attempt, in one of the trial.

    <trial>/                    what studyflow 0.1.0 had all attempts share; now only read
        .attempts/<attempt>/    written by that attempt alone; see `studyflow.sdk.checkpoints`

An attempt whose node is lost may go on writing for as long as nobody can stop it. Where executors
can keep it from reaching other folders they do: a pod mounts its own folder, and those of attempts
before the last one, to clear them. It reads the rest.

Standard library only: this module is part of every trial image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ATTEMPTS: Final = ".attempts"
"""Folder of the attempts' folders. Hidden: beside it are the files that 0.1.0 left."""

FILES: Final = "files"
"""What `sdk.checkpoint_dir()` returns, within an attempt's folder."""

MOST_RETIRED: Final = 3
"""How many attempts before the previous one are within reach of a new one. Each clears those before
it, so more are there only after a series of attempts that came to nothing."""

CHECKPOINT_METRIC: Final = "studyflow.checkpoint"
"""Metric that says which checkpoints were published: its steps are theirs, and its values the
numbers of the attempts. So no clock is needed to tell which attempt published one."""


@dataclass(frozen=True, slots=True)
class CheckpointFolders:
    """The folders that one attempt uses, as its script reaches them."""

    own: str
    """This attempt's; no other one writes there."""
    trial: str
    """The trial's, with those of all attempts. To be read."""
    retired: tuple[str, ...] = ()
    """Those of attempts before the previous one: what they hold may go once this attempt has as
    much."""

    @property
    def files(self) -> str:
        """What `sdk.checkpoint_dir()` returns."""
        return f"{self.own}/{FILES}"


def attempt_folder(trial_folder: str, attempt: int) -> str:
    """Return the folder of an attempt in that of its trial."""
    return f"{trial_folder}/{ATTEMPTS}/{attempt}"


def retired_attempts(attempt: int) -> range:
    """Return the attempts whose checkpoints a new attempt clears once it has its own.

    The previous one's stay: they are what a third attempt goes back to if this one leaves nothing
    that can be read.
    """
    previous = attempt - 1
    return range(max(1, previous - MOST_RETIRED), previous)


def folders_in(trial_folder: str, attempt: int) -> CheckpointFolders:
    """Return the folders of an attempt that reaches all of its trial's by one path."""
    return CheckpointFolders(
        own=attempt_folder(trial_folder, attempt),
        trial=trial_folder,
        retired=tuple(attempt_folder(trial_folder, other) for other in retired_attempts(attempt)),
    )
