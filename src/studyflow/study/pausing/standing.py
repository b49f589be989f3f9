"""What a pause policy looks at: every trial's curve and stage, the free slots, and times."""

from __future__ import annotations

import enum
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from studyflow.trial import ParamValue


class Stage(enum.StrEnum):
    """Where a trial stands, as far as a slot depends on it."""

    RUNNING = "running"
    """It has a slot, or waits for its next attempt: it was begun, and is not paused."""
    PAUSED = "paused"
    """It has no slot, and goes on only if a policy takes it up."""
    COMPLETE = "complete"
    """It ended with its result."""
    STOPPED = "stopped"
    """It ended without one: pruned, or failed."""


@dataclass(frozen=True, slots=True)
class TrialStanding:
    """One trial that has begun."""

    number: int
    stage: Stage
    params: Mapping[str, ParamValue] = field(default_factory=dict)
    curve: Mapping[int, float] = field(default_factory=dict)
    """First objective by step, as reported so far; may hold NaN and infinities."""
    cleared_step: int = -1
    """Up to which step it was already decided that the trial goes on: of a running one that was let
    go on or taken up again. -1 before any decision; of a paused trial it says nothing."""
    checkpoint_step: int | None = None
    """Step of the checkpoint that a paused trial goes on from; `None` while none is known."""
    can_resume: bool = True
    """Whether this runner can take up a paused trial now: another living site may hold it."""
    seconds: float = 0.0
    """What its ended attempts took, by the ledger."""
    step_seconds: float | None = None
    """Seconds that one of its steps took, by its ended attempts; `None` while unknown."""
    startup_seconds: tuple[float, ...] = ()
    """Seconds before the first report, of each ended attempt that reported."""

    @property
    def last_step(self) -> int:
        """The highest step reported; -1 without any."""
        return max(self.curve, default=-1)


@dataclass(frozen=True, slots=True)
class Standing:
    """A study at one moment, as its pause policy sees it."""

    trials: Sequence[TrialStanding]
    """Every trial that has begun and was not taken over, by number."""
    n_free_slots: int = 0
    """How many more attempts could run now."""
    may_start: bool = True
    """Whether the budget lets further trials start."""
    last_step: int | None = None
    """The step from which a trial is left to finish; `None` while that is not known."""

    def trial(self, number: int) -> TrialStanding:
        """Return one trial.

        Raises:
            KeyError: It has not begun.
        """
        for trial in self.trials:
            if trial.number == number:
                return trial
        raise KeyError(number)

    @property
    def startup_seconds(self) -> float | None:
        """Median of what an attempt takes until its first report: the price of a restart."""
        known = [seconds for trial in self.trials for seconds in trial.startup_seconds]
        return statistics.median(known) if known else None

    @property
    def step_seconds(self) -> float | None:
        """Median over trials of what a step takes; `None` before any attempt has ended."""
        known = [t.step_seconds for t in self.trials if t.step_seconds is not None]
        return statistics.median(known) if known else None
