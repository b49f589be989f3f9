"""The loop: observe, reconcile, act.

`Tuner` holds nothing that cannot be rebuilt. Every turn compares what the storage says (which
trials run) with what the executor says (which attempts exist) and closes the difference, so a
runner that was killed at any point is replaced by one that starts with an ordinary turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

from studyflow import interrupt
from studyflow.errors import ExecutorUnavailable, StudyflowError
from studyflow.executors import AttemptId, Executor
from studyflow.executors.earlier import of_present_protocol
from studyflow.observers.observer import Observer, Observers
from studyflow.reasons import Cause, Reason
from studyflow.spec import StudySpec
from studyflow.study import Study, TrialIndex
from studyflow.tuner.effects import Effects, Turn
from studyflow.tuner.first_failures import FirstFailures
from studyflow.tuner.mirror import TrialMirror
from studyflow.tuner.other_runners import OtherRunners
from studyflow.tuner.pausing import has_use_for_paused
from studyflow.tuner.progress import Leftover, Notes, ProgressView, TunerResult, left_alone
from studyflow.tuner.reconcile import next_actions
from studyflow.tuner.settings import TunerSettings
from studyflow.tuner.snapshot import Snapshot

CANCEL_SECONDS: Final = 30.0
"""How long a cancelled runner waits for its attempts to end before it leaves them to the next
one."""

CANCEL_PAUSE_SECONDS: Final = 0.2
"""Longest pause between two polls of a cancelled runner."""

CALLS_SECONDS: Final = 0.2
"""Longest pause between two turns while calls of the executor are under way, whose results the next
turn takes in."""

CANCEL_RETRY_SECONDS: Final = 1.0
"""The same while the executor does not answer."""


class Tuner:
    """The loop over one study. See the module's text.

    Args:
        study: The study.
        executor: Where attempts run; belongs to the same study.
        mirror: The study's mirror in MLflow.
        observer: Hears of everything.
        settings: Numbers of the loop; the default ones if not given.
        clock: Seconds, monotonic.
        wall_clock: Seconds since the epoch.
        ends_trials: Asked when the runner is told to end: whether the running attempts end with it.
            Else they go on for the next runner.
        leaves: Asked in every turn: whether this runner is to start nothing more and to leave when
            the running attempts have ended.
        on_spec: Told when the study file that the study keeps has changed.
    """

    def __init__(
        self,
        study: Study,
        executor: Executor,
        mirror: TrialMirror,
        observer: Observer,
        *,
        settings: TunerSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        ends_trials: Callable[[], bool] = lambda: True,
        leaves: Callable[[], bool] = lambda: False,
        on_spec: Callable[[StudySpec], None] = lambda _: None,
    ) -> None:
        self._study = study
        self._executor = executor = of_present_protocol(executor)
        self._mirror = mirror
        self._settings = settings = settings or TunerSettings()
        self._clock = clock
        self._ends_trials = ends_trials
        self._leaves = leaves
        self._pause_seconds = 0.0
        """Longest pause before the next turn; none if the last one has left something to it."""
        self._observer = observer = Observers(observer)
        self._notes = notes = Notes(observer)
        self._others = OtherRunners(executor.site, settings.lease_seconds, notes, clock)
        self._first_failures = FirstFailures(study)
        self._effects = Effects(
            study,
            executor,
            mirror,
            observer,
            notes=notes,
            others=self._others,
            first_failures=self._first_failures,
            settings=settings,
            clock=clock,
            wall_clock=wall_clock,
            on_spec=on_spec,
        )
        self._progress = ProgressView(
            study, observer, notes, clock, self._effects.spender.metered_account
        )
        self._calls = self._effects.attempts.calls

    @property
    def others(self) -> tuple[str, ...]:
        """Other sites that were seen at work, as the last turn found them."""
        return self._others.active

    @property
    def is_joined(self) -> bool:
        """Whether another runner was seen at work at this one's own site, such as a namespace."""
        return self._others.is_joined

    def drive(self) -> TunerResult:
        """Run the study to its end.

        Ctrl-C, SIGTERM turned into an exception and Prefect's cancellation stop the running
        attempts and record them as cancelled before they go on, if `ends_trials` says so. Any other
        exception leaves the attempts running for the next runner.

        Raises:
            Terminated: SIGTERM arrived.
            StorageUnavailable: The study's storage is away for longer than its patience.
        """
        n_arrived = interrupt.n_arrived()
        with interrupt.when_told_to_end(self._cancel_if_wanted):
            try:
                while (result := self.turn()) is None:
                    self._executor.wait(self._pause_seconds)
                    if interrupt.n_arrived() > n_arrived:
                        raise interrupt.Terminated  # what was raised then was lost
            finally:
                self.close()
        return result

    def close(self) -> None:
        """Wait a little for the executor's calls that are under way, and begin no further one."""
        self._calls.close()

    def _cancel_if_wanted(self) -> None:
        try:
            if self._ends_trials():
                self.cancel()
        except StudyflowError as error:
            self._observer.noted(f"Left all running trials to the next runner: {error}")

    def turn(self) -> TunerResult | None:
        """Do all that can be done now; return the result once nothing is left to wait for."""
        self._notes.begin_turn()
        self._pause_seconds = self._settings.poll_seconds
        if self._calls.under_way:
            self._pause_seconds = min(self._pause_seconds, CALLS_SECONDS)
        try:
            turn = self._effects.begin_turn()
        except ExecutorUnavailable as error:
            self._notes.add(f"{error} Running trials go on; no new ones start until it is back.")
            self._progress.show(force=False)
            return None
        self._take_notices(turn)
        snapshot = self._reconcile(turn)
        if self._calls.under_way:
            self._pause_seconds = min(self._pause_seconds, CALLS_SECONDS)
        answer_seconds = self._mirror.seconds_to_answer()
        if answer_seconds is not None:
            self._pause_seconds = min(self._pause_seconds, answer_seconds)
        has_more = snapshot.is_slice_over and next_actions(replace(snapshot, is_slice_over=False))
        if turn.is_cut or has_more or self._effects.launcher.waits_for_suggestion:
            self._pause_seconds = 0.0
        if turn.ending is None and not snapshot.is_paused:
            self._effects.launcher.note_canary(snapshot.limits)
        is_over = turn.ending is not None and not self._is_awaiting(snapshot)
        if is_over and turn.ending is not None and turn.ending.is_finished:
            self._effects.launcher.keep_spec(is_new=True)
        self._progress.show(force=turn.has_changed or is_over)
        return turn.ending if is_over else None

    def _take_notices(self, turn: Turn) -> None:
        """Take in what people and other runners have left with the study."""
        notices = self._study.notices()
        self._progress.stopwatch.observe(notices.is_paused)
        if notices.is_paused:
            self._notes.add(
                "Paused: running trials finish, none starts. "
                f"Hint: studyflow resume {self._study.name}"
            )
        self._others.observe(notices.beats, self._effects.resting.awake(self._study.running()))
        self._effects.meter.take_beats(notices.beats)
        self._effects.wake_due(turn)
        self._effects.sweep(self._study.known_trials(), turn)
        self._effects.spender.begin_turn()
        self._effects.nodes.take_resets(notices.resets)
        turn.is_leaving = self._leaves()
        if turn.is_leaving:
            self._notes.add("Paused: this runner leaves when its running trials have finished.")

    def _reconcile(self, turn: Turn) -> Snapshot:
        """Act until nothing is left to do in this turn; return what is there then."""
        self._effects.launcher.begin_turn()
        while True:
            self._calls.take_results(turn.is_over_at - self._clock() if turn.is_settled else 0.0)
            snapshot = self._observe(turn)
            if snapshot.is_settled:
                self._effects.launcher.prepare(snapshot)
            actions = next_actions(snapshot)
            if snapshot.is_settled and not actions:
                return snapshot
            self._effects.carry_out(actions, snapshot, turn)
            if turn.is_cut:
                return snapshot

    def _observe(self, turn: Turn) -> Snapshot:
        """Return a snapshot of what is there now."""
        trials = self._study.known_trials()  # the turn began with a look at the storage
        running, woken = self._effects.resting.wake_changed(trials.running)
        turn.wake(woken)
        spent = self._effects.spender.blocker(trials) if turn.is_settled else None
        if turn.is_settled and not turn.is_cancelling:
            self._effects.nodes.judge(trials, turn.polled.values())
            self._effects.launcher.observe_canary(trials, turn.polled)
            turn.ending = self._ending(trials, turn, spent)
        now = self._clock()
        if turn.is_settled and turn.settled_at is None:
            turn.settled_at = now
        surplus = trials.surplus
        room = 0 if turn.has_asked_in_vain else self._effects.spender.room(trials, spent)
        limits = self._effects.launcher.limits(room)
        held_elsewhere = self._others.held_elsewhere(running)
        out_of_reach = held_elsewhere | turn.tried
        choice = self._effects.pausing.choice(trials, running, limits, out_of_reach)
        return Snapshot(
            site=self._executor.site,
            running=running,
            attempts=turn.attempts,
            limits=limits,
            now=now,
            n_resting=len(self._effects.resting),
            held_elsewhere=held_elsewhere,
            surplus=surplus,
            abandoned=self._others.abandoned(surplus),
            opening=self._effects.launcher.opening,
            retry_at=dict(self._effects.recorder.retry_at),
            launched=self._effects.attempts.launched(running),
            stopping=self._effects.attempts.stopping(turn.attempts),
            choice=choice,
            has_use_for_paused=has_use_for_paused(choice, turn.ending),
            left_behind=self._effects.attempts.left_behind(turn.attempts),
            handled=frozenset(turn.handled),
            tried=frozenset(turn.tried),
            is_slice_over=turn.is_settled
            and (now >= turn.is_over_at or not self._calls.can_launch),
            is_refused=self._effects.launcher.is_refused,
            is_blocked=self._notes.blocked is not None,
            is_paused=self._progress.stopwatch.is_paused,
            is_leaving=turn.is_leaving,
            is_ending=turn.ending is not None,
            is_cancelling=turn.is_cancelling,
        )

    def _ending(self, trials: TrialIndex, turn: Turn, spent: Reason | None) -> TunerResult | None:
        """Return why no further trial is asked for; `None` to go on.

        Args:
            trials: The study's trials.
            turn: This turn.
            spent: Why the budget has no room for another trial now.
        """
        barred = self._effects.nodes.barred
        ending = self._first_failures.ending(trials, barred)
        ending = ending or self._progress.ending(trials, barred, spent)
        if ending is None and turn.is_leaving:
            paused = Reason(Cause.PAUSED, "The runner was paused.")
            return TunerResult(paused, is_finished=False, has_left=True)
        return ending

    def _is_awaiting(self, snapshot: Snapshot) -> bool:
        """Return whether this runner has to wait for anything before it ends."""
        if snapshot.is_awaiting or self._effects.attempts.unforgotten(snapshot.attempts):
            return True
        stale = self._effects.attempts.stale(snapshot)
        if not stale or snapshot.is_blocked:
            return False
        if not self._effects.attempts.has_waited_for_stale:
            return True
        numbers = tuple(sorted({attempt.number for attempt in stale}))
        live = snapshot.live & stale
        self._observer.noted(str(Leftover(numbers, self._reason_left(snapshot, live))))
        return False

    # ---- being cancelled --------------------------------------------------------------------

    def cancel(self, patience_seconds: float = CANCEL_SECONDS) -> None:
        """Stop all running attempts, record their trials as cancelled, and see them gone.

        What runners of other sites look after goes on. What cannot be ended is tried again until
        patience is over, or a second Ctrl-C comes; the observer is told what is left then.

        Raises:
            StorageUnavailable: The study's storage is away; what runs is left to the next runner.
        """
        deadline = self._clock() + patience_seconds
        left: Leftover | None = None
        with interrupt.when_told_to_end(lambda: self._say_left(left)):  # once more, and at once
            while (left := self._cancel_once()) is not None and self._clock() < deadline:
                self._executor.wait(left.pause_seconds)
        self._say_left(left)

    def _cancel_once(self) -> Leftover | None:
        """Do all that can be done now to end what runs here; return what is left of it."""
        running = self._study.running()
        self._others.observe(self._study.notices().beats, running)
        try:
            turn = self._effects.begin_turn(is_cancelling=True)
        except ExecutorUnavailable as error:
            elsewhere = self._others.held_elsewhere(running)
            numbers = tuple(r.number for r in running if r.number not in elsewhere)
            return Leftover(numbers, str(error), CANCEL_RETRY_SECONDS) if numbers else None
        snapshot = self._reconcile(turn)
        ended = self._effects.attempts.unforgotten(snapshot.attempts)
        left = {attempt.number for attempt in snapshot.live | ended}
        left.update(r.number for r in snapshot.running if snapshot.is_own(r) and not r.is_paused)
        if left:
            reason = self._reason_left(snapshot, snapshot.live)
            return Leftover(tuple(sorted(left)), reason, CANCEL_PAUSE_SECONDS)
        for sentence in left_alone(snapshot.running):
            self._observer.noted(sentence)
        return None

    def _say_left(self, left: Leftover | None) -> None:
        if left is not None:
            self._observer.noted(str(left))

    def _reason_left(self, snapshot: Snapshot, live: Collection[AttemptId]) -> str:
        """Return why a runner that leaves has not ended everything, one sentence."""
        if not live:
            return "Ended, but not recorded or not cleaned up."
        if self._notes.blocked is not None:
            return str(self._notes.blocked)
        if snapshot.stopping.issuperset(live):
            return "Told to end, but not ended yet."
        return "Could not be told to end."
