"""Suggestions for the next trials of a study, each aware of the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from studyflow.samplers.ahead.documents import Prepared, Setup, Update
from studyflow.samplers.ahead.policy import Plan, next_to_make
from studyflow.samplers.candidates import SHORT_SEARCH
from studyflow.samplers.deadline import Deadline
from studyflow.samplers.history import DRAW_ATTR, encode_draw
from studyflow.samplers.isolation import isolated
from studyflow.samplers.memory import Memory
from studyflow.samplers.refitting import ALWAYS_UP_TO
from studyflow.samplers.strategy import OpenTrial


@dataclass(frozen=True, slots=True)
class _Made:
    """A suggestion as the others see it."""

    trial: FrozenTrial
    """A running trial that has its parameters."""
    n_news: int
    serial: int


class Chain:
    """Makes suggestions one after the other, the one that is needed most first.

    A suggestion takes those made before it for running trials, as if they had been used already.
    So one that is made anew, since it misses a result, takes with it all that were made after it:
    they would stand aside for a point that nobody tries.

    Args:
        setup: What the study's suggestions depend on besides its trials.
        clock: Seconds from any start.
    """

    def __init__(self, setup: Setup, clock: Callable[[], float] = time.monotonic) -> None:
        self._setup = setup
        self._clock = clock
        self._trials: dict[int, FrozenTrial] = {}
        self._made: dict[int, _Made] = {}
        self._directions: tuple[StudyDirection, ...] = ()
        self._n_news = self._n_made = 0
        self._next_number = 0
        self._wanted = Plan()
        self._memory = Memory()

    def update(self, update: Update) -> None:
        """Take in what has changed, and what is wanted now."""
        for trial in update.trials:
            made = self._made.get(trial.number)
            if made is not None and _draw(made.trial) != _draw(trial):
                self._drop(trial.number)  # and those after it, which stand aside for another point
            self._trials[trial.number] = trial
        self._n_news, self._wanted = update.n_news, update.wanted
        self._next_number, self._directions = update.next_number, update.directions
        wanted = range(self._next_number, self._next_number + max(self._wanted.n_wanted, 1))
        self._made = {number: made for number, made in self._made.items() if number in wanted}

    @property
    def next_number(self) -> int | None:
        """Number of the trial to make a suggestion for; `None` if there is nothing to do."""
        n_missed = {number: self._n_news - made.n_news for number, made in self._made.items()}
        return next_to_make(n_missed, self._next_number, self._wanted)

    def make(self, number: int) -> Prepared:
        """Return a new suggestion for a trial that does not exist yet."""
        setup, began = self._setup, self._clock()
        # Few results leave much to search for, and cost little.
        n_finished = sum(trial.state.is_finished() for trial in self._trials.values())
        is_short = self._wanted.is_search_short and n_finished > ALWAYS_UP_TO
        trials = [self._trials[known] for known in sorted(self._trials) if known < number]
        self._drop(number)
        before = self._made.get(number - 1)
        trials += [made.trial for _, made in sorted(self._made.items())]
        space = setup.strategy.space_of(trials)
        entropy = setup.strategy.entropy(number, "torch").generate_state(1)
        with isolated(int(entropy[0])):
            suggested = setup.strategy.suggest(
                OpenTrial(number, space, self._directions, trials),
                Deadline(setup.ask_seconds, self._clock),
                effort=SHORT_SEARCH if is_short else None,
                memory=self._memory,
            )
        running = FrozenTrial(
            number=number,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=None,
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs={},
            system_attrs=encode_draw(suggested.params, space),
            intermediate_values={},
            trial_id=-1,
        )
        self._n_made += 1
        self._made[number] = _Made(running, self._n_news, self._n_made)
        return Prepared(
            number=number,
            n_news=self._n_news,
            suggested=suggested,
            seconds=self._clock() - began,
            is_search_short=is_short,
            serial=self._n_made,
            after=before.serial if before else None,
        )

    def _drop(self, number: int) -> None:
        """Forget the suggestion for a trial, and those for later ones."""
        self._made = {other: made for other, made in self._made.items() if other < number}


def _draw(trial: FrozenTrial) -> dict[str, str]:
    return {k: v for k, v in trial.system_attrs.items() if k.startswith(DRAW_ATTR)}
