"""How attempts ended, told once their logs are here."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import replace
from typing import Final

from studyflow.executors.diagnosis import blame_device, diagnose, outcome_of, redacted
from studyflow.executors.kubernetes.api import ServerBusy
from studyflow.executors.kubernetes.followed import FollowedAttempt
from studyflow.executors.kubernetes.logs import PodLogs
from studyflow.executors.kubernetes.observation import Judgement
from studyflow.executors.kubernetes.study_objects import StudyObjects
from studyflow.executors.protocol import AttemptState, AttemptStatus
from studyflow.redaction import Redactor
from studyflow.spec import StudySpec
from studyflow.trial import Cause, Outcome, Trial

LOG_TRIES: Final = 3
"""How often a log is asked for whose node does not answer."""

LOGS_AT_ONCE: Final = 8
"""How many logs are fetched side by side."""

LOGS_SECONDS: Final = 0.1
"""How long a poll waits for the logs of attempts that have ended. One that takes longer is told of
by the poll that follows its arrival."""


class AttemptEnds:
    """Tells how attempts of one study ended.

    Args:
        spec: The study.
        objects: Its Jobs and pods.
        logs: Keeps the logs.
        redact: Takes secrets out of what scripts say about their end.
        on_log: Called, from any thread, when a log has arrived that no poll waits for.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        spec: StudySpec,
        objects: StudyObjects,
        logs: PodLogs,
        redact: Redactor,
        on_log: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._spec = spec
        self._objects = objects
        self._logs = logs
        self._redact = redact
        self._on_log = on_log
        self._clock = clock

    def tell(self, attempts: Sequence[FollowedAttempt], until: float) -> bool:
        """Conclude attempts that have ended and whose logs have arrived, fetched side by side.

        An attempt runs, for all that is told, until its log is there or was asked for in vain.

        Args:
            attempts: Attempts that have ended.
            until: When to begin no further fetch, by this object's clock.

        Returns:
            Whether all were begun to be fetched.
        """
        begun: list[FollowedAttempt] = []
        for attempt in attempts:
            if attempt.log is None:
                if begun and self._clock() >= until:
                    break
                self._begin_log(attempt)
            begun.append(attempt)
        wait([attempt.log for attempt in begun if attempt.log is not None], LOGS_SECONDS)
        for attempt in begun:
            if attempt.log is None:
                self._conclude(attempt)
            elif attempt.log.done():
                if self._has_log(attempt) or attempt.log_tries >= LOG_TRIES:
                    self._conclude(attempt)
                attempt.log = None
            else:
                attempt.log.add_done_callback(self._wake)
        return len(begun) == len(attempts)

    def _begin_log(self, attempt: FollowedAttempt) -> None:
        """Fetch the log of an attempt that has ended, if there is a pod to ask for it."""
        if attempt.pod is not None and self._objects.has_pod(attempt):
            attempt.log = self._logs.begin_fetch(attempt.id, attempt.pod)

    def _has_log(self, attempt: FollowedAttempt) -> bool:
        """Return whether a log that was asked for needs no other try, and count those that do."""
        assert attempt.log is not None, "it was asked for"
        try:
            is_saved = attempt.log.result()
        except ServerBusy:
            return False
        attempt.log_tries += 1
        return is_saved

    def _wake(self, _: object) -> None:
        self._on_log()

    def save_log(self, attempt: FollowedAttempt) -> None:
        """Fetch the log of an attempt that is about to lose its pod, if it can be had."""
        if attempt.pod is None or not self._objects.has_pod(attempt):
            return
        with contextlib.suppress(ServerBusy):  # what takes the pod away does not go through either
            self._logs.fetch(attempt.id, attempt.pod)

    def _conclude(self, attempt: FollowedAttempt) -> None:
        """Make the end of an attempt its status."""
        found, attempt.ended = attempt.ended, None
        assert found is not None, "it has ended"
        log_tail = "" if found.ending is None else self._logs.tail(attempt.id)
        attempt.look_at = math.inf
        attempt.status = AttemptStatus(
            AttemptState.ENDED,
            outcome=conclude(self._spec, attempt.trial, found, log_tail, self._redact),
            exit_code=None if found.ending is None else found.ending.exit_code,
            started_at=found.started_at,
            ended_at=found.ended_at,
            missed_nodes=found.missed_nodes,
            blocks_study=found.blocks_study,
            node=attempt.status.node,
            allocation=attempt.status.allocation,
        )


def conclude(
    spec: StudySpec, trial: Trial, found: Judgement, log_tail: str, redact: Redactor
) -> Outcome:
    """Return the outcome of an attempt that ended.

    Args:
        spec: The study.
        trial: The attempt.
        found: How its Job and pod ended.
        log_tail: The end of its log, without secrets.
        redact: Takes secrets out of what the script said.

    Raises:
        ValueError: The attempt has not ended.
    """
    if found.ending is None:
        if found.cause is None or found.reason is None:
            raise ValueError(f"no attempt ends as {found}")
        outcome = outcome_of(trial, found.cause, found.reason)
    else:
        ending = replace(found.ending, timeout_seconds=spec.trial.timeout_seconds)
        outcome = diagnose(ending, found.outcome, log_tail, trial, redact)
        outcome = blame_device(outcome, log_tail)
        limit = spec.trial.resources.memory
        if outcome.cause is Cause.HOST_OOM and limit:
            message = f"{outcome.message} Its limit is {limit} (trial.resources.memory)."
            outcome = replace(outcome, message=message)
    return redacted(outcome, redact)
