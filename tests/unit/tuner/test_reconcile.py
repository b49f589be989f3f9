"""What a turn of the loop does next: the table of docs/architecture.md, row by row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from studyflow.executors import AttemptId, AttemptState, AttemptStatus
from studyflow.reasons import Reason
from studyflow.study.pausing import Decision, Move
from studyflow.trial import Cause
from studyflow.trial.cost import Why
from studyflow.trial.record import LostAttempt, PausedAttempt, TrialRecord, TrialState
from studyflow.tuner.reconcile import (
    CANCELLED,
    DISAPPEARED,
    REPLACED,
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
from studyflow.tuner.snapshot import Limits, Snapshot

ARCHITECTURE = Path(__file__).parents[3] / "docs" / "architecture.md"
FIRST, SECOND = AttemptId(0, 1), AttemptId(0, 2)


def trial(
    number: int = 0, attempt: int = 0, *, holder: str | None = "here", is_lost: bool = False
) -> TrialRecord:
    """Return a running trial; its newest attempt may be lost."""
    lost = (LostAttempt(attempt, Cause.EVICTED, ""),) if is_lost else ()
    return TrialRecord(
        number, TrialState.RUNNING, {}, attempt=attempt, holder=holder, lost_attempts=lost
    )


def paused(number: int = 0, attempt: int = 1) -> TrialRecord:
    """Return a running trial that waits without an attempt until it is taken up."""
    pauses = (PausedAttempt(attempt, "Paused at step 3."),)
    return replace(trial(number, attempt), pauses=pauses)


def snapshot(*running: TrialRecord, **fields: Any) -> Snapshot:
    """Return what a turn sees; the runner is at the site "here", and asks for no new trial."""
    found = fields.pop("attempts", {})
    attempts = {attempt: AttemptStatus(AttemptState(state)) for attempt, state in found.items()}
    limits = fields.pop("limits", Limits(max_parallel_trials=3))
    return Snapshot("here", running, attempts, limits, **fields)


def settled(seen: Snapshot) -> Snapshot:
    """Return what the same turn sees once it has dealt with every attempt."""
    return replace(seen, handled=frozenset(seen.attempts))


# ---- the table --------------------------------------------------------------------------------

WHY = Why("Promoted from step 3.", {"rank": 1})
LOST = RecordLoss(0, DISAPPEARED)

TABLE: list[tuple[str, str, Snapshot, tuple[Action, ...]]] = [
    (
        "running, attempt 1",
        "ended",
        snapshot(trial(attempt=1), attempts={FIRST: "ended"}),
        (RecordEnd(FIRST),),
    ),
    (
        "running, attempt 1",
        "running",
        snapshot(trial(attempt=1), attempts={FIRST: "running"}),
        (Watch(FIRST),),
    ),
    (
        "running, no attempt begun",
        "nothing",
        snapshot(trial()),
        (Launch(FIRST),),
    ),
    (
        "running, no attempt begun, beyond the budget",
        "nothing",
        snapshot(trial(), surplus=frozenset({0})),
        (),
    ),
    (
        "running, no attempt begun, beyond the budget",
        "nothing",
        snapshot(trial(), surplus=frozenset({0}), abandoned=frozenset({0})),
        (Withdraw(0),),
    ),
    (
        "running, attempt 1 begun",
        "nothing",
        snapshot(trial(attempt=1), launched=frozenset({FIRST})),
        (LOST,),
    ),
    (
        "running, attempt 1 begun",
        "nothing",
        snapshot(trial(attempt=1)),
        (Launch(FIRST),),
    ),
    (
        "running, held by a site that lives",
        "nothing",
        snapshot(trial(attempt=1, holder="there"), held_elsewhere=frozenset({0})),
        (),
    ),
    (
        "running, held by a site that is gone",
        "nothing",
        snapshot(trial(attempt=1, holder="there")),
        (RecordLoss(0, "Nothing more was heard of there, where it ran."),),
    ),
    (
        "running, attempt 1 lost",
        "nothing",
        snapshot(trial(attempt=1, is_lost=True)),
        (Launch(SECOND),),
    ),
    (
        "running, attempt 1 lost",
        "nothing",
        snapshot(trial(attempt=1, is_lost=True), now=4.0, retry_at={0: 5.0}),
        (),
    ),
    (
        "running, attempt 1 paused",
        "nothing",
        snapshot(paused(), choice=Decision(Move.RESUME, WHY, 0)),
        (Launch(SECOND, WHY),),
    ),
    (
        "running, attempt 1 paused",
        "nothing",
        snapshot(paused(), choice=Decision(Move.WAIT)),
        (),
    ),
    (
        "running, attempt 1 paused",
        "nothing",
        snapshot(paused(), has_use_for_paused=False),
        (EndPaused(0),),
    ),
    (
        "running, attempt 1 paused",
        "running",
        snapshot(paused(), attempts={FIRST: "running"}),
        (Stop(FIRST, Cause.CANCELLED, REPLACED),),
    ),
    (
        "running, attempt 1 paused",
        "ended",
        snapshot(paused(), attempts={FIRST: "ended"}),
        (Forget(FIRST),),
    ),
    (
        "finished",
        "anything",
        snapshot(attempts={FIRST: "running"}),
        (Stop(FIRST, Cause.CANCELLED, REPLACED),),
    ),
    (
        "finished",
        "anything",
        snapshot(attempts={FIRST: "ended"}),
        (Forget(FIRST),),
    ),
]


@pytest.mark.parametrize(
    ("seen", "actions"),
    [row[2:] for row in TABLE],
    ids=[f"{storage} | {executor}" for storage, executor, *_ in TABLE],
)
def test_a_restart_is_an_ordinary_turn(seen: Snapshot, actions: tuple[Action, ...]) -> None:
    assert next_actions(seen) == actions
    assert next_actions(settled(replace(seen, tried=frozenset({0})))) == (), "once in a turn"


def test_the_architecture_page_shows_the_same_rows() -> None:
    _, _, section = ARCHITECTURE.read_text().partition("## Why a restart is an ordinary turn")
    table = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    shown = [tuple(cell.strip() for cell in line.split("|")[1:3]) for line in table[2:]]
    plain = [(storage.replace("place", "site"), executor) for storage, executor in shown]
    assert plain == list(dict.fromkeys(row[:2] for row in TABLE))


# ---- order within a turn ----------------------------------------------------------------------


def test_what_has_ended_is_recorded_before_anything_starts() -> None:
    limits = Limits(max_parallel_trials=3, room=1)
    seen = snapshot(
        trial(0, attempt=1), trial(1), attempts={AttemptId(0, 1): "ended"}, limits=limits
    )

    assert next_actions(seen) == (RecordEnd(FIRST),)
    assert next_actions(settled(seen)) == (Launch(AttemptId(1, 1)),)


def test_running_trials_are_launched_before_new_ones_are_asked_for() -> None:
    limits = Limits(max_parallel_trials=2, room=5)
    assert next_actions(snapshot(trial(0), trial(1), limits=limits)) == (
        Launch(AttemptId(0, 1)),
        Launch(AttemptId(1, 1)),
    )
    assert next_actions(snapshot(trial(0, attempt=1), limits=limits, tried=frozenset({0}))) == (
        Ask(),
    )


def test_each_suggestion_is_made_from_a_look_of_its_own() -> None:
    assert next_actions(snapshot(limits=Limits(max_parallel_trials=5, room=5))) == (Ask(),)


# ---- limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limits",
    [
        Limits(max_parallel_trials=1, room=5),
        Limits(max_parallel_trials=5, room=5, slots=1),
        Limits(max_parallel_trials=5, room=5, is_script_proven=False),
        Limits(max_parallel_trials=5, room=0),
    ],
    ids=["max_parallel_trials", "slots", "script not proven", "budget"],
)
def test_no_trial_is_asked_for_beyond_a_limit(limits: Limits) -> None:
    assert next_actions(snapshot(trial(attempt=1), limits=limits, tried=frozenset({0}))) == ()


def test_trials_of_another_site_take_no_slot_here() -> None:
    there = trial(attempt=1, holder="there")
    held = frozenset({0})
    limits = Limits(max_parallel_trials=2, slots=1, room=1, is_script_proven=False)
    assert next_actions(snapshot(there, held_elsewhere=held, limits=limits)) == (Ask(),)


def test_an_attempt_that_a_dead_runner_began_needs_no_further_slot() -> None:
    seen = snapshot(trial(0, attempt=1), trial(1), limits=Limits(max_parallel_trials=1))
    assert next_actions(seen) == (Launch(FIRST),)


@pytest.mark.parametrize(
    "state",
    [
        {"is_paused": True},
        {"is_leaving": True},
        {"is_refused": True},
        {"is_cancelling": True, "tried": frozenset({0})},
        {"is_blocked": True, "tried": frozenset({0})},
    ],
    ids=lambda state: next(iter(state)),
)
def test_nothing_starts_while_the_study_stands_still(state: dict[str, Any]) -> None:
    limits = Limits(max_parallel_trials=3, room=5)
    assert next_actions(snapshot(trial(), limits=limits, **state)) == ()


def test_an_ending_study_repeats_lost_attempts_and_asks_for_no_further_trial() -> None:
    limits = Limits(max_parallel_trials=3, room=5)
    seen = snapshot(trial(attempt=1, is_lost=True), limits=limits, is_ending=True)
    assert next_actions(seen) == (Launch(SECOND),)
    assert next_actions(replace(seen, running=())) == ()


def test_while_an_attempt_finds_no_room_no_trial_is_asked_for() -> None:
    no_gpu = Reason(Cause.UNSCHEDULABLE, "No GPU.")
    waits = AttemptStatus(AttemptState.PENDING, reason=no_gpu, waits_for_room=True)
    limits = Limits(max_parallel_trials=3, room=5)
    seen = replace(snapshot(trial(attempt=1), limits=limits), attempts={FIRST: waits})
    assert next_actions(settled(seen)) == ()


# ---- paused trials ----------------------------------------------------------------------------


def test_a_paused_trial_takes_no_slot_and_a_new_one_starts_if_its_policy_says_so() -> None:
    limits = Limits(max_parallel_trials=1, room=5, slots=1)
    start = Decision(Move.START)
    assert next_actions(snapshot(paused(), limits=limits, choice=start)) == (Ask(),)
    assert next_actions(snapshot(paused(), limits=limits, choice=Decision(Move.WAIT))) == ()


def test_a_paused_trial_is_taken_up_without_room_for_new_ones_and_needs_a_slot() -> None:
    choice = Decision(Move.RESUME, WHY, 1)
    limits = Limits(max_parallel_trials=1, room=0)
    seen = snapshot(paused(1), limits=limits, choice=choice)
    assert next_actions(seen) == (Launch(AttemptId(1, 2), WHY),)
    busy = replace(seen, running=(trial(0, attempt=1), paused(1)), tried=frozenset({0}))
    assert next_actions(busy) == ()


def test_lost_attempts_are_repeated_before_a_paused_trial_is_taken_up() -> None:
    choice = Decision(Move.RESUME, WHY, 1)
    lost = trial(0, attempt=1, is_lost=True)
    assert next_actions(snapshot(lost, paused(1), choice=choice)) == (Launch(SECOND),)


def test_another_sites_paused_trial_is_left_alone_and_that_of_one_that_is_gone_is_not() -> None:
    there = replace(paused(), holder="there")
    choice = Decision(Move.RESUME, WHY, 0)
    held = snapshot(there, choice=choice, held_elsewhere=frozenset({0}))
    assert next_actions(held) == ()
    assert next_actions(replace(held, choice=None, has_use_for_paused=False)) == ()
    assert next_actions(snapshot(there, choice=choice)) == (Launch(SECOND, WHY),)


@pytest.mark.parametrize("other", [trial(1, attempt=1), trial(1, attempt=1, is_lost=True)])
def test_paused_trials_end_only_when_nothing_else_may_come_of_the_study(
    other: TrialRecord,
) -> None:
    seen = snapshot(paused(), other, has_use_for_paused=False, is_ending=True, retry_at={1: 5.0})
    seen = replace(seen, tried=frozenset({1}))
    assert next_actions(seen) == ()
    assert next_actions(replace(seen, running=(paused(), paused(2)))) == (
        EndPaused(0),
        EndPaused(2),
    )
    assert next_actions(replace(seen, running=(paused(),), n_resting=1)) == ()


@pytest.mark.parametrize("state", ["is_paused", "is_leaving", "is_cancelling", "is_blocked"])
def test_paused_trials_stay_paused_while_the_study_stands_still(state: str) -> None:
    seen = snapshot(
        paused(),
        choice=Decision(Move.RESUME, WHY, 0),
        has_use_for_paused=False,
        **{state: True},
    )
    assert next_actions(seen) == ()
    assert not seen.awaited


def test_no_paused_trial_is_taken_up_once_the_study_comes_to_its_end() -> None:
    seen = snapshot(paused(), choice=Decision(Move.RESUME, WHY, 0), is_ending=True)
    assert next_actions(seen) == ()


# ---- what was done already --------------------------------------------------------------------


def test_an_attempt_that_was_told_to_end_is_watched_and_not_told_again() -> None:
    told = frozenset({FIRST})
    current = snapshot(trial(attempt=1), attempts={FIRST: "running"}, stopping=told)
    assert next_actions(current) == (Watch(FIRST, may_stop=False),)
    assert next_actions(snapshot(attempts={FIRST: "running"}, stopping=told)) == ()


def test_an_attempt_that_the_executor_keeps_is_left_alone() -> None:
    kept = frozenset({FIRST})
    assert next_actions(snapshot(attempts={FIRST: "ended"}, left_behind=kept)) == ()


# ---- cancelling, and a study that cannot start --------------------------------------------------


def test_cancelling_stops_everything_first_and_then_looks() -> None:
    attempts = {AttemptId(0, 1): "running", AttemptId(1, 1): "ended", AttemptId(2, 1): "running"}
    seen = snapshot(trial(0, attempt=1), trial(1, attempt=1), attempts=attempts, is_cancelling=True)
    assert next_actions(seen) == (
        Stop(AttemptId(0, 1), Cause.CANCELLED, CANCELLED),
        Stop(AttemptId(2, 1), Cause.CANCELLED, CANCELLED),
        Watch(AttemptId(0, 1), may_stop=False),
        RecordEnd(AttemptId(1, 1)),
    )


def test_cancelling_ends_trials_without_a_live_attempt_and_leaves_those_of_others() -> None:
    seen = snapshot(
        trial(0),
        trial(1, attempt=1),
        trial(2, attempt=1, holder="there"),
        trial(3, attempt=1, is_lost=True),
        attempts={AttemptId(1, 1): "running"},
        held_elsewhere=frozenset({2}),
        is_cancelling=True,
    )
    assert next_actions(settled(seen)) == (Withdraw(0), Withdraw(3))


def test_a_blocked_study_withdraws_what_waits_in_the_turn_after_its_last_launch() -> None:
    seen = snapshot(
        trial(0, attempt=1, is_lost=True),
        trial(1, attempt=1),
        trial(2, holder="there"),
        attempts={AttemptId(1, 1): "running"},
        held_elsewhere=frozenset({2}),
        is_blocked=True,
    )
    assert next_actions(settled(seen)) == (Withdraw(0),)
    assert next_actions(settled(replace(seen, is_refused=True))) == ()
