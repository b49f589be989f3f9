"""A storage that waits while the one behind it is away, and never does a write twice.

A connection that is lost during a commit leaves open whether the write happened. So before a write
is repeated, what is stored is read back: most of Optuna's writes set something to a value and may
simply be repeated, but making a trial or a study would make a second one, and telling a trial twice
is refused.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import uuid4

import optuna
from optuna.storages import BaseStorage
from optuna.storages._base import DEFAULT_STUDY_NAME_PREFIX
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from studyflow.errors import StorageBroken, StorageUnavailable
from studyflow.storage.changes import TrialChange, change_trial
from studyflow.storage.creations import make_trial
from studyflow.storage.forwarding import ForwardingStorage

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

FIRST_PAUSE_SECONDS: Final = 0.1
"""Pause after the first failure; it doubles from one to the next. A deadlock or a busy file is over
after one or two."""

LONGEST_PAUSE_SECONDS: Final = 15.0
"""Longest pause, so that a study goes on soon after its database is back."""

QUIET_SECONDS: Final = 2.0
"""How long the storage may be away before a person is told."""

_CLOCK_STEP: Final = timedelta(microseconds=1)


def _tell_nobody(message: str) -> None:
    pass


class PatientStorage(ForwardingStorage):
    """Repeats what failed because the storage is away, until it is back or patience is over.

    A thread that waits holds no lock, so threads wait side by side. They share one patience, which
    begins when the storage goes away and is whole again once it answers and no thread waits any
    more: a call that waits while others succeed keeps its own count.

    Args:
        storage: What may be away. It raises `StorageUnavailable` then.
        patience_seconds: How long to wait for it.
        on_wait: Told in a sentence that the storage is away and, later, that it is back; by one
            thread at a time, and never twice the same in a row.
        clock: Seconds, monotonic.
        sleep: Waits for seconds.
        jitter: Gives a number from 0 to 1 by which pauses differ: two runners that failed together
            do not try together.
    """

    def __init__(
        self,
        storage: BaseStorage,
        patience_seconds: float = 600.0,
        *,
        on_wait: Callable[[str], None] = _tell_nobody,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(storage)
        self._patience_seconds = patience_seconds
        self._on_wait = on_wait
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        # Guards all that follows, and is held while `on_wait` is told; no call waits with it.
        self._lock = threading.RLock()
        self._waiting: dict[object, float] = {}
        """The calls that wait now, and when each began to."""
        self._away_since: float | None = None
        """When the first call failed of those that nobody has seen succeed."""
        self._is_told = False
        """Whether somebody was told that the storage is away."""
        self._last_start = datetime.min

    def limit_patience(self, seconds: float) -> None:
        """Wait no longer than this from now on: the runner is told to end."""
        with self._lock:
            self._patience_seconds = min(self._patience_seconds, seconds)

    # ---- writes that must not be repeated blindly --------------------------------------------

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        # Optuna's own words for a study without a name, chosen here so that it can be found again.
        name = f"{DEFAULT_STUDY_NAME_PREFIX}{uuid4()}" if study_name is None else study_name
        known = {study._study_id for study in self.get_all_studies()}

        def find() -> int | None:
            """Return the new study of this name, be it from here or from a runner beside this."""
            for study in self._storage.get_all_studies():
                is_new = study._study_id not in known and study.study_name == name
                if is_new and list(study.directions) == list(directions):
                    return int(study._study_id)
            return None

        return self._write(
            "create_new_study", lambda: self._storage.create_new_study(directions, name), find
        )

    def delete_study(self, study_id: int) -> None:
        def is_gone() -> bool | None:
            ids = [study._study_id for study in self._storage.get_all_studies()]
            return None if study_id in ids else True

        self._write("delete_study", lambda: self._storage.delete_study(study_id), is_gone)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        template = template_trial or self._new_trial()
        # A point that is enqueued has no start by which it is known: only new ones can be it.
        n_before = len(self._trials(study_id)) if template.datetime_start is None else 0

        def find() -> int | None:
            for trial in self._storage.get_all_trials(study_id, deepcopy=False)[n_before:]:
                if _is_made_from(trial, template):
                    return trial._trial_id
            return None

        return self._write(
            "create_new_trial", lambda: self._storage.create_new_trial(study_id, template), find
        )

    def make_trial(self, study_id: int, n_trials: int, template: FrozenTrial) -> int | None:
        def find() -> int | None:
            trials = self._storage.get_all_trials(study_id, deepcopy=False)[n_trials:]
            return next((t._trial_id for t in trials if _is_made_from(t, template)), None)

        return self._write(
            "make_trial",
            lambda: make_trial(self._storage, study_id, n_trials, template),
            find,
        )

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        before = self.get_trial(trial_id).state

        def is_set() -> bool | None:
            """Return whether it was done, be it from here or from a runner beside this one."""
            trial = self._storage.get_trial(trial_id)
            is_told = values is None or list(values) == trial.values
            return True if before != state == trial.state and is_told else None

        return self._write(
            "set_trial_state_values",
            lambda: self._storage.set_trial_state_values(trial_id, state, values),
            is_set,
        )

    def change_trial(self, trial_id: int, expected: Mapping[str, Any], change: TrialChange) -> bool:
        # Repeated on the same condition: a runner that took the trial over meanwhile keeps it.
        def is_made() -> bool | None:
            return True if change.is_made(self._storage.get_trial(trial_id)) else None

        return self._write(
            "change_trial",
            lambda: change_trial(self._storage, trial_id, expected, change),
            is_made,
        )

    def _new_trial(self) -> FrozenTrial:
        """Return what a new trial is made from: nothing but a start that no other trial has."""
        with self._lock:
            # Threads may make trials at once; a clock with coarse steps gives both the same time.
            start = self._last_start = max(datetime.now(), self._last_start + _CLOCK_STEP)
        return FrozenTrial(
            number=-1,
            trial_id=-1,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=start,
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )

    def _trials(self, study_id: int) -> list[FrozenTrial]:
        return self.get_all_trials(study_id, deepcopy=False)

    # ---- waiting -----------------------------------------------------------------------------

    def _write(
        self, method: str, write: Callable[[], _T], read_back: Callable[[], _T | None]
    ) -> _T:
        """Write once.

        Args:
            method: Name for the log.
            write: Does it.
            read_back: Returns what `write` would have, if it was done after all, else `None`.
        """
        is_repetition = False

        def attempt() -> _T:
            nonlocal is_repetition
            if is_repetition and (done := read_back()) is not None:
                return done
            is_repetition = True
            return write()

        return self._pass(method, attempt)

    def _pass(self, method: str, call: Callable[[], _T]) -> _T:
        caller = object()
        pause = FIRST_PAUSE_SECONDS
        try:
            while True:
                try:
                    result = call()
                except (StorageUnavailable, optuna.exceptions.StorageInternalError) as error:
                    away = _as_passing(error)
                    _log.info("%s failed, and is tried again: %s", method, away)
                    self._wait(self._note_failure(caller, away), pause)
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                else:
                    self._note_answer(caller)
                    return result
        finally:
            with self._lock:
                self._waiting.pop(caller, None)

    def _note_failure(self, caller: object, error: StorageUnavailable) -> float:
        """Count a call that failed among those that wait; return how long it may still wait.

        Raises:
            StorageUnavailable: The storage has been away for too long.
        """
        now = self._clock()
        with self._lock:
            began = self._waiting.setdefault(caller, now)
            if self._away_since is None:
                self._away_since = now
            away_seconds = now - min(self._away_since, began)
            patience_seconds = self._patience_seconds
            if away_seconds >= patience_seconds:
                raise StorageUnavailable(
                    f"{error.message} It has been away for {_duration(away_seconds)}.",
                    hint="nothing that was recorded is lost, and running trials go on; run the "
                    "study again when it is back.",
                ) from error
            if away_seconds >= QUIET_SECONDS and not self._is_told:
                self._is_told = True
                self._on_wait(
                    f"{error.message} Running trials go on; waiting for it up to "
                    f"{_duration(patience_seconds)}."
                )
        return patience_seconds - away_seconds

    def _wait(self, longest_seconds: float, pause: float) -> None:
        """Wait before a call is repeated."""
        with ExitStack() as interrupted:  # by Ctrl-C or SIGTERM: nobody waits for what follows
            interrupted.callback(self.limit_patience, 0.0)
            self._sleep(min(pause * (0.5 + 0.5 * self._jitter()), longest_seconds))
            interrupted.pop_all()

    def _note_answer(self, caller: object) -> None:
        """Take note that the storage has answered a call; tell it when no other call waits."""
        if self._away_since is None:
            return
        now = self._clock()
        with self._lock:
            self._waiting.pop(caller, None)
            if self._waiting or self._away_since is None:
                return  # what others wait for does not work yet, or another call was first
            seconds, self._away_since = now - self._away_since, None
            if self._is_told:
                self._is_told = False
                self._on_wait(f"The study storage is back after {_duration(seconds)}.")

    def __getstate__(self) -> dict[str, Any]:
        # A terminal stays in its process, and so does what waits there.
        state = {**self.__dict__, "_on_wait": _tell_nobody, "_waiting": {}}
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()


def _is_made_from(trial: FrozenTrial, template: FrozenTrial) -> bool:
    """Return whether a stored trial is the one that was to be made from a template."""
    if template.datetime_start is None:
        return trial.params == template.params and (
            trial.system_attrs.items() >= template.system_attrs.items()
        )
    if trial.datetime_start is None:
        return False
    if trial.datetime_start.microsecond == 0:  # MySQL keeps whole seconds
        apart = abs(trial.datetime_start - template.datetime_start)
        return apart <= timedelta(seconds=1) and trial.params == template.params
    return trial.datetime_start == template.datetime_start


def _as_passing(
    error: StorageUnavailable | optuna.exceptions.StorageInternalError,
) -> StorageUnavailable:
    """Return what to wait for.

    Raises:
        StorageBroken: Waiting would not help.
        StorageInternalError: Neither.
    """
    if isinstance(error, StorageBroken):
        raise error
    if isinstance(error, StorageUnavailable):
        return error
    import sqlalchemy

    if isinstance(error.__cause__, sqlalchemy.exc.TimeoutError):
        return StorageUnavailable("All connections to the study storage are in use.")
    raise error


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
