"""Starts attempts: notes each in the storage, opens its MLflow run, and submits it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from studyflow.errors import ExecutorBlocked, ExecutorError, ExecutorUnavailable, TrialTaken
from studyflow.executors import AttemptId, AttemptState, AttemptStatus, Executor
from studyflow.observers.observer import Observer
from studyflow.spec import StudySpec
from studyflow.study import Canary, Study, TrialIndex, Verdict
from studyflow.tracking.mirror import AWAITED
from studyflow.trial import Cause, Trial
from studyflow.trial.cost import Why
from studyflow.trial.record import TrialRecord, TrialState
from studyflow.tuner.attempts import Attempts
from studyflow.tuner.first_failures import FirstFailures
from studyflow.tuner.mirror import TrialMirror
from studyflow.tuner.nodes import Nodes
from studyflow.tuner.other_runners import OtherRunners
from studyflow.tuner.progress import Notes
from studyflow.tuner.reconcile import may_ask_for_trials, n_slots_to_fill
from studyflow.tuner.recording import Recorder
from studyflow.tuner.snapshot import Limits, Snapshot
from studyflow.tuner.spending import Spender

_log = logging.getLogger(__name__)

SUGGESTION_SECONDS: Final = 0.2
"""How long one turn waits for a suggestion that is being made. Then it looks at everything else,
and the next turn goes on waiting."""


class Launcher:
    """Launches attempts within the study's limits.

    Args:
        study: The study.
        executor: Where attempts run.
        mirror: The study's mirror in MLflow.
        observer: Told of each attempt that was started.
        attempts: The executor's attempts, as this runner uses them.
        spender: Knows what fits into the budget.
        recorder: Records trials that cannot start.
        nodes: The nodes that an attempt avoids.
        others: The other runners at work.
        first_failures: Failures before any success.
        notes: Told why a launch was refused.
        clock: Seconds, monotonic.
        on_spec: Told when the study file that the study keeps has changed.
    """

    def __init__(
        self,
        study: Study,
        executor: Executor,
        mirror: TrialMirror,
        observer: Observer,
        *,
        attempts: Attempts,
        spender: Spender,
        recorder: Recorder,
        nodes: Nodes,
        others: OtherRunners,
        first_failures: FirstFailures,
        notes: Notes,
        clock: Callable[[], float],
        on_spec: Callable[[StudySpec], None],
    ) -> None:
        self._study = study
        self._spec = study.spec
        self._executor = executor
        self._mirror = mirror
        self._observer = observer
        self._attempts = attempts
        self._spender = spender
        self._recorder = recorder
        self._nodes = nodes
        self._others = others
        self._first_failures = first_failures
        self._notes = notes
        self._clock = clock
        self._on_spec = on_spec
        self._canary = Canary(executor.traits.canary_seconds)
        self._waits_after_failure = False
        self._has_kept_spec = False
        self.waits_for_suggestion = False
        """Whether a slot stayed free in this turn because no suggestion was ready."""
        self._opening: dict[int, TrialRecord] = {}
        """By trial, attempts that are begun and whose run in MLflow was asked for."""
        self.is_refused = False
        """Whether the executor has refused a launch in this turn, for now or for good."""

    def begin_turn(self) -> None:
        """Let launches be tried again."""
        self.is_refused = self.waits_for_suggestion = False

    @property
    def opening(self) -> frozenset[int]:
        """The trials that start as soon as MLflow has opened their run, or does not answer."""
        return frozenset(n for n, begun in self._opening.items() if self._mirror.is_opening(begun))

    def keep_only(self, alive: Collection[AttemptId]) -> None:
        """Forget all attempts but these: the others have ended."""
        numbers = {attempt.number for attempt in alive}
        self._opening = {n: begun for n, begun in self._opening.items() if n in numbers}

    def limits(self, room: int) -> Limits:
        """Return how much may run at once.

        Args:
            room: How many trials may still be asked for.
        """
        return Limits(
            max_parallel_trials=self._spec.budget.max_parallel_trials,
            slots=self._executor.traits.slots,
            room=room,
            is_script_proven=self._canary.is_proven,
        )

    def observe_canary(
        self, trials: TrialIndex, statuses: Mapping[AttemptId, AttemptStatus]
    ) -> None:
        """Find out whether the study's script is known to run here."""
        outlast_seconds = self._first_failures.seconds_to_outlast(trials)
        self._waits_after_failure = outlast_seconds is not None
        if self._canary.is_proven and outlast_seconds is None:
            return
        running = {
            (attempt.number, attempt.attempt)
            for attempt, status in statuses.items()
            if status.state is AttemptState.RUNNING
        }
        now = self._clock()
        self._canary.observe(trials.proven_seconds, running, now, outlast_seconds)

    def note_canary(self, limits: Limits) -> None:
        """Tell why other trials wait, if they wait for the first one."""
        has_others = limits.max_parallel_trials > 1 and limits.room > 0
        if limits.is_script_proven or not has_others:
            return
        if self._waits_after_failure:
            self._notes.add(
                "No trial has succeeded yet and some have failed: until one runs for longer than "
                "those did, only one runs at a time."
            )
        else:
            self._notes.add(
                "One trial goes ahead alone; others follow once its script has run for "
                f"{self._executor.traits.canary_seconds:g} s or has reported a value."
            )

    def prepare(self, snapshot: Snapshot) -> None:
        """Have suggestions made for the trials that will be asked for."""
        if not self.waits_for_suggestion:
            may_ask = may_ask_for_trials(snapshot)
            self._study.prepare(n_slots_to_fill(snapshot) if may_ask else 0, may_ask=may_ask)

    def ask(self) -> int | None:
        """Ask for a new trial and launch it; return its number, or `None` if there was none.

        It is asked for once its suggestion is there, which other turns may have to come before.
        """
        if not self._study.await_suggestion(SUGGESTION_SECONDS):
            self.waits_for_suggestion = True
            return None
        # Under a limit a trial is weighed before it begins; else it begins as it is made.
        first = None if self._spender.is_metered else self._spender.begin(attempt=1)
        record = self._study.ask(self._executor.site, first)
        if record is None:
            return None
        if (refusal := self._spender.refusal(record)) is not None:
            self._study.tell(record.number, refusal, seen=record)
            return None
        begun = record if record.has_attempt else self._begin(record, attempt=1)
        if begun is not None:
            self._launch(begun)
        return record.number

    def resume(self, record: TrialRecord, attempt: int, why: Why | None = None) -> bool:
        """Launch an attempt of a running trial; return whether anything came of it.

        Args:
            record: The trial.
            attempt: Number of the attempt.
            why: Why the trial is taken up, if it is paused.
        """
        if self.is_refused:
            return False  # one refusal is enough for a turn
        opening = self._opening.pop(record.number, None)
        if opening is not None and opening.attempt == record.attempt == attempt:
            return self._open_and_submit(record)
        try:
            whole = self._study.complete_suggestion(record.number, self._executor.site, seen=record)
        except TrialTaken as error:
            _log.info("%s", error)
            return False
        is_new = attempt > record.attempt
        if is_new and (refusal := self._spender.refusal(whole)) is not None:
            return self._refuse(whole, refusal)
        begun = self._begin(whole, attempt, why)
        return begun is not None and self._launch(begun)

    def _refuse(self, record: TrialRecord, refusal: Verdict) -> bool:
        """End a trial whose next attempt does not fit into the budget; return whether that is so.

        While something else runs, it waits: that may cost less than it is expected to.
        """
        if self._spender.may_fit_later(record):
            note = f"Trial {record.number} waits: {refusal.message}"
            self._notes.add(note, about=f"{refusal.code} {record.number}")
            return False
        if record.is_paused:
            self._recorder.end_paused(record, f"It is not taken up again: {refusal.message}")
        else:
            self._recorder.record(record, refusal)
        return True

    def keep_spec(self, *, is_new: bool) -> None:
        """Keep this run's study file with the study, now that the run has done something."""
        kept = self._study.keep_spec(is_shared=self._others.may_share, is_new=is_new)
        self._has_kept_spec = True
        if kept is not None:
            self._on_spec(kept)

    def _launch(self, begun: TrialRecord) -> bool:
        """Start the newest attempt of a trial; return whether anything came of it."""
        self.keep_spec(is_new=not self._has_kept_spec)
        return self._open_and_submit(begun)

    def _open_and_submit(self, begun: TrialRecord) -> bool:
        """Submit an attempt with its run in MLflow; a run that is awaited is left to a later turn.

        Returns:
            Whether anything came of it.
        """
        tracking = self._mirror.open_trial(begun)
        if tracking is AWAITED:
            self._opening[begun.number] = begun
            return False
        if tracking is not None:
            self._study.set_run_id(begun.number, tracking.run_id)
            begun = replace(begun, run_id=tracking.run_id)
        trial = Trial(
            study=self._spec.name,
            number=begun.number,
            attempt=begun.attempt,
            params=begun.params,
            budget=self._spec.trial.budget,
            metrics=self._spec.metrics,
            tracking=tracking,
        )
        return self._submit(begun, trial)

    def _begin(
        self, record: TrialRecord, attempt: int, resumption: Why | None = None
    ) -> TrialRecord | None:
        """Note that an attempt is about to be launched.

        A runner that finds one attempt too many after noting its own withdraws it: of two runners
        that saw the last slot, one takes it in a later turn.

        Returns:
            The trial; `None` when the attempt may not be launched now.
        """
        site = self._executor.site
        known = replace(self._spender.begin(attempt), resumption=resumption)
        begun = self._study.begin_attempt(record.number, attempt, site, record, known)
        if begun.state.is_finished or (begun.attempt, begun.holder) != (attempt, site):
            return None  # another runner was first
        if record.has_attempt:
            return begun
        # Read anew: what another runner has begun at the same time shows only after one's own.
        n_begun = sum(other.has_attempt for other in self._study.running())
        if n_begun > self._spec.budget.max_parallel_trials:
            self._study.withdraw_attempt(record.number, attempt, begun)
            return None
        return begun

    def _submit(self, record: TrialRecord, trial: Trial) -> bool:
        """Hand an attempt to the executor; return whether anything came of it, or will."""
        then = partial(self._submitted, record, trial)
        return self._attempts.submit(trial, self._nodes.to_avoid(record), then) is not False

    def _submitted(self, record: TrialRecord, trial: Trial, error: ExecutorError | None) -> bool:
        """Take in what became of a launch; return whether anything came of it.

        Args:
            record: The trial, as it was when its attempt was begun.
            trial: The attempt.
            error: What the executor has raised; `None` if the attempt was launched.
        """
        if error is None:
            self._recorder.end_pause(record.number)
            about = record.number, trial.attempt, record.params
            _log.info("trial=%d attempt=%d launched params=%s", *about)
            self._observer.launched(record)
            return True
        self.is_refused = True  # the stop rules see a failure before another trial follows
        if isinstance(error, ExecutorUnavailable):
            self._notes.add(str(error))
            return False
        if isinstance(error, ExecutorBlocked):
            self._recorder.block(record, error.reason)
        else:
            verdict = Verdict.because(Cause.USER_ERROR, TrialState.FAILED, error.reason)
            self._recorder.record(record, verdict)
        return True
