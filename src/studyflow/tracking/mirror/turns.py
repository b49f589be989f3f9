"""Who writes about which trial: of a mirror's two threads only one at a time."""

from __future__ import annotations

import threading
from collections.abc import Set as AbstractSet


class Turns:
    """Trials, or the study, that a thread writes about at this moment.

    Args:
        changed: The mirror's lock, notified when a turn ends. It may be held by a caller.
    """

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self._taken: set[int] = set()

    @property
    def taken(self) -> AbstractSet[int]:
        """What is being written about."""
        return self._taken

    def take(self, subject: int | None, patience_seconds: float = 0.0) -> bool:
        """Return whether the caller may write about a subject now, and nobody else meanwhile.

        Args:
            subject: A trial, or `STUDY`; `None` for a call that only reads, which always may.
            patience_seconds: How long to wait for the turn to be free.
        """
        if subject is None:
            return True
        with self._changed:
            is_free = self._changed.wait_for(lambda: subject not in self._taken, patience_seconds)
            if is_free:
                self._taken.add(subject)
            return is_free

    def give_back(self, subject: int | None) -> None:
        """End a turn."""
        with self._changed:
            if subject is not None:
                self._taken.discard(subject)
            self._changed.notify_all()
