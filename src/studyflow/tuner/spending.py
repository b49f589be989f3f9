"""Keeps a study within its budget of GPU-hours, money and time: what starts, and what is stopped.

All of it is decided by what the storage holds, so runners agree as they do about `n_trials`: a new
trial counts all that run with lower numbers, and so of two that are asked for at once the second
finds what the first is expected to cost already committed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from studyflow.executors import AttemptId
from studyflow.ledger.durations import Durations
from studyflow.ledger.limits import (
    Account,
    InFlight,
    account,
    expectation,
    limits_of,
    requested,
)
from studyflow.ledger.prices import Prices
from studyflow.reasons import Reason
from studyflow.study import Study, TrialIndex, Verdict, n_trials_left
from studyflow.trial import Cause
from studyflow.trial.cost import Begin
from studyflow.trial.record import TrialRecord, TrialState
from studyflow.tuner.metering import Meter
from studyflow.tuner.progress import Notes
from studyflow.tuner.reconcile import Stop
from studyflow.tuner.snapshot import newest_attempt

CHECKPOINT_PATIENCE: Final = 2.0
"""How long a stop waits for the next checkpoint, in the longest time between two of the attempt."""


class Spender:
    """Decides what the budget allows.

    Args:
        study: The study.
        meter: Knows what attempts hold and for how long.
        prices: What an hour costs.
        notes: Told what no longer fits.
        clock: Seconds, monotonic.
        wall_clock: Seconds since the epoch.
    """

    def __init__(
        self,
        study: Study,
        meter: Meter,
        prices: Prices,
        notes: Notes,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._study = study
        self._spec = study.spec
        self._meter = meter
        self._prices = prices
        self._notes = notes
        self._clock = clock
        self._wall_clock = wall_clock
        self._allocation = requested(study.spec)
        self._price = prices.of(self._allocation)
        self._learned: tuple[int, Durations] | None = None
        self._misfit: tuple[object, Reason] | None = None
        """What was spent when a suggested trial did not fit, and why."""
        self._checkpoints: dict[AttemptId, tuple[int, float, float]] = {}
        """By attempt that is to stop: checkpoints seen, when the last came, the longest pause."""
        self._reached: tuple[Reason | None] | None = None
        """Which limit is reached, as this turn has found; `None` before it has looked."""
        self._held: dict[int, tuple[TrialRecord, Durations, InFlight]] = {}
        """By trial, what this turn has found it to hold once it had looked at all attempts."""
        self._limit_since: float | None = None
        self._finish_at: float | None = None

    @property
    def is_metered(self) -> bool:
        """Whether the budget has limits beside trials and seconds of a run."""
        return self._spec.budget.is_metered

    def begin_turn(self) -> None:
        """Find out when the study is to be finished, as all its runners have it."""
        self._reached = None
        self._held.clear()
        if self._spec.budget.finish_by is not None:
            self._finish_at = self._study.finish_at(self._wall_clock())

    @property
    def ends_trials(self) -> bool:
        """Whether running trials are stopped once a limit is reached."""
        return self.is_metered and self._spec.budget.at_limit == "stop"

    def account(self, trials: TrialIndex) -> Account:
        """Return how the budget stands.

        Args:
            trials: The study's trials.
        """
        durations = self._durations(trials)
        running = (record for record in trials.running if not record.is_paused)
        return self._account(trials, durations, [self._in_flight(r, durations) for r in running])

    def _account_in_turn(self, trials: TrialIndex, besides: TrialRecord | None = None) -> Account:
        """Return the same by what each trial held when this turn came to it first.

        Args:
            trials: The study's trials.
            besides: A trial that is to start: it, and those asked for after it that have not begun,
                are left out.
        """
        durations = self._durations(trials)
        held = [self._held_by(r, durations) for r in trials.running if _counts(r, besides)]
        return self._account(trials, durations, held)

    def _account(
        self, trials: TrialIndex, durations: Durations, held: Sequence[InFlight]
    ) -> Account:
        return account(
            self._spec,
            recorded=trials.recorded,
            in_flight=held,
            durations=durations,
            allocation=self._allocation,
            price=self._price,
            n_left=n_trials_left(trials.n_trials, trials.n_used),
            now=self._wall_clock(),
            finish_at=self._finish_at,
        )

    def blocker(self, trials: TrialIndex) -> Reason | None:
        """Return why no further trial is asked for now; `None` if the budget has room for one.

        Asked once all attempts were looked at.
        """
        if not self.is_metered:
            return None
        if self._misfit is not None and self._misfit[0] == self._state(trials):
            return self._misfit[1]
        self._misfit = None
        found = self._account_in_turn(trials)
        return found.blocker(self._allocation, self._price, found.durations.typical_seconds)

    def metered_account(self, trials: TrialIndex) -> Account | None:
        """Return how the budget stands; `None` where trials and seconds alone bound the study."""
        return self.account(trials) if self.is_metered else None

    def room(self, trials: TrialIndex, why: Reason | None) -> int:
        """Return how many trials may still be asked for: none if nothing more fits.

        Args:
            trials: The study's trials.
            why: What `blocker` says of them.
        """
        room = trials.room
        if room > 0 and why is not None:
            self._notes.add(str(why) if trials.running else why.message, about=why.code)
            return 0
        return room

    def refusal(self, record: TrialRecord) -> Verdict | None:
        """Return how a trial ends that is to start and does not fit; `None` if it fits."""
        if not self.is_metered:
            return None
        trials = self._study.trials()  # what others have begun since the turn began counts
        found = self._account_in_turn(trials, besides=record)
        seconds = found.durations.remaining_seconds(record.params, _trained_seconds(record))
        why = found.blocker(self._allocation, self._price, seconds, is_next=False)
        if why is None:
            return None
        self._misfit = (self._state(trials), why)
        return Verdict.because(Cause.BUDGET, TrialState.FAILED, why)

    def may_fit_later(self, record: TrialRecord) -> bool:
        """Return whether something else runs, which may cost less than it was expected to."""
        return any(r.has_attempt and r.number != record.number for r in self._running())

    def begin(self, attempt: int) -> Begin:
        """Return what is known as an attempt begins, to be kept with it."""
        now = self._wall_clock()
        recorded = self._study.known_trials().recorded
        left = {
            kind.value: limit - recorded.amount(kind, self._price)
            for kind, limit in limits_of(self._spec).items()
        }
        return Begin(attempt, now, left)

    def stop(self, record: TrialRecord, n_checkpoints: int) -> Stop | None:
        """Return the stop of a running attempt once a limit is reached that says so.

        Attempts that have published checkpoints go on to their next one, but no longer than twice
        the longest time between two of them; what has none to come ends at once.

        Args:
            record: The trial.
            n_checkpoints: How many checkpoints the attempt has published so far.
        """
        attempt, now = newest_attempt(record), self._clock()
        seen = self._checkpoints.get(attempt)
        if seen is None or n_checkpoints > seen[0]:
            pause = 0.0 if seen is None else max(seen[2], now - seen[1])
            seen = self._checkpoints[attempt] = (n_checkpoints, now, pause)
        if self._reached is None:  # once a turn: each running attempt asks, and all are added up
            self._reached = (self.account(self._study.known_trials()).reached,)
        (why,) = self._reached
        if why is None:
            self._limit_since = None
            return None
        if self._limit_since is None:
            self._limit_since = now
        n, since, pause = seen
        is_new = n > 0 and since > self._limit_since
        is_awaited = n > 0 and now < self._limit_since + CHECKPOINT_PATIENCE * pause
        if is_awaited and not is_new:
            return None
        return Stop(attempt, Cause.BUDGET, f"Stopped: {why.message}")

    def forget(self, record: TrialRecord) -> None:
        """Forget the newest attempt of a trial: it has ended."""
        self._checkpoints.pop(newest_attempt(record), None)

    def keep_only(self, alive: Collection[AttemptId]) -> None:
        """Forget all attempts but these: the others have ended."""
        self._checkpoints = {a: seen for a, seen in self._checkpoints.items() if a in alive}

    def _running(self) -> tuple[TrialRecord, ...]:
        return self._study.known_trials().running

    def _durations(self, trials: TrialIndex) -> Durations:
        """Return what trials take, learned anew when another one has ended."""
        n = len(trials.samples)
        if self._learned is None or self._learned[0] != n:
            found = expectation(self._spec, trials.samples, self._allocation, self._price)
            self._learned = n, found
        return self._learned[1]

    def _held_by(self, record: TrialRecord, durations: Durations) -> InFlight:
        kept = self._held.get(record.number)
        if kept is None or kept[0] is not record or kept[1] is not durations:
            kept = record, durations, self._in_flight(record, durations)
            self._held[record.number] = kept
        return kept[2]

    def _in_flight(self, record: TrialRecord, durations: Durations) -> InFlight:
        elapsed, allocation = self._meter.running_seconds(record), self._meter.allocation(record)
        trained = elapsed + _trained_seconds(record)
        return InFlight(
            max(allocation.gpus, 1),
            self._prices.of(allocation),
            elapsed,
            durations.remaining_seconds(record.params, trained),
        )

    def _state(self, trials: TrialIndex) -> object:
        """Return what changes when anything ends, so that a trial that did not fit might."""
        return trials.recorded.unit_seconds, tuple(
            r.number for r in trials.running if r.has_attempt
        )


def _trained_seconds(record: TrialRecord) -> float:
    """Return for how long a trial that was paused has trained before, without what was lost."""
    if not record.pauses:
        return 0.0
    followed = {one.attempt for one in record.followed_attempts}
    return sum(c.seconds - c.lost_seconds for c in record.costs if c.attempt in followed)


def _counts(record: TrialRecord, besides: TrialRecord | None) -> bool:
    if record.is_paused:
        return False
    if besides is None:
        return True
    if record.number == besides.number:
        return False
    return record.has_attempt or record.number < besides.number
