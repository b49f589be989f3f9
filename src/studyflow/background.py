"""Calls that may hang, each in a thread of its own that nobody has to wait for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class NoAnswer(Exception):
    """A call took longer than it was given."""


class Background(Generic[T]):
    """A call that goes on in the background, and is left behind when it takes too long.

    Args:
        name: Name of the thread.
        call: What is called, at once.
    """

    def __init__(self, name: str, call: Callable[[], T]) -> None:
        self._call = call
        self._returned: list[T] = []
        self._error: Exception | None = None
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._returned.append(self._call())
        except Exception as error:  # noqa: BLE001 - raised again where the result is asked for
            self._error = error

    @property
    def is_running(self) -> bool:
        """Whether the call has neither returned nor raised yet."""
        return self._thread.is_alive()

    def result(self, patience_seconds: float) -> T:
        """Return what the call returned, or raise what it raised.

        Raises:
            NoAnswer: It took longer than this since it began.
        """
        left = self._began + patience_seconds - time.monotonic()
        self._thread.join(max(left, 0.0))
        if self._error is not None:
            raise self._error
        if not self._returned:
            raise NoAnswer(f"no answer within {patience_seconds:g} s")
        return self._returned[0]
