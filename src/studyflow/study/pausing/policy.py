"""What a pause policy is asked, and what it answers."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

from studyflow.study.pausing.standing import Stage, Standing
from studyflow.trial.cost import Why

NO_REASON: Final = Why("")


class Move(enum.StrEnum):
    """What happens to a running trial, or with a free slot."""

    GO_ON = "go-on"
    """The running trial goes on."""
    PAUSE = "pause"
    """The running trial gives its slot away, as soon as it has published a checkpoint."""
    STOP = "stop"
    """The running trial ends for good, as pruned."""
    RESUME = "resume"
    """A paused trial takes the free slot."""
    START = "start"
    """A new trial takes the free slot."""
    WAIT = "wait"
    """The slot stays free. Once no trial has one, the paused trials end as pruned."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision of a policy, with its reason as data."""

    move: Move
    why: Why = NO_REASON
    number: int | None = None
    """The trial that it is about; `None` for a new one, or none."""


class PausePolicy(Protocol):
    """Decides which trials are paused and taken up again: a pure function of the standing.

    It remembers nothing: the runner that asks next may know only what is stored.
    """

    @property
    def stops_without_checkpoints(self) -> bool:
        """Whether a trial that is to be paused ends if trials publish no checkpoints.

        Otherwise the study's pruner decides.
        """

    def judge(self, standing: Standing, number: int) -> Decision:
        """Return whether a running trial that has reported goes on, pauses, or ends for good.

        Not asked once the trial has reported its last step, or has diverged.
        """

    def choose(self, standing: Standing) -> Decision:
        """Return what a free slot goes to: a paused trial, a new one, or nothing for now.

        Asked for one slot at a time. `START` while `Standing.may_start` is false leaves it free.
        """


class TakeUpAll:
    """Pauses nothing; takes up what an earlier study file's pruner has paused, the first first."""

    stops_without_checkpoints: ClassVar[bool] = False

    def judge(self, standing: Standing, number: int) -> Decision:  # noqa: ARG002
        """Let every trial go on."""
        return Decision(Move.GO_ON, number=number)

    def choose(self, standing: Standing) -> Decision:
        """Take up the paused trial of the lowest number before any new one starts."""
        for trial in standing.trials:
            if trial.stage is Stage.PAUSED and trial.can_resume:
                why = Why("The study file's pruner pauses no trials any more.")
                return Decision(Move.RESUME, why, trial.number)
        return Decision(Move.START if standing.may_start else Move.WAIT)
