"""A study's events, for terminals, Prefect and notifications."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from studyflow.trial import MetricPoint
from studyflow.trial.record import TrialRecord

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """A study's progress at one moment."""

    study: str
    n_finished: int
    """Finished trials that count towards the budget."""
    n_trials: int | None
    """Trials to finish; `None` for as many as another limit of the budget allows."""
    running: tuple[TrialRecord, ...]
    best: tuple[TrialRecord, ...]
    elapsed_seconds: float
    """Since this runner took the study over."""
    remaining_seconds: float | None
    """Time left at the throughput so far; `None` while that is not known."""
    note: str = ""
    """What slows the study down, one sentence; empty when nothing does."""
    is_paused: bool = False
    """Whether someone paused the study: running trials finish, none starts."""
    spent: str = ""
    """What is spent of the budget's hours, money and time, short; empty without such a limit."""
    n_failed: int = 0
    """Finished trials that failed, of those that count."""
    n_pruned: int = 0
    """Finished trials that were pruned, of those that count."""
    share: float | None = None
    """Part of the budget that is used up, 0 to 1, by the limit beside `n_trials` that is nearest to
    its end; `None` without any."""


class Observer:
    """Base of observers, which do nothing; a subclass overrides the events that it needs.

    Observers are called from the runner's thread, so they must return quickly. What they raise is
    logged and never stops a study.
    """

    def starting(self, what: str) -> None:
        """The runner begins something that may take a while before the first trial starts.

        Args:
            what: What it does now, in a few words without a full stop.
        """

    def tracked(self, url: str) -> None:
        """The study's run in MLflow can be opened at this address."""

    def launched(self, record: TrialRecord) -> None:
        """An attempt of a trial was started, or found running after a restart of the runner."""

    def reported(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        """A running trial reported metrics."""

    def attempt_lost(self, record: TrialRecord, message: str) -> None:
        """An attempt was lost to the infrastructure; the same trial is attempted again."""

    def paused(self, record: TrialRecord) -> None:
        """An attempt was stopped to free its slot; `launched` follows if the trial is taken up."""

    def recorded(self, record: TrialRecord) -> None:
        """A trial's outcome is in the study's storage."""

    def progressed(self, progress: Progress) -> None:
        """The study's progress: after every change, and at least every few seconds."""

    def noted(self, message: str) -> None:
        """A message for people, sent once."""

    def ended(self, reason: str, is_failure: bool, run_url: str | None) -> None:
        """The study finished or failed; nobody cancelled or paused it. No event follows.

        Args:
            reason: Why it ended, one or more sentences.
            is_failure: Whether it ended without a result.
            run_url: Page of the study's run in MLflow; `None` without a web server.
        """


class AnyThreadNotes(Observer):
    """Takes notes from any thread and passes them to an observer in the runner's thread.

    The thread that computes a suggestion needs this: it may find that the storage does not answer.
    Create it in the runner's thread, and send it progress like any observer.

    Args:
        observer: Receives the notes.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._runner = threading.get_ident()
        self._waiting: queue.SimpleQueue[str] = queue.SimpleQueue()

    def take(self, message: str) -> None:
        """Pass a note on: at once in the runner's thread, else with its next progress."""
        self._waiting.put(message)
        if threading.get_ident() == self._runner:
            self._pass_on()
        else:
            _log.info("%s", message)

    def progressed(self, progress: Progress) -> None:  # noqa: ARG002
        self._pass_on()

    def _pass_on(self) -> None:
        while not self._waiting.empty():
            self._observer.noted(self._waiting.get())


class Observers(Observer):
    """Several observers as one."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def starting(self, what: str) -> None:
        self._tell("starting", what)

    def tracked(self, url: str) -> None:
        self._tell("tracked", url)

    def launched(self, record: TrialRecord) -> None:
        self._tell("launched", record)

    def reported(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        self._tell("reported", record, points)

    def attempt_lost(self, record: TrialRecord, message: str) -> None:
        self._tell("attempt_lost", record, message)

    def paused(self, record: TrialRecord) -> None:
        self._tell("paused", record)

    def recorded(self, record: TrialRecord) -> None:
        self._tell("recorded", record)

    def progressed(self, progress: Progress) -> None:
        self._tell("progressed", progress)

    def noted(self, message: str) -> None:
        self._tell("noted", message)

    def ended(self, reason: str, is_failure: bool, run_url: str | None) -> None:
        self._tell("ended", reason, is_failure, run_url)

    def _tell(self, event: str, *arguments: object) -> None:
        for observer in self._observers:
            try:
                getattr(observer, event)(*arguments)
            except Exception:  # noqa: BLE001 - a broken terminal must not end a study
                _log.warning("%s failed at %r", type(observer).__name__, event, exc_info=True)
