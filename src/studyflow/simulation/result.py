"""What came out of a simulated study."""

from __future__ import annotations

from dataclasses import dataclass

from studyflow.ledger import Spending
from studyflow.spec import StudySpec
from studyflow.trial.record import TrialRecord, TrialState, best_records
from studyflow.tuner import TunerResult


@dataclass(frozen=True, slots=True)
class Told:
    """The end of one trial, as the study learned it."""

    seconds: float
    """Virtual time since the study began."""
    unit_seconds: float
    """GPU-seconds (or seconds of places) that all attempts had cost by then, running ones too."""
    record: TrialRecord

    @property
    def value(self) -> float | None:
        """The first objective of a complete, feasible trial; `None` of any other."""
        return self.record.values[0] if self.record.is_feasible and self.record.values else None


@dataclass(frozen=True, slots=True)
class Simulation:
    """A study that was simulated."""

    spec: StudySpec
    """As it was simulated."""
    outcome: TunerResult
    """Why no further trial was started."""
    seconds: float
    """Virtual time from the first suggestion to the last end."""
    records: tuple[TrialRecord, ...]
    """Its trials, by number."""
    told: tuple[Told, ...]
    """The same that have ended, as they did."""
    spending: Spending
    """What they cost, by the ledger."""
    n_steps: int
    """Steps that all attempts have reported, repeated ones too."""
    notes: tuple[str, ...] = ()
    """What the loop said to people, each once."""

    @property
    def unit_seconds(self) -> float:
        """GPU-seconds, or seconds of places without GPUs, of all attempts."""
        return self.spending.unit_seconds

    @property
    def best(self) -> TrialRecord | None:
        """The best complete trial by the first objective; `None` without one."""
        found = best_records(self.records, self.spec.directions[:1])
        return found[0] if found and len(self.spec.objectives) == 1 else None

    @property
    def best_value(self) -> float | None:
        """Its value."""
        return None if self.best is None or self.best.values is None else self.best.values[0]

    def n_in(self, state: TrialState) -> int:
        """Return how many trials are in a state."""
        return sum(record.state is state for record in self.records)

    def value_after(self, unit_seconds: float) -> float | None:
        """Return the best value that was known when so much had been spent; `None` before any.

        Args:
            unit_seconds: GPU-seconds, or seconds of places.
        """
        known = [t.value for t in self.told if t.unit_seconds <= unit_seconds * (1 + 1e-9)]
        values = [value for value in known if value is not None]
        if not values:
            return None
        return min(values) if self._is_minimized else max(values)

    def unit_seconds_until(self, value: float) -> float | None:
        """Return what was spent until a trial was as good as a value; `None` if none was."""
        for told in self.told:
            if told.value is not None and (
                told.value <= value if self._is_minimized else told.value >= value
            ):
                return told.unit_seconds
        return None

    @property
    def _is_minimized(self) -> bool:
        return self.spec.directions[0] == "minimize"
