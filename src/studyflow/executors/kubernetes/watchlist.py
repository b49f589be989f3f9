"""The attempts that an executor follows, and which of them a poll looks at.

A poll costs what has changed: an attempt is looked at when its Job or its pod has changed, and when
time alone may have changed what they mean. In between its status stands.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final

from studyflow.executors.kubernetes.ends import AttemptEnds
from studyflow.executors.kubernetes.followed import FollowedAttempt, read_trial
from studyflow.executors.kubernetes.monitor import AttemptMonitor
from studyflow.executors.kubernetes.study_objects import StudyObjects
from studyflow.executors.protocol import AttemptId, AttemptState, AttemptStatus
from studyflow.trial import Trial

POLL_SECONDS: Final = 0.5
"""How long one poll goes on looking at attempts. What is left is looked at by the next one, so that
a runner with a thousand ends to take in starts new trials in between."""


FORGOTTEN_SECONDS: Final = 600.0
"""How long what is still heard of a dropped attempt is passed over. Its Job and its pod are gone by
then; one whose deletion hangs is shown once more, and dropped again."""


ENDED_AT_ONCE: Final = 1000
"""How many of them one poll goes through."""


class Watchlist:
    """Follows the attempts of one study. One thread polls; any may add attempts and drop them.

    Args:
        objects: The study's Jobs and pods.
        monitor: Finds out how an attempt stands.
        ends: Tells how one has ended.
        on_rest: Called when a poll has left something to the next one.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        objects: StudyObjects,
        monitor: AttemptMonitor,
        ends: AttemptEnds,
        on_rest: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._objects = objects
        self._monitor = monitor
        self._ends = ends
        self._on_rest = on_rest
        self._clock = clock
        self._lock = threading.Lock()
        self._attempts: dict[AttemptId, FollowedAttempt] = {}
        self._forgotten: dict[AttemptId, float] = {}
        """Attempts that were dropped, and when, the oldest first."""
        self._changed: set[AttemptId] = set()
        """Attempts that have changed and that no poll has looked at since."""

    def get(self, attempt: AttemptId) -> FollowedAttempt | None:
        """Return what is known of an attempt; `None` when it is not followed."""
        return self._attempts.get(attempt)

    def add(self, attempt: AttemptId, trial: Trial, *, is_own: bool) -> None:
        """Follow an attempt from now on.

        Args:
            attempt: The attempt.
            trial: What it runs.
            is_own: Whether its Job was created here and now.
        """
        new = FollowedAttempt(attempt, trial, self._clock())
        with self._lock:
            self._forgotten.pop(attempt, None)
            followed = self._attempts.setdefault(attempt, new)
            followed.is_own = followed.is_own or is_own

    def drop(self, attempt: AttemptId) -> None:
        """Follow an attempt no longer, whatever is heard of it."""
        with self._lock:
            self._forgotten[attempt] = self._clock()
            self._changed.discard(attempt)
            self._attempts.pop(attempt, None)

    def poll(self) -> Mapping[AttemptId, AttemptStatus]:
        """Look at what has changed, or is due, and return how every attempt stands.

        Raises:
            ExecutorUnavailable: The API server does not answer.
        """
        began = self._clock()
        for attempt in self._objects.take_changes(self._forgotten):
            if attempt in self._attempts or self._follow(attempt):
                self._changed.add(attempt)
        with self._lock:
            self._end_forgetting(began - FORGOTTEN_SECONDS)
            followed_now = list(self._attempts.values())
        running = {f.id for f in followed_now if f.state is AttemptState.RUNNING}
        self._monitor.begin_poll(any_running=bool(running))
        due = [
            followed
            for followed in followed_now
            if followed.id in self._changed or followed.look_at <= began
        ]
        for position, followed in enumerate(due):
            if position and self._clock() - began >= POLL_SECONDS:
                self._on_rest()
                break
            self._look(followed, running)
        ended = [followed for followed in due if followed.ended is not None]
        if not self._ends.tell(ended, began + POLL_SECONDS):
            self._on_rest()
        with self._lock:
            return {attempt: followed.status for attempt, followed in self._attempts.items()}

    def _end_forgetting(self, before: float) -> None:
        """Keep no longer which attempts were dropped before a time."""
        for attempt, dropped_at in list(islice(self._forgotten.items(), ENDED_AT_ONCE)):
            if dropped_at >= before:
                break
            del self._forgotten[attempt]

    def _look(self, followed: FollowedAttempt, running: set[AttemptId]) -> None:
        """Look at one attempt.

        Args:
            followed: The attempt.
            running: The attempts that run as far as is known; brought up to date.
        """
        job, is_gone = self._objects.last_job(followed.id)
        if job is not None:
            n_others = len(running) - (followed.id in running)
            self._monitor.update(followed, job, job_is_gone=is_gone, others_running=n_others > 0)
            if followed.state is AttemptState.RUNNING and followed.ended is None:
                running.add(followed.id)
            else:
                running.discard(followed.id)
        self._changed.discard(followed.id)

    def _follow(self, attempt: AttemptId) -> bool:
        """Begin to follow an attempt that others have made; return whether it is one of ours."""
        job, _ = self._objects.last_job(attempt)
        trial = None if job is None else read_trial(job)
        if trial is None:
            return False
        self.add(attempt, trial, is_own=False)
        return True
