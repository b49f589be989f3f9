"""Counts how many attempts of `retry.max_attempts` a trial has used up. Pure.

The limit is there for trials that come to nothing again and again. A long training on machines that
are taken away comes further each time, so an attempt that brought its trial further makes the count
begin anew. It has done so if it

- published a checkpoint (`sdk.checkpoint`) of a higher step than all attempts before it; or,
- where no attempt of the trial has published any, reported a higher step than all before it, and
  began above the lowest step that any of them reported. The second half says that it went on from
  what was there: a script that starts anew each time reaches a higher step now and then by luck,
  and keeps nothing of it.

What is not known, such as of attempts under studyflow 0.1.0, brings no trial further.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from studyflow.trial import Consequence
from studyflow.trial.record import LostAttempt, PausedAttempt


@dataclass(frozen=True, slots=True)
class AttemptCount:
    """What counts of a trial's attempts towards `retry.max_attempts`."""

    n: int
    """How many count, the newest included."""
    since: int = 1
    """Number of the attempt that is counted first: the last that brought the trial further."""
    step: int | None = None
    """The step that it brought the trial to; `None` when the first attempt is counted first."""


def count_attempts(attempts: Sequence[LostAttempt | PausedAttempt]) -> AttemptCount:
    """Return what counts of the attempts of a trial that were lost or paused.

    Attempts that found no room do not: nothing of them ran. Nor do those that were paused.

    Args:
        attempts: In order; the newest may be one that is just being judged.
    """
    since, step = 1, None
    for position, attempt in enumerate(attempts):
        reached = _brought_to(attempt, attempts[:position])
        if reached is not None and position:
            since, step = attempt.attempt, reached
    newest = attempts[-1].attempt if attempts else 0
    n_free = sum(_costs_nothing(attempt) for attempt in attempts if attempt.attempt >= since)
    return AttemptCount(newest - since + 1 - n_free, since, step)


def _brought_to(
    attempt: LostAttempt | PausedAttempt, before: Sequence[LostAttempt | PausedAttempt]
) -> int | None:
    """Return the step that an attempt brought its trial to; `None` if no further."""
    published = [other.checkpoint_step for other in before if other.checkpoint_step is not None]
    if published or attempt.checkpoint_step is not None:
        reached, highest = attempt.checkpoint_step, max(published, default=-1)
        return reached if reached is not None and reached > highest else None
    firsts = [other.first_step for other in before if other.first_step is not None]
    lasts = [other.last_step for other in before if other.last_step is not None]
    if not firsts or not lasts or attempt.first_step is None or attempt.last_step is None:
        return None
    has_gone_on = attempt.first_step > min(firsts)
    return attempt.last_step if has_gone_on and attempt.last_step > max(lasts) else None


def _costs_nothing(attempt: LostAttempt | PausedAttempt) -> bool:
    return attempt.cause.consequence in (Consequence.WAIT, Consequence.PAUSE)
