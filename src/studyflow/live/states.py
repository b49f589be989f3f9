"""How a study stands, in one word and a few numbers. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from studyflow.reports import StudyData, wording
from studyflow.study import has_its_trials, n_trials_to_finish
from studyflow.trial.record import TrialRecord, TrialState


class StudyState(enum.StrEnum):
    """What a study does."""

    RUNNING = "running"
    """A runner is at work."""
    PAUSED = "paused"
    """It starts no trial until it is resumed."""
    FINISHED = "finished"
    """It has all its trials, or nothing more fits into its budget."""
    STOPPED = "stopped"
    """No runner is at work, and trials are left to run."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A study at a moment."""

    data: StudyData
    is_driven: bool
    """Whether a runner is at work, here or elsewhere."""
    is_paused: bool
    is_spent: bool = False
    """Whether no further trial fits into its budget of hours, money and time."""
    runner_pid: int | None = None
    """The runner's process, where it is one of this machine."""

    @property
    def state(self) -> StudyState:
        """What the study does."""
        if has_its_trials(n_trials_to_finish(self.data.spec), len(self.data.counted)):
            return StudyState.RUNNING if self.running else StudyState.FINISHED
        if self.is_spent and not self.is_driven:
            return StudyState.FINISHED
        if self.is_paused:
            return StudyState.PAUSED
        return StudyState.RUNNING if self.is_driven else StudyState.STOPPED

    @property
    def running(self) -> tuple[TrialRecord, ...]:
        """The trials that run, by number; none where no runner looks after them."""
        if not self.is_driven:
            return ()
        return tuple(r for r in self.data.trials if r.state is TrialState.RUNNING)

    @property
    def counts(self) -> str:
        """How many of its trials are finished, and how many of them failed."""
        failed = self.data.states.get(TrialState.FAILED, 0)
        wanted, n = n_trials_to_finish(self.data.spec), len(self.data.counted)
        text = f"{n}" if wanted is None else f"{n} of {wanted}"
        return f"{text}, {failed} failed" if failed else text

    @property
    def best(self) -> str:
        """The best value with its trial, or the size of the Pareto front; a dash before."""
        if not self.data.best:
            return "–"
        if self.data.is_multi_objective:
            return f"{len(self.data.best)} on the Pareto front"
        best = self.data.best[0]
        metric = wording.one_line(self.data.metrics[0], 40)
        return f"{metric} {wording.number(self.data.value(best, 0))} (trial {best.number})"

    @property
    def spent(self) -> str:
        """The hours that its attempts took; a dash before any has ended."""
        statement = self.data.statement
        if not statement.total.unit_seconds:
            return "–"
        return f"{wording.number(statement.total.unit_hours, 3)} {statement.unit}"


def latest(record: TrialRecord) -> str:
    """Return the newest step and value that a trial reported; a dash before the first."""
    if not record.intermediate:
        return "–"
    step = max(record.intermediate)
    return f"step {step}: {wording.number(record.intermediate[step])}"
