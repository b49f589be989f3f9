"""What one turn of the loop sees, as a value: `studyflow.tuner.reconcile` decides by it alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from studyflow.executors import AttemptId, AttemptState, AttemptStatus
from studyflow.study.pausing import Decision
from studyflow.trial.record import TrialRecord


def newest_attempt(record: TrialRecord) -> AttemptId:
    """Return the newest attempt of a trial; one that has none yet names attempt 0."""
    return AttemptId(record.number, record.attempt)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may run at once, and how much may be asked for."""

    max_parallel_trials: int
    """Of the whole study, wherever its trials run."""
    slots: int | None = None
    """How many attempts can run at this runner's site; `None` for no limit of its own."""
    room: int = 0
    """How many further trials the budget allows."""
    is_script_proven: bool = True
    """Whether the study's script is known to run; until then one attempt goes ahead alone."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the storage, the executor and this runner know at one moment.

    It holds the running trials, never those that are finished. Of those whose attempt rests there
    is only the number: see `studyflow.tuner.resting`.
    """

    site: str
    """This runner's own."""
    running: tuple[TrialRecord, ...]
    """The trials that the storage calls running, by number."""
    attempts: Mapping[AttemptId, AttemptStatus]
    """The attempts that the executor knows, as this turn's one poll found them."""
    limits: Limits
    now: float = 0.0
    """Seconds, by a clock that never goes back."""
    n_resting: int = 0
    """How many more trials run at this site, by attempts that have nothing new. They take slots."""

    held_elsewhere: frozenset[int] = frozenset()
    """Trials that another site holds, by its lease."""
    surplus: frozenset[int] = frozenset()
    """Trials that have not begun and find no room in the budget: nobody launches them."""
    abandoned: frozenset[int] = frozenset()
    """Those of them that the runner that asked for them will not withdraw any more."""
    opening: frozenset[int] = frozenset()
    """Trials whose attempt is begun and starts as soon as its run in MLflow is there."""
    retry_at: Mapping[int, float] = field(default_factory=dict)
    """By trial, when the pause before its next attempt is over."""
    launched: frozenset[AttemptId] = frozenset()
    """Attempts of running trials that this runner launched or adopted."""
    stopping: frozenset[AttemptId] = frozenset()
    """Attempts that were told to end."""
    choice: Decision | None = None
    """What the pause policy gives the next free slot to; `None` where nothing is paused."""
    has_use_for_paused: bool = True
    """Whether any paused trial may still be taken up, now or when others have come further."""
    left_behind: frozenset[AttemptId] = frozenset()
    """Ended attempts that the executor refuses to let go of."""

    handled: frozenset[AttemptId] = frozenset()
    """Attempts that this turn has dealt with: each once for each poll."""
    tried: frozenset[int] = frozenset()
    """Trials that this turn has launched or ended, or has tried to."""
    is_slice_over: bool = False
    """Whether this turn has launched for long enough: what is left waits for the next look."""
    is_refused: bool = False
    """Whether the executor has refused a launch in this turn."""

    is_blocked: bool = False
    """Whether no attempt of the study can start, whatever its parameters."""
    is_paused: bool = False
    """Whether a person has paused the study."""
    is_leaving: bool = False
    """Whether this runner is to leave when its running attempts have ended."""
    is_ending: bool = False
    """Whether no further trial is asked for: the budget is spent, or a stop rule holds."""
    is_cancelling: bool = False
    """Whether all that runs here is to be ended."""

    @property
    def waits_for_room(self) -> bool:
        """Whether an attempt found no room: further trials would only wait beside it."""
        return any(status.waits_for_room for status in self.attempts.values())

    @property
    def is_settled(self) -> bool:
        """Whether this turn has dealt with every attempt: what follows may start."""
        return self.handled.issuperset(self.attempts)

    @property
    def live(self) -> frozenset[AttemptId]:
        """The attempts that have not ended."""
        return frozenset(
            attempt
            for attempt, status in self.attempts.items()
            if status.state is not AttemptState.ENDED
        )

    def has_status(self, record: TrialRecord) -> bool:
        """Return whether the executor knows the attempt that counts for a trial."""
        return record.has_attempt and newest_attempt(record) in self.attempts

    def is_own(self, record: TrialRecord) -> bool:
        """Return whether a running trial is this runner's to end."""
        return newest_attempt(record) in self.attempts or record.number not in self.held_elsewhere

    @property
    def is_awaiting(self) -> bool:
        """Whether this runner has to wait for any trial before it ends."""
        return self.n_resting > 0 or bool(self.awaited)

    @property
    def awaited(self) -> frozenset[int]:
        """The trials that this runner has to wait for before it ends, beside those at rest."""
        if self.is_leaving:  # the next runner repeats those between two attempts
            return frozenset(attempt.number for attempt in self.launched)
        return frozenset(
            record.number
            for record in self.running
            if not record.is_paused
            and (not self.is_blocked or record.number not in self.held_elsewhere)
        )
