"""What is known of a study at one moment, wherever it was learned. Nothing is asked here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from studyflow.executors.kubernetes.survey import Survey
from studyflow.reasons import Reason
from studyflow.settings import ExecutorName
from studyflow.spec import StudySpec
from studyflow.study import (
    is_counted,
    n_trials_left,
    n_trials_to_finish,
    shows_life,
    why_spent,
)
from studyflow.trial.record import TrialRecord, TrialState


@dataclass(frozen=True, slots=True)
class RunnerState:
    """The study's runner on this machine, as its lock file and the processes tell."""

    is_there: bool = False
    pid: int | None = None
    """Process that holds the lock, if it can be told."""
    is_suspended: bool = False
    """Whether that process was stopped, as by Ctrl-Z, and does nothing until it is continued."""
    standing_by: tuple[int, ...] = ()
    """Processes that wait to take over."""


@dataclass(frozen=True, slots=True)
class StorageState:
    """The study's storage."""

    url: str
    """Its URL without password."""
    absence: Reason | None = None
    """Why it could not be read; `None` when it was."""
    read_seconds: float = 0.0
    """How long one small read took."""
    is_file: bool = True
    """Whether it is on this machine, so that its runner is too."""


@dataclass(frozen=True, slots=True)
class TrackingState:
    """MLflow."""

    url: str
    """Its address without password; empty for the embedded database."""
    absence: Reason | None = None
    """Why it could not be asked; `None` when it was."""
    n_unsent: int | None = None
    """Finished trials that it does not have completely; `None` when nobody counted."""


@dataclass(frozen=True, slots=True)
class FlowRun:
    """The newest of the study's flow runs that Prefect knows."""

    name: str
    state: str
    """Prefect's name of the state, such as `Running`, `Late` or `AwaitingConcurrencySlot`."""
    kind: str
    """Prefect's type of the state, such as `RUNNING` or `SCHEDULED`."""
    message: str = ""
    since_seconds: float | None = None
    """How long it has been in this state."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known of a study at one moment. What nobody asked for, or nobody told, is `None`."""

    name: str
    now: float
    """Seconds since the epoch."""
    spec: StudySpec | None
    """`None` while the storage is away and no study file was named."""
    storage: StorageState
    called: str = ""
    """What the person who asks called it: a study file, or its name."""
    records: tuple[TrialRecord, ...] = ()
    """The trials by number; none while the storage is away."""
    is_paused: bool = False
    finish_at: float | None = None
    """When the study is to be finished, in seconds since the epoch; `None` for no such time."""
    runner: RunnerState = RunnerState()
    beats: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """How a runner last showed itself in the storage, by its site; this machine's own, which
    `runner` is about, is left out."""
    executor: ExecutorName = "local"
    slots: int | None = None
    """How many trials find GPUs on this machine at once; `None` where GPUs are no limit."""
    tracking: TrackingState | None = None
    cluster: Survey | None = None
    cluster_absence: Reason | None = None
    flow_run: FlowRun | None = None
    prefect_absence: Reason | None = None
    unseen: Mapping[str, str] = field(default_factory=dict)
    """What was not looked at, and why."""

    @property
    def counted(self) -> tuple[TrialRecord, ...]:
        """The finished trials that cost budget, in the order in which they ended."""
        counted = (record for record in self.records if is_counted(record))
        return tuple(sorted(counted, key=lambda r: (r.finished_at or 0.0, r.number)))

    @property
    def running(self) -> tuple[TrialRecord, ...]:
        """The trials that were asked for and not told."""
        return tuple(record for record in self.records if record.state is TrialState.RUNNING)

    @property
    def n_left(self) -> int | None:
        """How many trials of the budget are not finished; `None` where their number has no limit.

        Zero too once nothing more fits into the budget and no runner is at work.
        """
        if self.spec is None or self.why_spent is not None:
            return 0
        return n_trials_left(n_trials_to_finish(self.spec), len(self.counted))

    @property
    def why_spent(self) -> Reason | None:
        """Why no further trial fits into the budget's hours, money and time.

        `None` if one may, or while a runner is at work, which sees for itself.
        """
        if self.spec is None or self.is_driven:
            return None
        return why_spent(self.spec, self.records, self.finish_at, self.now)

    @property
    def is_driven(self) -> bool:
        """Whether a runner is known to be at work, here or elsewhere."""
        is_flow = self.flow_run is not None and self.flow_run.kind == "RUNNING"
        return self.runner.is_there or is_flow or shows_life(self.beats.values(), self.now)

    @property
    def run_command(self) -> str:
        """The command by which a person goes on with the study."""
        is_file = self.called.endswith((".yaml", ".yml"))
        return f"studyflow run {self.called if is_file else 'FILE'}"

    @property
    def quiet_seconds(self) -> float | None:
        """How long ago a runner last showed itself, or asked for a trial or told one."""
        times = [t for r in self.records for t in (r.started_at, r.finished_at) if t is not None]
        times += [beat["at"] for beat in self.beats.values()]
        return max(self.now - max(times), 0.0) if times else None

    @property
    def allowed(self) -> int:
        """How many trials may run at once."""
        limit = 1 if self.spec is None else self.spec.budget.max_parallel_trials
        return limit if self.slots is None else min(limit, self.slots)
