"""Every snapshot of three trials that a turn can come upon: what holds of its actions always does.

A trial is in one of the situations below; three of them, the limits and the state of the study make
a snapshot. A small model carries actions out, so that whole turns are tested, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import Any, Final

import pytest

from studyflow.executors import AttemptId, AttemptState, AttemptStatus
from studyflow.study.pausing import Decision, Move
from studyflow.trial import Cause
from studyflow.trial.record import LostAttempt, PausedAttempt, TrialRecord, TrialState
from studyflow.tuner.reconcile import (
    Action,
    Ask,
    EndPaused,
    Forget,
    Launch,
    RecordEnd,
    RecordLoss,
    Stop,
    Watch,
    Withdraw,
    next_actions,
)
from studyflow.tuner.snapshot import Limits, Snapshot, newest_attempt

PENDING, RUNNING, ENDED = AttemptState.PENDING, AttemptState.RUNNING, AttemptState.ENDED
HERE, THERE = "here", "there"


@dataclass(frozen=True, slots=True)
class Situation:
    """One trial, as storage, executor and this runner know it."""

    attempt: int | None = None
    """Newest attempt; `None` for a finished trial."""
    holder: str = HERE
    is_lost: bool = False
    is_paused: bool = False
    is_held_elsewhere: bool = False
    executor: AttemptState | None = None
    """What the executor says of attempt 1; `None` if it does not know it."""
    is_launched: bool = False
    is_stopping: bool = False
    is_surplus: bool = False
    is_abandoned: bool = False
    pauses: bool = False
    """Whether the pause before the next attempt is not over."""


SITUATIONS: Final = (
    *(Situation(executor=state) for state in (None, RUNNING, ENDED)),
    Situation(executor=RUNNING, is_stopping=True),
    # Asked for, here or by others.
    Situation(0),
    Situation(0, THERE, is_held_elsewhere=True),
    Situation(0, THERE),
    Situation(0, is_surplus=True),
    Situation(0, is_surplus=True, is_abandoned=True),
    # Begun here.
    Situation(1),
    Situation(1, is_launched=True),
    *(Situation(1, executor=state) for state in (PENDING, RUNNING, ENDED)),
    Situation(1, executor=RUNNING, is_launched=True),
    Situation(1, executor=RUNNING, is_launched=True, is_stopping=True),
    # Begun at another site.
    Situation(1, THERE, is_held_elsewhere=True),
    Situation(1, THERE),
    # Taken over, while attempt 1 still is here.
    Situation(2, THERE, is_held_elsewhere=True, executor=RUNNING),
    Situation(2, THERE, is_held_elsewhere=True, executor=ENDED),
    # Lost.
    Situation(1, is_lost=True),
    Situation(1, is_lost=True, pauses=True),
    Situation(1, is_lost=True, executor=ENDED),
    Situation(1, THERE, is_lost=True, is_held_elsewhere=True),
    # Paused.
    Situation(1, is_paused=True),
    Situation(1, THERE, is_paused=True, is_held_elsewhere=True),
)

LIMITS: Final = (
    Limits(max_parallel_trials=3, room=1),
    Limits(max_parallel_trials=2, room=1),
    Limits(max_parallel_trials=1, room=1),
    Limits(max_parallel_trials=3, room=1, slots=1),
    Limits(max_parallel_trials=3, room=1, is_script_proven=False),
)

STATES: Final[dict[str, dict[str, Any]]] = {
    "at work": {},
    "paused": {"is_paused": True},
    "leaving": {"is_leaving": True},
    "ending": {"is_ending": True},
    "taking up": {"choice": Decision(Move.RESUME, number=0)},
    "over": {"is_ending": True, "has_use_for_paused": False},
    "refused": {"is_refused": True},
    "blocked": {"is_blocked": True, "is_ending": True},
    "blocked by a refusal": {"is_blocked": True, "is_ending": True, "is_refused": True},
    "cancelling": {"is_cancelling": True},
}


def three_trials() -> Iterator[tuple[Situation, ...]]:
    return combinations_with_replacement(SITUATIONS, 3)


def snapshot(trials: tuple[Situation, ...], limits: Limits, **state: Any) -> Snapshot:
    running, attempts = [], {}
    for number, trial in enumerate(trials):
        if trial.attempt is not None:
            lost = (LostAttempt(trial.attempt, Cause.EVICTED, ""),) if trial.is_lost else ()
            pauses = (PausedAttempt(trial.attempt),) if trial.is_paused else ()
            running.append(
                TrialRecord(
                    number,
                    TrialState.RUNNING,
                    {},
                    attempt=trial.attempt,
                    holder=trial.holder,
                    lost_attempts=lost,
                    pauses=pauses,
                )
            )
        if trial.executor is not None:
            attempts[AttemptId(number, 1)] = AttemptStatus(trial.executor)

    def those(name: str) -> frozenset[AttemptId]:
        return frozenset(AttemptId(n, 1) for n, t in enumerate(trials) if getattr(t, name))

    return Snapshot(
        HERE,
        tuple(running),
        attempts,
        limits,
        held_elsewhere=frozenset(n for n, t in enumerate(trials) if t.is_held_elsewhere),
        surplus=frozenset(n for n, t in enumerate(trials) if t.is_surplus),
        abandoned=frozenset(n for n, t in enumerate(trials) if t.is_abandoned),
        retry_at={n: 1.0 for n, t in enumerate(trials) if t.pauses},
        launched=those("is_launched"),
        stopping=those("is_stopping"),
        **state,
    )


def n_begun(seen: Snapshot) -> int:
    return sum(record.has_attempt for record in seen.running)


def n_here(seen: Snapshot) -> int:
    return sum(record.has_attempt and record.holder in (None, HERE) for record in seen.running)


def snapshots(state: str) -> Iterator[Snapshot]:
    """Yield every snapshot in which no more attempts have begun than may run at once."""
    for trials in three_trials():
        for limits in LIMITS:
            seen = snapshot(trials, limits, **STATES[state])
            if n_begun(seen) <= limits.max_parallel_trials:
                yield seen


# ---- a model that carries actions out -----------------------------------------------------------


def after(seen: Snapshot, actions: tuple[Action, ...]) -> Snapshot:
    """Return what the same turn sees after its actions, if all of them succeed."""
    running = {record.number: record for record in seen.running}
    launched, stopping, tried = set(seen.launched), set(seen.stopping), set(seen.tried)
    room = seen.limits.room
    for action in actions:
        match action:
            case Stop(attempt):
                stopping.add(attempt)
            case Watch(attempt):
                launched.add(attempt)
            case RecordEnd(attempt):
                del running[attempt.number]
            case RecordLoss(number):
                running[number] = _lost(running[number])
                tried.add(number)
            case Withdraw(number) | EndPaused(number):
                del running[number]
                tried.add(number)
            case Launch(attempt):
                running[attempt.number] = replace(
                    running[attempt.number], attempt=attempt.attempt, holder=HERE
                )
                launched.add(attempt)
                tried.add(attempt.number)
            case Ask():
                number = max([2, *running, *tried]) + 1
                running[number] = TrialRecord(number, TrialState.RUNNING, {}, attempt=1)
                launched.add(AttemptId(number, 1))
                tried.add(number)
                room -= 1
    return replace(
        seen,
        running=tuple(running[number] for number in sorted(running)),
        limits=replace(seen.limits, room=room),
        launched=frozenset(launched),
        stopping=frozenset(stopping),
        handled=frozenset(seen.attempts),
        tried=frozenset(tried),
    )


def _lost(record: TrialRecord) -> TrialRecord:
    lost = LostAttempt(record.attempt, Cause.LOST, "")
    return replace(record, lost_attempts=(*record.lost_attempts, lost))


def whole_turn(seen: Snapshot) -> tuple[tuple[Action, ...], Snapshot]:
    """Return all actions of a turn, and what is there after them, which leads to no more."""
    done: list[Action] = []
    for _ in range(10):
        actions = next_actions(seen)
        if not actions and seen.is_settled:
            return tuple(done), seen
        done += actions
        seen = after(seen, actions)
    raise AssertionError("the turn comes to no end")


def next_turn(seen: Snapshot, done: tuple[Action, ...]) -> Snapshot:
    """Return what the next turn sees: stopped attempts have ended, launched ones run."""
    gone = {action.attempt for action in done if isinstance(action, Forget | RecordEnd)}
    attempts = {
        attempt: AttemptStatus(ENDED) if attempt in seen.stopping else status
        for attempt, status in seen.attempts.items()
        if attempt not in gone
    }
    for record in seen.running:
        attempt = newest_attempt(record)
        if record.has_attempt and attempt in seen.launched:
            attempts.setdefault(attempt, AttemptStatus(RUNNING))
    return replace(
        seen,
        attempts=attempts,
        now=seen.now + 2.0,
        handled=frozenset(),
        tried=frozenset(),
        is_refused=False,
    )


# ---- what always holds of a turn ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn from its first look to its last."""

    seen: Snapshot
    first: tuple[Action, ...]
    """What the first look led to."""
    done: tuple[Action, ...]
    seen_then: Snapshot


def no_more_attempts_begin_than_may_run_at_once(turn: Turn) -> None:
    limits = turn.seen.limits
    assert n_begun(turn.seen_then) <= limits.max_parallel_trials
    before, here = n_here(turn.seen), n_here(turn.seen_then)
    assert limits.slots is None or here <= max(limits.slots, before)
    assert limits.is_script_proven or here <= max(1, before)


def each_trial_is_submitted_recorded_as_lost_or_withdrawn_once(turn: Turn) -> None:
    about_trials = Counter(
        action.attempt.number if isinstance(action, Launch) else action.number
        for action in turn.done
        if isinstance(action, Launch | RecordLoss | Withdraw | EndPaused)
    )
    assert max(about_trials.values(), default=0) <= 1
    assert turn.done.count(Ask()) <= turn.seen.limits.room
    assert len(set(turn.done)) == len(turn.done)


def a_trial_held_elsewhere_is_left_alone(turn: Turn) -> None:
    for action in turn.done:
        match action:
            case (
                RecordLoss(number)
                | Withdraw(number)
                | EndPaused(number)
                | Launch(AttemptId(number))
            ):
                assert number not in turn.seen.held_elsewhere
            case RecordEnd(attempt) | Watch(attempt):
                assert attempt.number not in turn.seen.held_elsewhere


def a_trial_beyond_the_budget_is_never_launched(turn: Turn) -> None:
    for action in turn.done:
        if isinstance(action, Launch):
            assert action.attempt.number not in turn.seen.surplus
        if isinstance(action, Withdraw) and action.number in turn.seen.surplus:
            is_over = turn.seen.is_cancelling or turn.seen.is_blocked
            assert is_over or action.number in turn.seen.abandoned


def a_paused_trial_is_taken_up_if_its_policy_says_so_and_ends_alone(turn: Turn) -> None:
    paused = {record.number for record in turn.seen.running if record.is_paused}
    choice = turn.seen.choice
    for action in turn.done:
        if isinstance(action, Launch) and action.attempt.number in paused:
            assert choice is not None
            assert (choice.move, choice.number) == (Move.RESUME, action.attempt.number)
        if isinstance(action, EndPaused):
            assert action.number in paused
            assert n_begun(turn.seen_then) == 0
        assert not isinstance(action, Withdraw | RecordLoss) or action.number not in paused


def what_no_longer_counts_is_stopped_once_and_forgotten_when_it_has_ended(turn: Turn) -> None:
    counting = {newest_attempt(r) for r in turn.seen.running if r.has_attempt}
    for attempt, status in turn.seen.attempts.items():
        about = [type(a) for a in turn.done if getattr(a, "attempt", None) == attempt]
        if attempt not in counting and status.state is ENDED:
            assert about == [Forget]
        elif attempt not in counting:
            assert about == ([] if attempt in turn.seen.stopping else [Stop])


def nothing_is_launched_while_the_study_stands_still(turn: Turn) -> None:
    seen = turn.seen
    is_still = seen.is_paused or seen.is_leaving or seen.is_refused or seen.is_cancelling
    if is_still or seen.is_blocked:
        assert not any(isinstance(action, Launch | Ask) for action in turn.done)


def nothing_starts_before_every_attempt_was_looked_at(turn: Turn) -> None:
    if turn.seen.attempts:
        assert all(isinstance(a, Watch | RecordEnd | Stop | Forget) for a in turn.first)


def the_same_snapshot_leads_to_the_same_actions(turn: Turn) -> None:
    assert turn.done[: len(turn.first)] == turn.first


@pytest.mark.parametrize(
    "state",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "at work")) for name in STATES],
)
def test_what_always_holds_of_a_turn(state: str) -> None:
    for seen in snapshots(state):
        turn = Turn(seen, next_actions(seen), *whole_turn(seen))
        try:
            no_more_attempts_begin_than_may_run_at_once(turn)
            each_trial_is_submitted_recorded_as_lost_or_withdrawn_once(turn)
            a_trial_held_elsewhere_is_left_alone(turn)
            a_trial_beyond_the_budget_is_never_launched(turn)
            a_paused_trial_is_taken_up_if_its_policy_says_so_and_ends_alone(turn)
            what_no_longer_counts_is_stopped_once_and_forgotten_when_it_has_ended(turn)
            nothing_is_launched_while_the_study_stands_still(turn)
            nothing_starts_before_every_attempt_was_looked_at(turn)
            the_same_snapshot_leads_to_the_same_actions(turn)
        except AssertionError as error:
            error.add_note(str(seen))
            raise


# ---- what some turns come to --------------------------------------------------------------------


def test_every_trial_of_this_site_runs_or_waits_for_a_slot_after_some_turns() -> None:
    for seen in snapshots("at work"):
        for _ in range(4):
            done, seen_then = whole_turn(seen)
            seen = next_turn(seen_then, done)
        waits = [r for r in seen.running if not seen.has_status(r) and not r.is_paused]
        left_alone = seen.held_elsewhere | (seen.surplus - seen.abandoned)
        own = [r for r in waits if r.number not in left_alone]
        begun = [r for r in seen.running if r.has_attempt]
        limits = seen.limits
        is_full = (
            len(begun) >= limits.max_parallel_trials
            or (limits.slots is not None and n_here(seen) >= limits.slots)
            or (not limits.is_script_proven and n_here(seen) > 0)
        )
        assert not own or is_full, seen


@pytest.mark.parametrize("state", ["cancelling", pytest.param("blocked", marks=pytest.mark.slow)])
def test_nothing_of_this_site_is_left_after_some_turns(state: str) -> None:
    for seen in snapshots(state):
        for _ in range(4):
            done, seen_then = whole_turn(seen)
            seen = next_turn(seen_then, done)
        left_alone = {r.number for r in seen.running if r.is_paused} | seen.held_elsewhere
        own = [r for r in seen.running if r.number not in left_alone]
        if state == "cancelling":
            assert not own, seen
            assert not seen.attempts, seen
        else:  # what runs goes on to its end
            assert all(seen.has_status(r) for r in own), seen
