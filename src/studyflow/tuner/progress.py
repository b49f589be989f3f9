"""What a runner tells of its study: notes, progress, and why it starts no further trial."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from studyflow.ledger.limits import Account, requested, spent_text
from studyflow.observers.observer import Observer, Progress
from studyflow.reasons import Code, Reason
from studyflow.study import (
    Study,
    TrialIndex,
    describe_finished,
    describe_time_limit,
    has_its_trials,
    is_counted,
    why_fruitless,
)
from studyflow.trial.record import TrialRecord, TrialState
from studyflow.tuner.outlook import Outlook, Standing

PROGRESS_SECONDS: Final = 2.0
"""Longest silence between two calls of `Observer.progressed`."""

MAX_NUMBERS_SHOWN: Final = 10
"""Most trials that a sentence names."""

MAX_NOTES_SHOWN: Final = 3
"""Most notes that `Progress.note` holds."""


@dataclass(frozen=True, slots=True)
class TunerResult:
    """How a run of the loop ended."""

    reason: Reason
    """Why no further trial is started."""
    is_finished: bool
    """Whether the study needs no further runner: its budget is spent or a stop rule holds."""
    is_failure: bool = False
    """Whether it ended because its trials cannot work."""
    has_left: bool = False
    """Whether it was told to leave, and another runner will go on: nothing has come to its end."""


class Notes:
    """What keeps the study from going on at full speed; a person is told of each note once.

    Args:
        observer: Hears each note that the turn before did not have.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._notes: dict[str, str] = {}
        """What this turn has found, by what it is about."""
        self._said: frozenset[str] = frozenset()
        """What the notes of the turn before were about."""
        self.blocked: Reason | None = None
        """Why no attempt of the study can start, whatever its parameters; `None` if one can."""

    def begin_turn(self) -> None:
        """Start with no notes."""
        self._said, self._notes = frozenset(self._notes), {}

    def add(self, note: str, about: str | None = None) -> None:
        """Note what this turn has found.

        Args:
            note: One or more sentences.
            about: What stays the same of a note whose numbers change from turn to turn, so that a
                person is told of it once; `None` for the note itself.
        """
        key = about or note
        if key not in self._notes:
            self._notes[key] = note
            if key not in self._said:
                self._observer.noted(note)

    def lose_right(self, reason: Reason) -> None:
        """Start no further trial once attempts cannot be ended; those that run go on."""
        if self.blocked is None:
            self.blocked = reason
            self.add(str(reason))

    @property
    def summary(self) -> str:
        """The first notes of this turn in one line; empty without any."""
        return " ".join(islice(self._notes.values(), MAX_NOTES_SHOWN))


class Stopwatch:
    """How long a runner has worked on a study, with and without the pauses that a person made."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started = self._observed_at = clock()
        self._paused_seconds = 0.0
        self.is_paused = False
        """Whether a person has paused the study, as last observed."""

    def observe(self, is_paused: bool) -> None:
        """Take in whether the study is paused now."""
        now = self._clock()
        if self.is_paused:
            self._paused_seconds += now - self._observed_at
        self._observed_at = now
        self.is_paused = is_paused

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since this runner began."""
        return self._clock() - self._started

    @property
    def worked_seconds(self) -> float:
        """The same without pauses: what counts towards `budget.timeout_seconds`."""
        return self.elapsed_seconds - self._paused_seconds


class ProgressView:
    """Where a study stands, and whether it has come to its end.

    Args:
        study: The study.
        observer: Told of progress.
        notes: What keeps the study from going on at full speed.
        clock: Seconds, monotonic.
        account: Says how the budget stands; `None` where trials and seconds alone bound the study.
    """

    def __init__(
        self,
        study: Study,
        observer: Observer,
        notes: Notes,
        clock: Callable[[], float],
        account: Callable[[TrialIndex], Account | None],
    ) -> None:
        self._study = study
        self._observer = observer
        self._notes = notes
        self._clock = clock
        self._account = account
        self._outlook = Outlook(study.spec)
        self._shown_at = -math.inf
        self._finished_before = frozenset(r.number for r in study.records() if is_counted(r))
        self.stopwatch = Stopwatch(clock)

    def show(self, *, force: bool) -> None:
        """Tell the observer where the study stands: if forced, or after a while of silence."""
        now = self._clock()
        if not force and now < self._shown_at + PROGRESS_SECONDS:
            return
        self._shown_at = now
        trials = self._study.known_trials()
        account, spec = self._account(trials), self._study.spec
        found = Standing(
            trials.n_trials,
            trials.n_counted,
            trials.n_counted - len(self._finished_before),
            self.stopwatch.elapsed_seconds,
            self.stopwatch.worked_seconds,
            account,
        )
        unit = "GPU-hours" if requested(spec).gpus else "slot-hours"
        self._observer.progressed(
            Progress(
                study=self._study.name,
                n_finished=trials.n_counted,
                n_trials=trials.n_trials,
                running=trials.running,
                best=trials.best,
                elapsed_seconds=found.elapsed_seconds,
                remaining_seconds=self._outlook.seconds_left(found),
                note=self._notes.summary,
                is_paused=self.stopwatch.is_paused,
                spent="" if account is None else spent_text(account, unit),
                n_failed=trials.n_counted_as(TrialState.FAILED),
                n_pruned=trials.n_counted_as(TrialState.PRUNED),
                share=self._outlook.share(found),
            )
        )

    def ending(
        self, trials: TrialIndex, barred_nodes: Collection[str], spent: Reason | None = None
    ) -> TunerResult | None:
        """Return why no further trial is to be asked for; `None` to go on.

        Args:
            trials: The study's trials.
            barred_nodes: Nodes where no further trial goes.
            spent: Why the budget has no room for another trial now.
        """
        if self._notes.blocked is not None:
            return TunerResult(self._notes.blocked, is_finished=False, is_failure=True)
        early = trials.stop_reason(self._finished_before, barred_nodes)
        if early is not None:
            return TunerResult(early.reason, is_finished=True, is_failure=early.is_failure)
        spec, limit = self._study.spec, self._study.spec.budget.timeout_seconds
        is_spent = has_its_trials(trials.n_trials, trials.n_counted)
        is_late = limit is not None and self.stopwatch.worked_seconds >= limit
        if not is_spent and spent is not None:
            return TunerResult(spent, is_finished=True, is_failure=not trials.best)
        if not is_spent and not is_late:
            return None
        if not trials.best:
            fruitless = why_fruitless(spec, trials.records, time_is_up=not is_spent)
            return TunerResult(fruitless, is_finished=is_spent, is_failure=True)
        if not is_spent:
            time_is_up = Reason(Code.TIME_SPENT, f"{describe_time_limit(spec)}.")
            return TunerResult(time_is_up, is_finished=False)
        broken = trials.stop_reason((), barred_nodes)
        if broken is not None and broken.is_failure:  # an earlier run ended so, and nothing is left
            return TunerResult(broken.reason, is_finished=True, is_failure=True)
        return TunerResult(describe_finished(spec, trials.records), is_finished=True)


@dataclass(frozen=True, slots=True)
class Leftover:
    """What a runner that leaves could not end yet."""

    numbers: tuple[int, ...]
    """Trials whose attempts run, or whose end is not recorded or not cleaned up."""
    reason: str
    pause_seconds: float = 0.0
    """How long to wait before it is tried again."""

    def __str__(self) -> str:
        noun = "trial" if len(self.numbers) == 1 else "trials"
        shown = ", ".join(map(str, self.numbers[:MAX_NUMBERS_SHOWN]))
        more = len(self.numbers) - MAX_NUMBERS_SHOWN
        and_more = f" and {more} more" if more > 0 else ""
        return f"Left to the next runner: {noun} {shown}{and_more}. {self.reason}"


def left_alone(running: Sequence[TrialRecord]) -> list[str]:
    """Return in sentences which trials a cancelled runner leaves as they are.

    Args:
        running: Those that others look after, and paused ones.
    """
    sentences = []
    n_paused = sum(record.is_paused for record in running)
    if n_paused:
        noun, them = ("trial", "it") if n_paused == 1 else ("trials", "them")
        sentences.append(
            f"Left paused: {n_paused} {noun}. The next run takes {them} up, or ends {them} as "
            "pruned."
        )
    others = [record for record in running if not record.is_paused]
    if others:
        holders = sorted({record.holder or "another runner" for record in others})
        sentences.append(f"Left alone: {len(others)} running trials of {enumerated(holders)}.")
    return sentences


def enumerated(names: Sequence[str]) -> str:
    """Return names as a sentence lists them."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
