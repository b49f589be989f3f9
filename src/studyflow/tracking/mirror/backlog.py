"""What a mirror has not sent yet, and which task is next. No threads: callers hold its lock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from studyflow.tracking.protocol import StudyCard, StudySummary
from studyflow.trial import MetricPoint
from studyflow.trial.record import TrialRecord

STUDY: Final = -1
"""Stands for the study itself among trial numbers."""


@dataclass(slots=True)
class TrialBacklog:
    """What is unsent of one trial."""

    record: TrialRecord
    """The trial's newest record."""
    opening: TrialRecord | None = None
    """The attempt whose run is to be opened."""
    lost: TrialRecord | None = None
    """The attempt of which the run is to say that it was lost."""
    points: list[MetricPoint] = field(default_factory=list)
    must_resend: bool = False
    """Whether points were dropped here and have to be read from the metrics file."""
    ending: TrialRecord | None = None
    """The finished record that the run is to be closed with."""
    is_refused: bool = False
    """Whether this process tries no more."""
    n_failures: int = 0
    """How often it failed while the tracker answered others."""
    successes_seen: int | None = None
    """Successes of the whole mirror when it last failed; `None` when it never did."""
    not_before: float = 0.0
    """When it may be tried again, on the mirror's clock."""

    def learn(self, record: TrialRecord) -> None:
        """Keep a record, unless it is older than the one that is known."""
        if not self.record.state.is_finished and record.attempt >= self.record.attempt:
            self.record = record

    def hurry(self) -> None:
        """Try again what was refused, and at once what only waits for its time."""
        self.is_refused = False
        if not self.n_failures:
            self.not_before = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether everything is sent."""
        return not (self.opening or self.lost or self.points or self.must_resend or self.ending)

    @property
    def is_waiting(self) -> bool:
        """Whether something is to be sent by this process."""
        return not (self.is_empty or self.is_refused)


@dataclass(frozen=True, slots=True)
class OpenStudy:
    """Show the study from its first moment, or by a new card."""

    card: StudyCard


@dataclass(frozen=True, slots=True)
class FindUnsent:
    """Find out which finished trials the tracker lacks."""

    records: Mapping[int, TrialRecord]


@dataclass(frozen=True, slots=True)
class SendTrial:
    """Bring one trial up to date."""

    trial: TrialBacklog


@dataclass(frozen=True, slots=True)
class CloseStudy:
    """Show the study's end."""

    summary: StudySummary


@dataclass(frozen=True, slots=True)
class Probe:
    """Find out whether the tracker answers again."""

    call: Callable[[], object]


Task = OpenStudy | FindUnsent | SendTrial | CloseStudy | Probe


def subject_of(task: Task) -> int | None:
    """Return the trial, or `STUDY`, that a task writes about; `None` when it only reads."""
    match task:
        case OpenStudy() | CloseStudy():
            return STUDY
        case SendTrial(trial):
            return trial.record.number
        case FindUnsent() | Probe():
            return None


class Backlog:
    """Everything that is unsent.

    Args:
        max_points: Points kept in memory for all trials together.
    """

    def __init__(self, max_points: int) -> None:
        self.card: StudyCard | None = None
        """What the study is to be shown by; `None` when it is."""
        self.summary: StudySummary | None = None
        """The end that is to be shown."""
        self.is_summary_refused = False
        self.unchecked: dict[int, TrialRecord] = {}
        """Finished trials of which the tracker may lack some."""
        self.probe: Callable[[], object] | None = None
        """A call that shows whether the tracker answers again."""
        self._max_points = max_points
        self._n_points = 0
        self._trials: OrderedDict[int, TrialBacklog] = OrderedDict()

    @property
    def n_points(self) -> int:
        """Points in memory."""
        return self._n_points

    @property
    def n_pending(self) -> int:
        """Trials with something unsent, and the same for the study's own run."""
        trials = sum(not trial.is_empty for trial in self._trials.values())
        others = (
            self.card is not None,
            bool(self.unchecked),
            self.summary is not None or self.is_summary_refused,
        )
        return trials + sum(others)

    @property
    def is_waiting(self) -> bool:
        """Whether something is to be sent by this process, now or later."""
        is_study_waiting = self.card or self.unchecked or self.summary
        return bool(is_study_waiting) or any(trial.is_waiting for trial in self._trials.values())

    @property
    def refused(self) -> tuple[int, ...]:
        """Trials that this process tries no more."""
        return tuple(sorted(n for n, trial in self._trials.items() if trial.is_refused))

    def get(self, number: int) -> TrialBacklog | None:
        """Return what is unsent of a trial; `None` when nothing is."""
        return self._trials.get(number)

    def of(self, record: TrialRecord) -> TrialBacklog:
        """Return what is unsent of a trial, with its newest record."""
        trial = self._trials.setdefault(record.number, TrialBacklog(record))
        trial.learn(record)
        return trial

    def add_points(
        self, trial: TrialBacklog, points: Sequence[MetricPoint], *, in_front: bool = False
    ) -> None:
        """Keep points of a trial. Beyond the limit, all of its points are read from its file later.

        Args:
            trial: The trial.
            points: Its points, by time.
            in_front: Whether they are older than those that are kept.
        """
        if self._n_points + len(points) > self._max_points:
            self._n_points -= len(trial.points)
            trial.points = []
            trial.must_resend = True
            return
        trial.points = [*points, *trial.points] if in_front else [*trial.points, *points]
        self._n_points += len(points)

    def take_points(self, trial: TrialBacklog) -> list[MetricPoint]:
        """Return a trial's points, which are no longer kept here."""
        points, trial.points = trial.points, []
        self._n_points -= len(points)
        return points

    def put_last(self, trial: TrialBacklog) -> None:
        """Have all other trials sent first."""
        self._trials.move_to_end(trial.record.number)

    def drop_if_empty(self, number: int) -> None:
        """Forget a trial of which everything is sent."""
        trial = self._trials.get(number)
        if trial is not None and trial.is_empty:
            del self._trials[number]

    def try_all_now(self) -> None:
        """End the pauses of all trials."""
        for trial in self._trials.values():
            trial.not_before = 0.0

    def seconds_until_due(self, now: float, busy: AbstractSet[int]) -> float | None:
        """Return seconds until there is a task, 0 or more; `None` when there is none.

        Args:
            now: The mirror's clock.
            busy: Trials, or `STUDY`, that must not be written about now.
        """
        if self._study_task(busy) is not None:
            return 0.0
        waits = [
            trial.not_before - now
            for number, trial in self._trials.items()
            if trial.is_waiting and number not in busy
        ]
        return max(min(waits), 0.0) if waits else None

    def next_task(self, now: float, busy: AbstractSet[int]) -> Task | None:
        """Return what to do next; `None` while `seconds_until_due` is not 0.

        Args:
            now: The mirror's clock.
            busy: Trials, or `STUDY`, that must not be written about now.
        """
        study_task = self._study_task(busy)
        if isinstance(study_task, OpenStudy | FindUnsent):
            return study_task
        for number, trial in self._trials.items():
            if trial.is_waiting and trial.not_before <= now and number not in busy:
                return SendTrial(trial)
        return study_task

    def _study_task(self, busy: AbstractSet[int]) -> Task | None:
        """Return the next task that is about no single trial."""
        is_free = STUDY not in busy
        if self.card is not None and is_free:
            return OpenStudy(self.card)
        if self.unchecked:
            return FindUnsent(dict(self.unchecked))
        if self.summary is not None and is_free:
            return CloseStudy(self.summary)
        return None if self.probe is None else Probe(self.probe)
