"""Carries out what a turn of the loop has decided."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from studyflow.executors import AttemptId, AttemptState, AttemptStatus, Executor
from studyflow.observers.observer import Observer
from studyflow.spec import StudySpec
from studyflow.study import Study, TrialIndex
from studyflow.trial.record import TrialRecord
from studyflow.tuner.attempts import Attempts
from studyflow.tuner.first_failures import FirstFailures
from studyflow.tuner.launching import Launcher
from studyflow.tuner.metering import Meter
from studyflow.tuner.mirror import TrialMirror
from studyflow.tuner.nodes import Nodes
from studyflow.tuner.other_runners import OtherRunners
from studyflow.tuner.pausing import Pausing
from studyflow.tuner.progress import Notes, TunerResult
from studyflow.tuner.reconcile import (
    Action,
    Ask,
    EndPaused,
    Forget,
    Launch,
    RecordEnd,
    RecordLoss,
    Stop,
    Watch,
    Withdraw,
)
from studyflow.tuner.recording import Recorder
from studyflow.tuner.reports import Reports
from studyflow.tuner.resting import Resting
from studyflow.tuner.settings import TunerSettings
from studyflow.tuner.snapshot import Snapshot, newest_attempt
from studyflow.tuner.spending import Spender

TURN_SECONDS: Final = 0.7
"""How long one turn goes on. With a thousand ends to record, or a thousand free slots, pauses,
stops and what has ended since are looked at once a second all the same: the last moments belong to
launches, and to the call that is under way then."""

SWEEP_TRIALS: Final = 200
"""How many trials begin between two sweeps: what is kept needlessly is of so many at most."""

LAUNCH_SECONDS: Final = 0.25
"""How long a turn launches at least, once it has recorded every end."""


@dataclass(slots=True)
class Turn:
    """One poll of the executor, and what was done about it so far."""

    polled: Mapping[AttemptId, AttemptStatus]
    """Every attempt that the executor knows."""
    attempts: Mapping[AttemptId, AttemptStatus]
    """Those of them that do not rest."""
    is_leaving: bool = False
    is_cancelling: bool = False
    handled: set[AttemptId] = field(default_factory=set)
    tried: set[int] = field(default_factory=set)
    has_asked_in_vain: bool = False
    """Whether there was no trial to be had, as another runner was first."""
    ending: TunerResult | None = None
    """Why no further trial is asked for."""
    has_changed: bool = False
    """Whether there is progress to show."""
    began_at: float = 0.0
    settled_at: float | None = None
    """When every attempt had been dealt with; `None` before."""
    is_cut: bool = False
    """Whether ends were left to the next turn: this one has taken long enough."""

    @property
    def is_over_at(self) -> float:
        """When it has taken long enough. Launches get a moment of each turn that comes to them."""
        over_at = self.began_at + TURN_SECONDS
        return (
            over_at if self.settled_at is None else max(over_at, self.settled_at + LAUNCH_SECONDS)
        )

    def wake(self, attempts: Mapping[AttemptId, AttemptStatus]) -> None:
        """Deal with attempts, too, whose trials others have changed since they came to rest."""
        if attempts:
            if self.settled_at is not None:  # each attempt once for each poll
                self.handled.update(attempts)
            self.attempts = {**self.attempts, **attempts}

    @property
    def is_settled(self) -> bool:
        """Whether every attempt was dealt with."""
        return self.handled.issuperset(self.attempts)


class Effects:
    """Turns each decision into calls of the storage, the executor and MLflow.

    Args:
        study: The study.
        executor: Where attempts run.
        mirror: The study's mirror in MLflow.
        observer: Hears of everything.
        notes: What keeps the study from going on at full speed.
        others: The other runners at work.
        first_failures: Failures before any success.
        settings: Numbers of the loop.
        clock: Seconds, monotonic.
        wall_clock: Seconds since the epoch.
        on_spec: Told when the study file that the study keeps has changed.
    """

    def __init__(
        self,
        study: Study,
        executor: Executor,
        mirror: TrialMirror,
        observer: Observer,
        *,
        notes: Notes,
        others: OtherRunners,
        first_failures: FirstFailures,
        settings: TunerSettings,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        on_spec: Callable[[StudySpec], None],
    ) -> None:
        self._study = study
        self._observer = observer
        self._notes = notes
        self._clock = clock
        self._swept_at = 0
        """How many trials had begun at the last sweep."""
        self.nodes = Nodes(study, observer, notes)
        self.attempts = Attempts(executor, notes, clock)
        self.meter = Meter(study.spec, executor.site, settings.prices, clock, wall_clock)
        self.resting = Resting(executor.site, self.meter)
        self.spender = Spender(study, self.meter, settings.prices, notes, clock, wall_clock)
        self.pausing = Pausing(study, notes)
        self._reports = Reports(
            study,
            mirror,
            observer,
            pausing=self.pausing,
            brings_points=executor.traits.brings_points,
            poll_seconds=settings.tracker_poll_seconds,
            clock=clock,
        )
        self.recorder = Recorder(
            study,
            mirror,
            observer,
            reports=self._reports,
            pausing=self.pausing,
            meter=self.meter,
            nodes=self.nodes,
            notes=notes,
            first_failures=first_failures,
            patience_seconds=settings.tracker_patience_seconds,
            clock=clock,
        )
        self.launcher = Launcher(
            study,
            executor,
            mirror,
            observer,
            attempts=self.attempts,
            spender=self.spender,
            recorder=self.recorder,
            nodes=self.nodes,
            others=others,
            first_failures=first_failures,
            notes=notes,
            clock=clock,
            on_spec=on_spec,
        )

    def begin_turn(self, *, is_cancelling: bool = False) -> Turn:
        """Return a new turn, which leaves alone the attempts that a call is under way about.

        Raises:
            ExecutorUnavailable: The executor does not answer.
        """
        began_at, under_way = self._clock(), self.attempts.calls.under_way
        polled = self.attempts.poll()
        self._reports.read_running()
        awake = self.resting.wake(polled, began_at, wakes_all=is_cancelling)
        turn = Turn(polled, awake, is_cancelling=is_cancelling, began_at=began_at)
        turn.handled.update(under_way)
        turn.tried.update(attempt.number for attempt in under_way)
        return turn

    def wake_due(self, turn: Turn) -> None:
        """Look at attempts at rest of which others' reports, or MLflow's, may say something new."""
        turn.wake(self.resting.rouse(self._reports.due()))

    def sweep(self, trials: TrialIndex, turn: Turn) -> None:
        """Let go, once in a while, of attempts that other runners have ended.

        Args:
            trials: The study's trials.
            turn: A turn that has just begun.
        """
        if trials.n_begun < self._swept_at + SWEEP_TRIALS:
            return
        self._swept_at = trials.n_begun
        alive = {newest_attempt(record) for record in trials.running}
        alive |= turn.polled.keys() | self.attempts.calls.under_way
        parts = (self.attempts, self.meter, self.spender, self._reports, self.pausing)
        for part in (*parts, self.recorder, self.launcher):
            part.keep_only(alive)

    def carry_out(self, actions: Iterable[Action], snapshot: Snapshot, turn: Turn) -> None:
        """Carry out what was decided by a snapshot, and note in the turn that it was.

        Every write is made on the condition that its trial is still as the snapshot shows it. Ends
        are recorded as long as the turn has time, and at least one; see `Turn.is_cut`.
        """
        running = {record.number: record for record in snapshot.running}
        left: set[AttemptId] = set()
        has_recorded = False
        for action in actions:
            if isinstance(action, RecordEnd):
                if has_recorded and self._clock() >= turn.is_over_at:
                    left.add(action.attempt)
                    continue
                has_recorded = True
            self._act(action, snapshot, running, turn)
        turn.handled.update(turn.attempts.keys() - left)
        turn.is_cut = bool(left)

    def _act(
        self, action: Action, snapshot: Snapshot, running: Mapping[int, TrialRecord], turn: Turn
    ) -> None:
        """Carry out an action."""
        match action:
            case Watch(attempt):
                self._watch(action, running[attempt.number], snapshot.attempts[attempt])
            case RecordEnd(attempt):
                record, status = running[attempt.number], snapshot.attempts[attempt]
                self._adopt(record, status)
                is_cancelling = turn.is_cancelling
                if self.recorder.record_end(record, status, is_cancelling=is_cancelling):
                    self.spender.forget(record)
                    self.attempts.forget(attempt)
                    turn.has_changed = True
            case Stop():
                self.attempts.stop(action)
            case Forget(attempt):
                self.attempts.forget(attempt)
            case RecordLoss(number, message):
                self.recorder.record_loss(running[number], message)
                self.spender.forget(running[number])
                turn.tried.add(number)
            case Withdraw(number):
                self._withdraw(running[number], is_cancelling=turn.is_cancelling)
                turn.tried.add(number)
                turn.has_changed = True
            case EndPaused(number):
                self.recorder.end_paused(running[number])
                turn.tried.add(number)
                turn.has_changed = True
            case Launch(attempt, resumption):
                record = running[attempt.number]
                turn.has_changed |= self.launcher.resume(record, attempt.attempt, resumption)
                turn.tried.add(attempt.number)
            case Ask():
                asked = self.launcher.ask()
                turn.has_asked_in_vain = asked is None
                if asked is not None:
                    turn.tried.add(asked)
                    turn.has_changed = True

    def _adopt(self, record: TrialRecord, status: AttemptStatus) -> None:
        """Take in what an attempt has reported, and tell of one that another runner launched."""
        if self.attempts.adopt(record):
            self._observer.launched(record)
        self.meter.look(record, status)
        self._reports.take(record, status.points)

    def _watch(self, action: Watch, record: TrialRecord, status: AttemptStatus) -> None:
        self._adopt(record, status)
        stop = None
        if action.may_stop:
            stop = self._reports.reason_to_stop(record, status) or self._reason_to_end(record)
            if stop is not None:
                self.attempts.stop(stop)
        is_awaited = self.spender.ends_trials or self.pausing.is_leaving(record)
        if stop is None and not is_awaited:
            self.resting.keep(action.attempt, record, status)
        if status.state is AttemptState.PENDING and status.reason:
            self._notes.add(f"Trial {record.number} waits: {status.reason}")

    def _reason_to_end(self, record: TrialRecord) -> Stop | None:
        """Return the stop of an attempt that the budget ends."""
        if not self.spender.ends_trials:
            return None
        return self.spender.stop(record, self._reports.n_checkpoints(record))

    def _withdraw(self, record: TrialRecord, *, is_cancelling: bool) -> None:
        if is_cancelling:
            self.recorder.cancel(record)
        elif self._notes.blocked is not None:
            self.recorder.block(record, self._notes.blocked)
        else:
            self._study.withdraw_surplus(record)
