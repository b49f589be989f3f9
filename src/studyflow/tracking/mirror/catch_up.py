"""The thread that works through a mirror's backlog."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from studyflow.errors import StudyflowError, TrackingUnavailable
from studyflow.reasons import Code, Reason
from studyflow.tracking.mirror.availability import Availability
from studyflow.tracking.mirror.backlog import (
    Backlog,
    SendTrial,
    Task,
    TrialBacklog,
    subject_of,
)
from studyflow.tracking.mirror.sender import Sender
from studyflow.tracking.mirror.turns import Turns

_log = logging.getLogger(__name__)

FAILURES_BEFORE_REFUSED: Final = 8
"""Failures of one trial, each after a success of something else, until only a later sync tries it.
With pauses doubling from 1 second to 60 that is about 3 minutes, as of an artifact store that does
not answer."""


class CatchUp:
    """Does the backlog's tasks one after the other, and waits between failures.

    Args:
        sender: Does a task.
        backlog: What is unsent.
        availability: Whether the tracker answers.
        turns: What the other thread writes about.
        changed: The mirror's lock, notified when there may be something new to do.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        sender: Sender,
        backlog: Backlog,
        availability: Availability,
        turns: Turns,
        changed: threading.Condition,
        clock: Callable[[], float],
    ) -> None:
        self._sender = sender
        self._backlog = backlog
        self._availability = availability
        self._turns = turns
        self._changed = changed
        self._clock = clock
        self._is_working = False
        self._is_stopped = False
        self._thread: threading.Thread | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being sent, and nothing is left that this process would send."""
        return not (self._is_working or self._backlog.is_waiting)

    def wake(self) -> None:
        """Have the thread check the backlog; the first task starts it."""
        with self._changed:
            has_work = not self._is_stopped and self._seconds_to_wait() is not None
            if has_work and self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="studyflow-mirror", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def stop(self, timeout_seconds: float) -> bool:
        """Return whether the thread has ended in time; a call that hangs goes on until it ends."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
            thread = self._thread
        if thread is None:
            return True
        thread.join(timeout_seconds)
        return not thread.is_alive()

    def step(self) -> float | None:
        """Do the next task; return seconds until there is another, `None` when there is none."""
        with self._changed:
            wait_seconds = self._seconds_to_wait()
            task = self._backlog.next_task(self._clock(), self._turns.taken)
            if wait_seconds != 0.0 or task is None:
                return wait_seconds
            self._turns.take(subject_of(task))
            self._is_working = True
        try:
            self._sender.send(task)
        except Exception as error:  # noqa: BLE001 - this thread outlives whatever a task raises
            with self._changed:
                self._failed(task, error)
        else:
            with self._changed:
                self._availability.answered()
        finally:
            self._end_turn(task)
        with self._changed:
            return self._seconds_to_wait()

    def _end_turn(self, task: Task) -> None:
        subject = subject_of(task)
        with self._changed:
            self._is_working = False
            if subject is not None:
                self._backlog.drop_if_empty(subject)
            self._turns.give_back(subject)

    def _seconds_to_wait(self) -> float | None:
        """Return seconds until something can be done; `None` when nothing is to do."""
        due = self._backlog.seconds_until_due(self._clock(), self._turns.taken)
        return None if due is None else max(due, self._availability.seconds_to_wait)

    def _run(self) -> None:
        while True:
            self.step()
            with self._changed:
                if self._is_stopped:
                    return
                wait_seconds = self._seconds_to_wait()
                if wait_seconds != 0.0:
                    self._changed.wait(wait_seconds)

    # What a failure means

    def _failed(self, task: Task, error: Exception) -> None:
        trial = task.trial if isinstance(task, SendTrial) else None
        match error:
            case TrackingUnavailable():
                if trial is None or not self._is_about(trial, error):
                    self._availability.failed(error)
            case StudyflowError() if trial is not None and error.retryable:
                self._postpone(trial)  # something else does not answer, not the tracker
            case StudyflowError() if trial is not None:
                self._refuse(trial, error.reason)
            case StudyflowError():
                self._availability.failed(error)
                self._availability.refusal = None if error.retryable else str(error)
            case _:
                _log.warning("Tracking failed for no reason that is known", exc_info=error)
                if trial is not None:
                    text = f"{type(error).__name__}: {error}"
                    self._refuse(trial, Reason(Code.UNSPECIFIED, text))
                else:
                    self._availability.failed(error)

    def _is_about(self, trial: TrialBacklog, error: TrackingUnavailable) -> bool:
        """Return whether the tracker fails about one trial so often that only a sync tries again.

        That is so when it answers about others in between.
        """
        self._backlog.put_last(trial)
        n_successes = self._availability.n_successes
        answers_others = trial.successes_seen not in (None, n_successes)
        trial.successes_seen = n_successes
        if answers_others:
            self._postpone(trial)
        if trial.n_failures < FAILURES_BEFORE_REFUSED:
            return False
        self._refuse(trial, error.reason)
        return True

    def _postpone(self, trial: TrialBacklog) -> None:
        trial.not_before = self._clock() + self._availability.pause_after(trial.n_failures)
        trial.n_failures += 1
        self._backlog.put_last(trial)

    def _refuse(self, trial: TrialBacklog, reason: Reason) -> None:
        trial.is_refused = True
        text = f"Trial {trial.record.number}: not tracked: {reason.message}"
        self._availability.note(replace(reason, message=text))
