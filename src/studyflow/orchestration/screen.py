"""The terminal of a flow that a person starts; a flow that a worker runs has none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TextIO

from rich.console import Console

from studyflow.cli import exits
from studyflow.cli.results import print_result
from studyflow.cli.views import make_view
from studyflow.errors import StudyflowError
from studyflow.observers.observer import Observer
from studyflow.runner import StudyResult
from studyflow.spec import StudySpec


class Screen:
    """What a flow shows in a terminal, and what it found there to say.

    Args:
        stream: Where the live view goes, if it is a terminal; `None` where nobody reads: then
            nothing is printed either.
        is_live: Whether there is a live view; else a person reads Prefect's log lines.
    """

    def __init__(self, stream: TextIO | None = None, *, is_live: bool = True) -> None:
        self._stream = stream
        self._is_live = is_live
        self._is_muted = False
        self.error: StudyflowError | OSError | None = None
        """What ended the flow, if a person can fix it."""
        self.result: StudyResult | None = None
        """The study's result, once it was printed."""

    @property
    def is_script(self) -> bool:
        """Whether the process runs this flow from the command line, and nothing else."""
        return self._stream is not None

    @property
    def has_printed(self) -> bool:
        """Whether a result was printed, which says how the study ended."""
        return self.result is not None

    def exit_code(self) -> int:
        """Return the exit code that goes with what was printed."""
        if self.result is None:
            return 0
        outcome = self.result.outcome
        return exits.exit_code_of_run(outcome.reason.code, is_failure=outcome.is_failure)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Make this the screen of the flows that run meanwhile.

        A flow's parameters are shown on its page and cannot carry a terminal.
        """
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    @contextmanager
    def muted(self) -> Iterator[None]:
        """Show nothing of a flow below this one: it has a page of its own."""
        self._is_muted = True
        try:
            yield
        finally:
            self._is_muted = False

    @contextmanager
    def shown(self, spec: StudySpec) -> Iterator[Observer]:
        """Show the study while it runs, where a person watches."""
        if self._stream is None or not self._is_live or not self._stream.isatty():
            yield Observer()
            return
        view = make_view(spec, self._stream)
        with view.shown():
            yield view

    def print(self, write: Callable[[Console], object]) -> None:
        """Have something written to the terminal, if somebody reads it."""
        if self._stream is not None and not self._is_muted:
            write(Console())

    def print_result(self, result: StudyResult) -> None:
        """Print a study's result and where to find more."""
        if self._stream is not None and not self._is_muted:
            print_result(result, Console())
            self.result = result

    def keep_error(self, error: StudyflowError | OSError) -> None:
        """Keep what ended the flow, for the exit code and the last line."""
        if not self._is_muted:
            self.error = error


_current: ContextVar[Screen] = ContextVar("screen")


def current_screen() -> Screen:
    """Return the screen of the flow that runs here; one that shows nothing without a terminal."""
    return _current.get(None) or Screen()
