"""The attempts of one study that an executor object follows, and those that it cannot."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Collection, Iterator

from studyflow.errors import ExecutorUnavailable, StudyflowError
from studyflow.executors.local.attempt import Attempt, has_ended
from studyflow.executors.local.files import DAMAGED, remove
from studyflow.executors.local.killing import ProcessKiller
from studyflow.executors.local.study_folder import StudyFolder
from studyflow.executors.protocol import AttemptId


class FollowedAttempts:
    """Attempts by number, each made from its documents when it is first asked for.

    Args:
        folder: Where they are.
        killer: Kills what runs of an attempt whose documents are damaged.
        key_of: Returns the key of an attempt; `None` for one of an earlier version.
        tell: Hears of documents that are damaged.
    """

    def __init__(
        self,
        folder: StudyFolder,
        killer: ProcessKiller,
        key_of: Callable[[AttemptId], str | None],
        tell: Callable[[str], None],
    ) -> None:
        self._key_of = key_of
        self._tell = tell
        self._folder = folder
        self._killer = killer
        self._attempts: dict[AttemptId, Attempt] = {}
        self._told_damaged: set[AttemptId] = set()

    def known(self, attempt: AttemptId) -> Attempt | None:
        """Return an attempt that was asked for before; `None` for any other."""
        return self._attempts.get(attempt)

    def follow(self, attempt: AttemptId) -> Attempt:
        """Return an attempt.

        Raises:
            FileNotFoundError: There is none.
            NotAFileError, ValueError, KeyError, TypeError, OverflowError, RecursionError,
            DocumentError: Its documents are damaged; `DAMAGED` names these.
        """
        followed = self._attempts.get(attempt)
        if followed is None:
            followed = Attempt(attempt, self._folder.attempt(attempt), self._key_of(attempt))
            self._attempts[attempt] = followed
        return followed

    def open(self) -> list[AttemptId]:
        """Return the attempts that were submitted and not forgotten, in order.

        Raises:
            OSError: The disk does not answer.
        """
        # Those followed here too: their entries are in reach of scripts.
        return sorted(self._folder.open_attempts() | self._attempts.keys())

    def live(self) -> list[Attempt]:
        """Return those whose end was not concluded."""
        return [followed for followed in self._attempts.values() if not followed.is_ended]

    def gpus(self) -> Iterator[str]:
        """Yield the GPUs of all attempts that run, whoever submitted them.

        Raises:
            OSError: The disk does not answer.
        """
        for attempt in self.open():
            with contextlib.suppress(FileNotFoundError, *DAMAGED):
                followed = self.follow(attempt)
                if not followed.is_ended and not has_ended(followed.folder):
                    yield from followed.launch.gpus

    def drop(self, attempt: AttemptId) -> None:
        """Stop following an attempt."""
        followed = self._attempts.pop(attempt, None)
        if followed is not None:
            followed.supervisor.unwatch()

    def drop_all_but(self, attempts: Collection[AttemptId]) -> None:
        """Stop following all other attempts."""
        for attempt in self._attempts.keys() - set(attempts):
            self.drop(attempt)

    def discard(self, attempt: AttemptId) -> None:
        """Undo a claim: as if the attempt had never been submitted.

        Raises:
            OSError: The disk refuses.
        """
        folder = self._folder.attempt(attempt)
        aside = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
        with contextlib.suppress(FileNotFoundError):
            folder.rename(aside)  # in one moment, as it came
        self._folder.close_entry(attempt)
        self.drop(attempt)
        with contextlib.suppress(OSError):
            remove(aside)

    def discard_if_damaged(self, attempt: AttemptId) -> None:
        """Discard what a power cut or a script made of an attempt, once nothing of it runs.

        Raises:
            ExecutorUnavailable: Something of it runs still.
            OSError: The disk refuses.
        """
        folder = self._folder.attempt(attempt)
        try:
            self.follow(attempt)
        except FileNotFoundError:
            if not os.path.lexists(folder):
                return
        except DAMAGED as error:
            self._tell_damaged(attempt, error)
        else:
            return
        if self._killer.kill_unreadable(folder):
            raise ExecutorUnavailable(
                f"The files of attempt {attempt} were damaged; what runs of it is being killed."
            )
        self.discard(attempt)
        self._folder.open_entry(attempt)

    def end_damaged(self, attempt: AttemptId, error: Exception) -> None:
        """Kill what runs of an attempt that cannot be followed; its next `submit` discards it."""
        self._tell_damaged(attempt, error)
        self._killer.kill_unreadable(self._folder.attempt(attempt))

    def _tell_damaged(self, attempt: AttemptId, error: Exception) -> None:
        if attempt in self._told_damaged:
            return
        self._told_damaged.add(attempt)
        why = str(error) if isinstance(error, StudyflowError) else "its documents are damaged."
        folder = self._folder.attempt(attempt)
        self._tell(
            f"Trial {attempt} cannot be followed, and what runs of it ends: {why} ({folder})"
        )
