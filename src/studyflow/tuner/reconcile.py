"""Decides what a turn of the loop does next, by what the storage and the executor say.

Pure. `next_actions` is the table "Why a restart is an ordinary turn" of docs/architecture.md. A
turn takes a snapshot, carries out the actions, and takes another one, until there are no actions
left. The order is part of the decision: what has ended is recorded before anything starts, so that
the stop rules and the sampler know all there is to know. Each suggestion is made from a snapshot of
its own, for the one before may have taken minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from studyflow.executors import AttemptId
from studyflow.study.pausing import Move
from studyflow.trial import Cause
from studyflow.trial.cost import Why
from studyflow.trial.record import TrialRecord
from studyflow.tuner.snapshot import Snapshot, newest_attempt

RESUMED_AT_ONCE: Final = 16
"""How many trials are resumed by one snapshot: a turn ends between two snapshots, and after a dead
runner there may be a thousand."""

CANCELLED: Final = "The study was cancelled."
REPLACED: Final = "A newer attempt of this trial counts."
DISAPPEARED: Final = "The attempt disappeared: its folder or Job was removed by someone else."


@dataclass(frozen=True, slots=True)
class Watch:
    """Take in what a running attempt reports, and adopt it if another runner launched it."""

    attempt: AttemptId
    may_stop: bool = True
    """Whether it is stopped if it has diverged, or if the pruner gives it up."""


@dataclass(frozen=True, slots=True)
class RecordEnd:
    """Judge an ended attempt, record what follows for its trial, and forget the attempt."""

    attempt: AttemptId


@dataclass(frozen=True, slots=True)
class Stop:
    """Tell an attempt to end."""

    attempt: AttemptId
    cause: Cause
    reason: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Let go of an ended attempt that no longer counts."""

    attempt: AttemptId


@dataclass(frozen=True, slots=True)
class RecordLoss:
    """Record the newest attempt of a trial as lost: the executor does not know it."""

    number: int
    message: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """End a trial that gets no further attempt; it costs no budget."""

    number: int


@dataclass(frozen=True, slots=True)
class EndPaused:
    """End a paused trial as pruned: it is not taken up any more."""

    number: int


@dataclass(frozen=True, slots=True)
class Launch:
    """Complete a running trial's parameters and launch an attempt of it."""

    attempt: AttemptId
    resumption: Why | None = None
    """Why it takes up a paused trial; `None` of any other."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask for a new trial and launch its first attempt."""


Action = Watch | RecordEnd | Stop | Forget | RecordLoss | Withdraw | EndPaused | Launch | Ask


def next_actions(snapshot: Snapshot) -> tuple[Action, ...]:
    """Return what to do now, in this order; empty when nothing is left to do in this turn."""
    if not snapshot.is_settled:
        return tuple(_settle(snapshot))
    if snapshot.is_cancelling:
        return tuple(_withdraw_cancelled(snapshot))
    if snapshot.is_blocked:
        return tuple(_withdraw_blocked(snapshot))
    if snapshot.is_paused or snapshot.is_leaving:
        return ()
    return (
        tuple(islice(_resume(snapshot), RESUMED_AT_ONCE))
        or tuple(_fill_slot(snapshot))
        or tuple(_end_paused(snapshot))
    )


def _settle(snapshot: Snapshot) -> Iterator[Action]:
    """Yield what each attempt needs that the executor knows."""
    counting = {newest_attempt(record) for record in snapshot.running if record.has_attempt}
    live = snapshot.live
    unhandled = sorted(a for a in snapshot.attempts if a not in snapshot.handled)
    if snapshot.is_cancelling:
        for attempt in unhandled:
            if attempt in live and attempt not in snapshot.stopping:
                yield Stop(attempt, Cause.CANCELLED, CANCELLED)
    for attempt in unhandled:
        has_ended = attempt not in live
        is_told = attempt in snapshot.stopping or snapshot.is_cancelling
        if attempt in counting:
            yield RecordEnd(attempt) if has_ended else Watch(attempt, may_stop=not is_told)
        elif has_ended and attempt not in snapshot.left_behind:
            yield Forget(attempt)
        elif not has_ended and not is_told:
            yield Stop(attempt, Cause.CANCELLED, REPLACED)


def _withdraw_cancelled(snapshot: Snapshot) -> Iterator[Action]:
    """Yield the end of this runner's trials that have no attempt: they get no other one.

    Paused ones stay paused: nothing of them runs, and the next run may take them up.

    The end of one that has ended is recorded as soon as what it logged is known.
    """
    for record in snapshot.running:
        is_known = snapshot.has_status(record) or record.number in snapshot.tried
        if snapshot.is_own(record) and not is_known and not record.is_paused:
            yield Withdraw(record.number)


def _withdraw_blocked(snapshot: Snapshot) -> Iterator[Action]:
    """Yield the end of this runner's trials that wait for an attempt."""
    if snapshot.is_refused:
        return  # the next turn does it: what was launched in this one is in no status yet
    for record in _without_attempt(snapshot):
        yield Withdraw(record.number)


def _resume(snapshot: Snapshot) -> Iterator[Action]:
    """Yield what trials without an attempt need: retries, and what a dead runner left."""
    slots = _Slots(snapshot)
    for record in _without_attempt(snapshot):
        if record.number in snapshot.surplus:
            if record.number in snapshot.abandoned:
                yield Withdraw(record.number)
        elif record.has_attempt and newest_attempt(record) in snapshot.launched:
            yield RecordLoss(record.number, DISAPPEARED)
        elif record.has_attempt and record.holder not in (None, snapshot.site):
            yield RecordLoss(
                record.number, f"Nothing more was heard of {record.holder}, where it ran."
            )
        elif (
            snapshot.is_refused
            or snapshot.is_slice_over
            or record.number in snapshot.opening
            or snapshot.now < snapshot.retry_at.get(record.number, 0.0)
        ):
            continue
        elif record.has_attempt:  # begun by a runner that died, perhaps before it submitted
            yield Launch(newest_attempt(record))
        elif slots.take():
            yield Launch(AttemptId(record.number, record.attempt + 1))


def _fill_slot(snapshot: Snapshot) -> Iterator[Action]:
    """Yield what the next free slot goes to: a new trial, or a paused one if its policy says so."""
    # Refused: a suggestion made now would know less than one made when there is room again.
    is_held_up = snapshot.is_refused or snapshot.is_slice_over or not may_ask_for_trials(snapshot)
    if is_held_up or not _Slots(snapshot).take():
        return
    chosen = _taken_up(snapshot)
    if chosen is not None:
        yield Launch(AttemptId(chosen.number, chosen.attempt + 1), _why(snapshot))
    elif snapshot.limits.room > 0 and _is_for_new_trial(snapshot):
        yield Ask()


def _taken_up(snapshot: Snapshot) -> TrialRecord | None:
    """Return the paused trial that the next free slot goes to; `None` for no such trial."""
    choice = snapshot.choice
    if choice is None or choice.move is not Move.RESUME:
        return None
    for record in snapshot.running:
        if record.number == choice.number and record.is_paused:
            is_tried = record.number in snapshot.tried or record.number in snapshot.held_elsewhere
            return None if is_tried else record
    return None


def _why(snapshot: Snapshot) -> Why | None:
    return None if snapshot.choice is None else snapshot.choice.why


def _is_for_new_trial(snapshot: Snapshot) -> bool:
    return snapshot.choice is None or snapshot.choice.move is Move.START


def _end_paused(snapshot: Snapshot) -> Iterator[Action]:
    """Yield the end of the paused trials, once nothing runs that might make one of use."""
    if snapshot.has_use_for_paused or snapshot.n_resting:
        return
    if any(not r.is_paused or r.number in snapshot.tried for r in snapshot.running):
        return  # that one may still finish, or be taken up in the next turn
    for record in snapshot.running:
        if record.number not in snapshot.held_elsewhere:
            yield EndPaused(record.number)


def may_ask_for_trials(snapshot: Snapshot) -> bool:
    """Return whether further trials are asked for, now or when a slot is free."""
    is_over = snapshot.is_ending or snapshot.is_cancelling or snapshot.is_blocked
    is_left = snapshot.is_paused or snapshot.is_leaving
    return not (is_over or is_left or snapshot.waits_for_room)


def n_slots_to_fill(snapshot: Snapshot) -> int:
    """Return how many slots wait for a trial that is still to be asked for.

    Whether this turn has launched for long enough does not matter: the next one goes on.
    """
    if not _is_for_new_trial(snapshot):
        return 0
    return max(min(_Slots(snapshot).n_free, snapshot.limits.room), 0)


def _without_attempt(snapshot: Snapshot) -> Iterator[TrialRecord]:
    """Yield the trials that this runner is to look after and whose attempt does not exist.

    Paused ones are none of them: theirs ended as it should.
    """
    for record in snapshot.running:
        if record.is_paused:
            continue
        is_known = snapshot.has_status(record) or record.number in snapshot.held_elsewhere
        if not is_known and record.number not in snapshot.tried:
            yield record


class _Slots:
    """Counts the attempts that may still begin."""

    def __init__(self, snapshot: Snapshot) -> None:
        limits = snapshot.limits
        begun = [record for record in snapshot.running if record.has_attempt]
        n_here = sum(record.holder in (None, snapshot.site) for record in begun)
        n_here += snapshot.n_resting
        free = [limits.max_parallel_trials - len(begun) - snapshot.n_resting]
        if limits.slots is not None:
            free.append(limits.slots - n_here)
        if not limits.is_script_proven:
            free.append(1 - n_here)
        self.n_free = min(free)
        """How many those are; less than 0 if too many have begun."""

    def take(self) -> bool:
        """Return whether another attempt may begin, and count it."""
        self.n_free -= 1
        return self.n_free >= 0
