"""How many of `retry.max_attempts` a trial has used up, by what its attempts came to."""

from __future__ import annotations

import pytest

from studyflow.study.attempt_count import AttemptCount, count_attempts
from studyflow.trial import Cause
from studyflow.trial.record import LostAttempt

Told = tuple[int | None, int | None, int | None]
"""Of one attempt: step of its newest checkpoint, first and last step reported."""

NOTHING: Told = (None, None, None)


def lost(number: int, told: Told, cause: Cause = Cause.PREEMPTED) -> LostAttempt:
    checkpoint, first, last = told
    return LostAttempt(number, cause, checkpoint_step=checkpoint, first_step=first, last_step=last)


def published(*steps: int | None) -> list[Told]:
    return [(step, None, None) for step in steps]


def reported(*steps: tuple[int, int] | None) -> list[Told]:
    return [NOTHING if step is None else (None, *step) for step in steps]


@pytest.mark.fault("F03")
@pytest.mark.parametrize(
    ("name", "attempts", "n", "since", "step"),
    [
        ("none yet", [], 0, 1, None),
        ("nothing is known", [NOTHING] * 4, 4, 1, None),
        ("the first is the first", published(5), 1, 1, None),
        ("each newer", published(5, 9, 14), 1, 3, 14),
        ("nothing since", published(5, 9, None, None), 3, 2, 9),
        ("the same again", published(5, 5, 5), 3, 1, None),
        ("an older one again", published(9, 5, 7), 3, 1, None),
        ("further than all before, not than the last", published(9, 5, 8, 10), 1, 4, 10),
        ("step 0 is a step", published(None, 0), 1, 2, 0),
        ("first of all later", published(None, None, 3), 1, 3, 3),
        ("went on and further", reported((0, 4), (5, 9)), 1, 2, 9),
        ("went on, and steps overlap", reported((0, 4), (3, 9)), 1, 2, 9),
        ("went on, and no further", reported((0, 4), (3, 4)), 2, 1, None),
        ("began anew and got further", reported((0, 4), (0, 9), (0, 12)), 3, 1, None),
        ("began anew at its first report", reported((10, 40), (10, 90)), 2, 1, None),
        ("further than all before", reported((0, 9), (3, 5), (6, 8)), 3, 1, None),
        ("a silent one between", reported((0, 4), None, (5, 9), None), 2, 3, 9),
        ("only silent ones before", reported(None, (5, 9)), 2, 1, None),
        # Who publishes is judged by that alone.
        ("published and reported", [(4, 0, 6), (None, 5, 9)], 2, 1, None),
        ("reported and then published", [(None, 0, 4), (3, 5, 9)], 1, 2, 3),
    ],
)
def test_attempts_count_from_the_last_that_brought_the_trial_further(
    name: str, attempts: list[Told], n: int, since: int, step: int | None
) -> None:
    tried = [lost(number, told) for number, told in enumerate(attempts, start=1)]
    assert count_attempts(tried) == AttemptCount(n, since, step), name


def test_attempts_that_found_no_room_do_not_count() -> None:
    tried = [
        lost(1, (5, None, None)),
        lost(2, NOTHING, Cause.UNSCHEDULABLE),
        lost(3, (9, None, None)),
        lost(4, NOTHING, Cause.UNSCHEDULABLE),
        lost(5, NOTHING),
        lost(6, NOTHING, Cause.UNSCHEDULABLE),
    ]
    assert count_attempts(tried[:2]).n == 1
    assert count_attempts(tried) == AttemptCount(2, 3, 9)
