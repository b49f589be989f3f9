"""Asks for new trials: enqueued points first, then what the sampler suggests.

Trial numbers decide who may run when several runners ask at once: a trial is inside the budget when
fewer than `n_trials` trials with lower numbers count or run. Both runners see the same numbers, so
they agree without talking, and the surplus trial is withdrawn before anything of it has started.

A runner that seems to be alone makes the next trial whole, by one write, on the condition that no
other was made since it looked. Then the trial is inside the budget, and so is its first attempt:
what runs elsewhere ran already.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from studyflow.errors import TrialTaken
from studyflow.spec import StudySpec
from studyflow.storage import TrialChange
from studyflow.study import storage_form as form
from studyflow.study.attempt_storage import AttemptStorage
from studyflow.study.index import TrialIndex
from studyflow.study.trial_writes import TrialWrites, first_attempt
from studyflow.study.verdict import Verdict
from studyflow.trial import Cause
from studyflow.trial.cost import Begin
from studyflow.trial.record import TrialRecord, TrialState

_log = logging.getLogger(__name__)

_REFUSED: Final = -1
"""In place of a trial's number: another trial was made meanwhile."""

_WITHDRAWN = Verdict(Cause.CANCELLED, TrialState.FAILED, "Withdrawn: another runner was first.")


class Ahead(Protocol):
    """Suggestions that are made while trials run: `studyflow.samplers.ahead` has one."""

    def prepare(
        self,
        trials: Sequence[FrozenTrial],
        shown: Callable[[FrozenTrial], FrozenTrial],
        directions: Sequence[StudyDirection],
        *,
        n_free: int,
        room: int,
    ) -> None:
        """Tell what has happened, and what suggestions will be needed; returns at once."""
        ...

    def await_suggestion(self, seconds: float) -> bool:
        """Return whether the next trial need not wait, at the latest after these seconds."""
        ...


class Suggestions:
    """Makes trials with all their parameters.

    Args:
        spec: The study file.
        optuna_study: The stored study, with its sampler.
        storage: Where it is.
        index: The trials that are known.
        writes: Claims and withdraws trials.
        renew_sampler: Makes the sampler anew for a trial's number; `None` to keep it.
        ahead: Has suggestions made while trials run; `None` for a sampler that has none.
    """

    def __init__(
        self,
        spec: StudySpec,
        optuna_study: optuna.Study,
        storage: AttemptStorage,
        index: TrialIndex,
        writes: TrialWrites,
        renew_sampler: Callable[[int], optuna.samplers.BaseSampler] | None,
        ahead: Ahead | None = None,
    ) -> None:
        self._spec = spec
        self._space = spec.space
        self._study = optuna_study
        self._storage = storage
        self._index = index
        self._writes = writes
        self._renew_sampler = renew_sampler
        self._ahead = ahead
        self._next_number = index.refresh().n_begun
        """Number of the trial that the sampler's stream of random numbers has come to."""

    def prepare(self, n_free: int, *, may_ask: bool) -> None:
        """Have suggestions made for the next trials; see `Study.prepare`."""
        if self._ahead is not None:
            index = self._index.current()
            self._ahead.prepare(
                index.frozen_trials,
                form.as_sampled,
                self._study.directions,
                n_free=n_free,
                room=index.room if may_ask else 0,
            )

    def await_suggestion(self, seconds: float) -> bool:
        """Return whether the next trial need not wait; see `Study.await_suggestion`."""
        if self._ahead is None or self._index.current().has_queue:
            return True
        return self._ahead.await_suggestion(seconds)

    def ask(self, holder: str | None, first: Begin | None = None) -> TrialRecord | None:
        """Return a new running trial with all its parameters; see `Study.ask`."""
        index = self._index.current()
        n_whole = self._n_whole(index)
        number = self._ask(index, holder, n_whole, first)
        is_shared = n_whole is None or number == _REFUSED
        if number == _REFUSED:
            # Another runner asked meanwhile. The next number is claimed first: it stays ours,
            # however many ask at once and however long a suggestion takes.
            index.refresh()
            self.prepare(1, may_ask=True)  # what is ready may not know of that one's trial
            number = self._ask(index, holder, None)
        if number is None:
            return None
        # Of one made whole it is known that no other was made, so nobody can have been first.
        asked = (index.refresh() if is_shared else index.current()).record(number)
        if number not in index.surplus:
            return asked
        self.withdraw(asked)
        return None

    def _ask(
        self,
        index: TrialIndex,
        holder: str | None,
        n_trials: int | None,
        first: Begin | None = None,
    ) -> int | None:
        """Return the number of a new trial; `None` without room, `_REFUSED` if it was not made."""
        if index.room == 0:
            return None
        self._follow_stream(index.n_begun)
        # Nobody can take the slot in between: others that run, run already, and no trial is made.
        is_begun = index.n_running < self._spec.budget.max_parallel_trials
        try:
            with self._storage.asking(
                holder,
                has_queue=index.has_queue,
                n_trials=n_trials,
                begin=first_attempt(first) if first is not None and is_begun else {},
            ) as asked:
                trial = self._study.ask()
                self._follow_stream(trial.number)
                self._next_number = trial.number + 1
                self._space.suggest(trial)
        except TrialTaken as error:
            _log.info("%s", error)
            return None
        return _REFUSED if asked.is_refused else trial.number

    def _n_whole(self, index: TrialIndex) -> int | None:
        """Return how many trials there are if the next one is made whole; `None` to claim it first.

        That is where enqueued points wait, and where others have asked since this runner did: they
        are likely to do so again before a suggestion is made.
        """
        is_alone = not index.has_queue and index.n_begun == self._next_number
        return index.n_begun if is_alone and self._storage.makes_whole_trials else None

    def withdraw(self, record: TrialRecord) -> None:
        """End a trial that the budget has no room for; nothing of it has started."""
        self._writes.tell(record.number, _WITHDRAWN, seen=record)

    def complete(self, number: int, holder: str | None, seen: TrialRecord | None) -> TrialRecord:
        """Return a running trial with all its parameters; see `Study.complete_suggestion`.

        Raises:
            TrialTaken: Another runner has gone on with the trial since.
        """
        index = self._index.refresh()
        if not self._space.problems(index.frozen(number).params):
            return index.record(number)
        claim = TrialChange({form.HOLDER: holder})
        if holder is not None and not self._writes.change(number, lambda _: claim, seen):
            raise TrialTaken(f"Another runner looks after trial {number} now.")
        frozen = index.refresh().frozen(number)
        with self._storage.fenced(frozen):
            self._space.suggest(optuna.trial.Trial(self._study, frozen._trial_id))
        return index.refresh().record(number)

    def enqueue(self) -> None:
        """Queue the points to try first that no trial stands for.

        A cancelled trial does not: its point was never evaluated.
        """
        known = [
            frozen.system_attrs.get(form.POINT, frozen.params)
            for frozen in self._index.refresh().frozen_trials
            if not form.is_cancelled(frozen)
        ]
        for given in self._spec.enqueue:
            point = self._space.on_grid(given)
            if not any(_is_same_point(point, self._space.on_grid(other)) for other in known):
                self._study.enqueue_trial(point)
                known.append(point)

    def _follow_stream(self, number: int) -> None:
        """Start the sampler's random numbers anew when another runner asked for trials between.

        Both runners began with the same seed: without this, each draws what the other has drawn.
        """
        if number != self._next_number and self._renew_sampler is not None:
            self._study.sampler = self._renew_sampler(number)
            self._next_number = number


def _is_same_point(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    # `True` equals 1 in Python, yet they are two choices; a float written as 1 comes back as 1.0.
    return a.keys() == b.keys() and all(
        isinstance(value, bool) is isinstance(b[name], bool) and value == b[name]
        for name, value in a.items()
    )
