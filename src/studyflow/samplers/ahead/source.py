"""The runner's side: tells what happens in the study, and keeps the suggestions that are ready."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import compress, count
from operator import is_not
from statistics import median
from typing import Any, Final

from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from studyflow.samplers.ahead.documents import (
    Answer,
    Failed,
    Prepared,
    Setup,
    Update,
    as_sampler_sees,
    is_same_to_sampler,
)
from studyflow.samplers.ahead.policy import Demand, Plan, is_good_enough, plan
from studyflow.samplers.ahead.worker import StartWorker, Worker
from studyflow.samplers.strategy import Strategy

_log = logging.getLogger(__name__)

N_DURATIONS: Final = 31
"""Newest trials that say how long one takes."""

N_COSTS: Final = 5
"""Newest suggestions that say how long one takes."""

SHORT_TO_FULL: Final = 2.0
"""How many times longer a suggestion takes with a search that is not shortened, about."""

GRACE_SECONDS: Final = 60.0
"""How long beyond `ask_seconds` a suggestion is waited for: a process that starts on a busy machine
takes its time, and one that hangs must not end the study."""


class SuggestionsAhead:
    """Suggestions for the next trials of one study, made by a worker while trials run.

    Nothing of a suggestion is stored before a trial uses it. When the worker fails, that is logged
    once and suggestions are made in the runner's thread from then on, as without it.

    One thread uses it; answers may come in any.

    Args:
        start: Starts the worker, when the first suggestion is wanted.
        clock: Seconds from any start.
    """

    def __init__(
        self,
        start: StartWorker,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._setup: Setup | None = None
        self._space: Mapping[str, BaseDistribution] = {}
        self._start = start
        self._clock = clock
        self._worker: Worker | None = None
        self._changed = threading.Condition(threading.RLock())
        """Held for all that follows, as answers come in another thread."""
        self._failure: str | None = None
        self._ready: dict[int, Prepared] = {}
        self._costs: deque[float] = deque(maxlen=N_COSTS)
        """Seconds of the newest suggestions, as they would be with a search of full length."""
        self._waits_since: float | None = None
        """Since when the next trial waits for any answer; `None` while it does not."""
        # What the worker was told:
        self._given: Sequence[FrozenTrial] = ()
        self._seen: dict[int, FrozenTrial] = {}
        self._running: set[int] = set()
        self._used: dict[int, Mapping[str, Any]] = {}
        """By number, the parameters that trials have used and the storage has not shown yet."""
        self._serials: dict[int, int] = {}
        """The suggestion that the newest trial has used, by number."""
        self._durations: deque[float] = deque(maxlen=N_DURATIONS)
        self._n_news = 0
        self._told: tuple[int, int, Plan] | None = None
        self._wanted = Plan()
        self._next_number = 0
        self._n_slots = 0

    def follow(self, strategy: Strategy, ask_seconds: float) -> None:
        """Take in what the sampler suggests by; again whenever it is made anew.

        Args:
            strategy: What suggests.
            ask_seconds: Longest time for one suggestion.
        """
        self._setup = Setup(strategy, ask_seconds)
        self._space = strategy.search_space or {}

    def prepare(
        self,
        trials: Sequence[FrozenTrial],
        shown: Callable[[FrozenTrial], FrozenTrial],
        directions: Sequence[StudyDirection],
        *,
        n_free: int,
        room: int,
    ) -> None:
        """Tell what has happened, and what suggestions will be needed; returns at once.

        Args:
            trials: All trials by number, as the storage has them; a trial that has not changed is
                the same object each time.
            shown: Returns a trial as samplers are to see it.
            directions: One per objective.
            n_free: How many slots wait for a trial.
            room: How many trials may still be asked for; 0 prepares nothing.
        """
        if self._setup is None or self._failure is not None:
            return
        if self._worker is None and not (n_free and room):
            return
        updated = self._take_in(trials, shown)
        n_slots = n_free + len(self._running)
        with self._changed:
            demand = Demand(
                n_free=n_free,
                n_slots=n_slots,
                room=room,
                trial_seconds=median(self._durations) if self._durations else None,
                suggestion_seconds=median(self._costs) if self._costs else None,
            )
            self._wanted, self._n_slots = plan(demand), n_slots
            self._next_number = len(trials)
            self._ready = {n: r for n, r in self._ready.items() if n >= self._next_number}
            if not self._wanted.n_wanted:
                self._waits_since = None  # such as in a pause: nothing was to come
        told = (self._n_news, self._next_number, self._wanted)
        if not updated and told == self._told:
            return
        self._told = told
        if self._worker is None:
            try:
                self._worker = self._start(self._setup, self._take_answer)
            except OSError as error:  # such as no memory, or too many processes
                self._fail(f"no process could be started for them: {error}")
                return
        self._worker.send(Update(tuple(updated), tuple(directions), *told))

    def await_suggestion(self, seconds: float) -> bool:
        """Return whether the next trial need not wait for its suggestion.

        Either one is ready and good enough, or there is no worker that could make it.

        Args:
            seconds: How long to wait for it.
        """
        until = self._clock() + seconds
        with self._changed:
            while self._failure is None and self._worker is not None:
                if self._is_ready(self._next_number):
                    self._waits_since = None
                    return True
                now = self._clock()
                self._waits_since = now if self._waits_since is None else self._waits_since
                if now - self._waits_since > self._longest_seconds:
                    self._fail(f"no suggestion came within {now - self._waits_since:.0f} s")
                    break
                if now >= until:
                    return False
                self._changed.wait(until - now)
        return True

    def take(self, number: int) -> Prepared | None:
        """Return the suggestion of a trial that exists now; `None` if none is good enough."""
        with self._changed:
            if self._failure is not None or not self._is_ready(number):
                return None
            prepared = self._ready.pop(number)
            self._next_number = number + 1
            self._serials = {number: prepared.serial}
        self._used[number] = prepared.suggested.params
        return prepared

    @property
    def ready(self) -> Mapping[int, Prepared]:
        """The suggestions that are ready, by the number of the trial that each is for."""
        with self._changed:
            return dict(self._ready)

    def close(self) -> None:
        """End the worker, whatever it is doing."""
        if self._worker is not None:
            self._worker.close()

    @property
    def _longest_seconds(self) -> float:
        assert self._setup is not None, "a worker is at work"
        return self._setup.ask_seconds + GRACE_SECONDS

    def _is_ready(self, number: int) -> bool:
        prepared = self._ready.get(number)
        if prepared is None or prepared.after not in (None, self._serials.get(number - 1)):
            return False  # it stands aside for another point than the one that is tried
        n_missed = self._n_news - prepared.n_news
        return is_good_enough(n_missed, self._n_slots, takes_stale=self._wanted.takes_stale)

    def _take_answer(self, answer: Answer) -> None:
        """Keep a suggestion; called in the worker's thread."""
        with self._changed:
            self._waits_since = None
            if isinstance(answer, Failed):
                self._fail(answer.reason)
            else:
                longer = SHORT_TO_FULL if answer.is_search_short else 1.0
                self._costs.append(longer * answer.seconds)
                # Those after it were made for the one before.
                self._ready = {n: r for n, r in self._ready.items() if n < answer.number}
                if answer.number >= self._next_number:
                    self._ready[answer.number] = answer
            self._changed.notify_all()

    def _fail(self, reason: str) -> None:
        """Go on without the worker, and say so once."""
        if self._failure is None:
            self._failure = reason
            self._ready.clear()
            _log.warning("Suggestions are made in the runner's own thread from here on: %s", reason)
            self.close()

    # ---- what has happened --------------------------------------------------------------------

    def _take_in(
        self, trials: Sequence[FrozenTrial], shown: Callable[[FrozenTrial], FrozenTrial]
    ) -> list[FrozenTrial]:
        """Return the trials that have changed for a sampler since the last time."""
        changed = [*compress(count(), map(is_not, trials, self._given))]
        changed += range(len(self._given), len(trials))
        self._given = trials
        updated = []
        for number in changed:
            trial = as_sampler_sees(shown(trials[number]), self._space)
            known = self._seen.get(number)
            if known is not None and is_same_to_sampler(known, trial):
                continue
            self._seen[number] = trial
            updated.append(trial)
            if trial.state.is_finished():
                self._running.discard(number)
                self._n_news += 1
                if trial.state is not TrialState.FAIL and trial.duration is not None:
                    self._durations.append(trial.duration.total_seconds())
            elif trial.state is TrialState.RUNNING:
                self._running.add(number)
                if known is None and not self._has_used(trial):
                    self._n_news += 1
                    self._drop(trial)
                    self._serials.pop(number, None)
        return updated

    def _has_used(self, trial: FrozenTrial) -> bool:
        """Return whether a new trial is at a suggestion that was taken from here."""
        used = self._used.pop(trial.number, None)
        return used is not None and used.items() >= trial.params.items()

    def _drop(self, trial: FrozenTrial) -> None:
        """Forget the suggestions of a point that another runner has just begun to try."""
        with self._changed:
            self._ready = {
                number: ready
                for number, ready in self._ready.items()
                if not ready.suggested.params.items() >= trial.params.items()
            }
