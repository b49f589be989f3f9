"""What becomes of attempts: whose supervisor lives, who died, who must be started or ended."""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import signal
import time
from dataclasses import dataclass, replace
from typing import Final

from studyflow.errors import ExecutorError, ExecutorUnavailable
from studyflow.executors.diagnosis import How
from studyflow.executors.local import processes, supervisor
from studyflow.executors.local.attempt import (
    CHECK_SECONDS,
    KILL_SECONDS,
    Attempt,
    LockState,
    lock_state,
)
from studyflow.executors.local.ending import conclude, exit_token
from studyflow.executors.local.files import is_file, modified_at, replace_file
from studyflow.executors.local.inherited import LeftOutNotice
from studyflow.executors.local.killing import ProcessKiller
from studyflow.executors.local.starting import SupervisorStarter
from studyflow.executors.local.study_folder import StudyFolder
from studyflow.executors.protocol import AttemptState, AttemptStatus
from studyflow.reasons import Code
from studyflow.redaction import Redactor
from studyflow.trial.user_files import Kind

logger = logging.getLogger(__name__)

TERMINATION_SECONDS: Final = 5.0
"""How long a supervisor may take, beyond the script's grace, to end an attempt that cannot be
followed any more, before its processes are killed one by one."""

MAX_STARTS: Final = 3
"""How often one executor starts a supervisor that dies before it could start the script."""


@dataclass(frozen=True, slots=True)
class AttemptMonitor:
    """Finds out how attempts stand, and sees to those whose supervisor cannot."""

    folder: StudyFolder
    starter: SupervisorStarter | None
    """`None` to start none."""
    killer: ProcessKiller
    redact: Redactor
    left_out: LeftOutNotice

    def update(self, attempt: Attempt) -> AttemptStatus:
        """Return how an attempt stands now, with the metrics that came since the last call.

        Raises:
            ExecutorUnavailable: The study's folder was taken away, or the machine has no room for
                a process now.
            OSError: The disk does not answer.
        """
        if attempt.is_ended:
            return _with_allocation(attempt)
        # Before all else: what changes meanwhile wakes `wait`.
        attempt.fingerprint = attempt.take_fingerprint()
        attempt.check_at = math.inf
        lock = _trusted_lock(attempt)
        if lock is LockState.MISSING:
            is_ended = self._end_unreachable(attempt)
        else:
            # A document alone proves no end: the script could have written it.
            is_ended = lock is LockState.FREE and attempt.fingerprint.exit is Kind.FILE
            if not is_ended:
                self._care_for(attempt, lock)
        points = attempt.metrics.read()
        if not attempt.metrics.is_exhausted:
            attempt.check_again(0.0)
        # Metrics come before the end, however many there are.
        elif is_ended:
            attempt.status = conclude(attempt, self.redact)
            outcome = attempt.status.outcome
            if outcome is not None and outcome.code is Code.VARIABLE_LEFT_OUT:
                self.left_out.give(attempt.launch.left_out)
            attempt.supervisor.unwatch()
        status = _with_allocation(attempt)
        return replace(status, points=points) if points else status

    def start(self, attempt: Attempt) -> None:
        """Start an attempt's supervisor.

        Raises:
            ExecutorUnavailable: The machine has no room for a process now.
            ExecutorError: The operating system will not start a process with such arguments.
        """
        if self.starter is not None:
            self.starter.start(attempt, self.killer.cgroup_of(attempt))

    def _care_for(self, attempt: Attempt, lock: LockState) -> None:
        """Bring the state of an attempt that has not ended up to date; see to what died."""
        if attempt.status.state is AttemptState.PENDING:
            pids = attempt.read_json(supervisor.PID)
            if pids is not None and pids.get("script"):
                started_at = pids.get("started_at")
                began = started_at if isinstance(started_at, float) else None
                attempt.status = AttemptStatus(
                    AttemptState.RUNNING,
                    started_at=began,
                    running_seconds=None if began is None else max(time.time() - began, 0.0),
                )
        if lock is LockState.HELD:
            self._check_supervisor(attempt)
        elif not attempt.has_never_started:
            self._fence(attempt)
        elif attempt.supervisor.is_child or self.starter is None:
            attempt.check_again(CHECK_SECONDS)  # our own supervisor is on its way to the lock
        elif attempt.supervisor.starts >= MAX_STARTS:
            self._fence(attempt)
        elif attempt.supervisor.starts or attempt.start_wait_seconds < 0:
            self._start_again(attempt)
        else:
            attempt.check_again(attempt.start_wait_seconds)

    def _start_again(self, attempt: Attempt) -> None:
        logger.warning("trial %s: was never started; starting it", attempt.id)
        attempt.supervisor.unwatch()
        try:
            self.start(attempt)
        except ExecutorUnavailable:
            raise
        except ExecutorError as error:
            logger.warning("trial %s: %s", attempt.id, error)
            self._fence(attempt)

    def _check_supervisor(self, attempt: Attempt) -> None:
        """Watch whoever holds the lock."""
        handle = attempt.supervisor
        handle.watch_child()
        is_dead = handle.is_dead()
        if is_dead or (handle.descriptor is None and not handle.was_started_here):
            pids = attempt.read_json(supervisor.PID) or {}
            pid = pids.get("supervisor")
            if isinstance(pid, int) and pid > 0 and pid != handle.pid:
                handle.unwatch()  # of several that were started, this one was first
                handle.watch(pid)
            elif is_dead:
                # Not its supervisor: the script has opened the lock, or another runner polls.
                self.killer.kill(attempt)
                return
        if attempt.is_lock_doubtful or handle.is_dead():
            return
        handle.alive_at = processes.ticks_now()
        # One that was stopped sees no end and keeps no limit.
        if handle.pid is not None and processes.is_stopped(handle.pid):
            logger.warning("trial %s: its supervisor was stopped; it goes on now", attempt.id)
            handle.send(signal.SIGCONT)
            attempt.check_again(CHECK_SECONDS)

    def _end_unreachable(self, attempt: Attempt) -> bool:
        """End an attempt whose folder or lock is gone; return whether nothing of it runs any more.

        A supervisor sees that too and does it best: it knows all descendants of its script.
        """
        if not self.folder.is_there():
            raise ExecutorUnavailable(f"{self.folder.root} was taken away.")  # not one attempt's
        now = time.monotonic()
        handle = attempt.supervisor
        if attempt.ends_by is None:
            logger.warning("trial %s: %s was removed or replaced", attempt.id, attempt.folder)
            attempt.ends_by = now + attempt.launch.stop_grace_seconds + TERMINATION_SECONDS
            handle.send(signal.SIGTERM)  # the attempt ends with it
        is_watched = handle.descriptor is not None or handle.is_child
        if is_watched and not handle.is_dead() and now < attempt.ends_by:
            attempt.check_again(CHECK_SECONDS)
            return False
        return not self.killer.kill(attempt)

    def _fence(self, attempt: Attempt) -> None:
        """End an attempt whose supervisor was killed, once nothing of its process tree runs."""
        try:
            lock = os.open(attempt.folder / supervisor.LOCK, os.O_RDWR | os.O_NONBLOCK)
        except OSError as error:  # the next poll tells what has become of it
            logger.warning("trial %s: its lock cannot be opened: %s", attempt.id, error)
            attempt.check_again(CHECK_SECONDS)
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another runner is at it
            attempt.check_again(CHECK_SECONDS)
        else:
            self._record_end(attempt)
        finally:
            os.close(lock)

    def _record_end(self, attempt: Attempt) -> None:
        """Write the end that a killed supervisor could not, while its lock is held."""
        if is_file(attempt.folder / supervisor.EXIT):
            attempt.check_again(0.0)
            return
        if self.killer.kill(attempt):
            return
        ending = _ending_after_kill(attempt, time.time())
        if attempt.key is not None:
            ending["token"] = exit_token(attempt.key)
        attempt.check_again(0.0)
        try:
            replace_file(attempt.folder / supervisor.EXIT, json.dumps(ending))
        except PermissionError:  # the script's doing: there is no other reason in our own tree
            attempt.ends_by = time.monotonic()
            return
        logger.warning("trial %s: its supervisor was killed", attempt.id)


def _trusted_lock(attempt: Attempt) -> LockState:
    """Return what the lock says; one that is free beside a living supervisor is another one."""
    if attempt.ends_by is not None:
        return LockState.MISSING
    lock = lock_state(attempt.folder)
    handle = attempt.supervisor
    is_alive = handle.descriptor is not None and not handle.is_dead()
    if lock is not LockState.FREE or not is_alive or attempt.has_never_started:
        attempt.is_lock_doubtful = False
        return lock
    if attempt.is_lock_doubtful:
        return LockState.MISSING
    attempt.is_lock_doubtful = True  # or the supervisor lets go of it and is gone a moment later
    attempt.check_again(KILL_SECONDS)
    return LockState.HELD


def _ending_after_kill(attempt: Attempt, now: float) -> dict[str, object]:
    """Return what the supervisor would have written to `exit.json`."""
    stop = attempt.folder / supervisor.STOP
    stopped_at = modified_at(stop) if is_file(stop) else None
    outcome_at = modified_at(attempt.folder / supervisor.OUTCOME)
    return {
        "how": (How.LOST if stopped_at is None else How.STOPPED).value,
        "exit_code": None,
        "started_at": attempt.status.started_at or now,
        "ended_at": now,
        "oom": False,
        "finished_first": stopped_at is not None
        and outcome_at is not None
        and outcome_at < stopped_at,
    }


def _with_allocation(attempt: Attempt) -> AttemptStatus:
    """Return an attempt's status with what it holds: the same object until it changes."""
    if attempt.status.allocation is None:
        attempt.status = replace(attempt.status, allocation=attempt.allocation)
    return attempt.status
