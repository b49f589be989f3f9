"""Drives a study: asks, launches, watches, prunes and records until the budget is spent.

`Tuner` holds nothing that cannot be rebuilt. Every turn compares what the storage says (which
trials run) with what the executor says (which attempts exist) and closes the difference, so a
runner that was killed at any point is replaced by one that starts with an ordinary turn.

The order inside a turn matters: outcomes are recorded before new trials are asked for, so that the
sampler knows all there is to know.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from studyflow import interrupt
from studyflow.errors import (
    ExecutorBlocked,
    ExecutorError,
    ExecutorUnavailable,
    StudyflowError,
    TrialTaken,
)
from studyflow.executors import AttemptId, AttemptState, AttemptStatus, Executor
from studyflow.observers.observer import Observer, Observers, Progress
from studyflow.spec import StudySpec
from studyflow.study import (
    LEASE_SECONDS,
    Canary,
    Curve,
    Leases,
    NodeRecord,
    StopReason,
    Study,
    Verdict,
    apply_curve,
    describe_divergence,
    describe_fruitless,
    describe_time_limit,
    is_counted,
    is_from,
    judge,
    judge_nodes,
    last_step_of,
    nodes_to_avoid,
    stop_reason,
    this_runner,
)
from studyflow.tracking.logged import LoggedRuns, describe, read_metrics
from studyflow.trial import (
    MESSAGE_LIMIT_CHARS,
    Cause,
    Consequence,
    MetricPoint,
    Outcome,
    TrackingRef,
    Trial,
)
from studyflow.trial.record import TrialRecord, TrialState, best_records

_log = logging.getLogger(__name__)

MAX_BACKOFF_SECONDS: Final = 300.0
"""Longest pause before an attempt is repeated."""

CANCEL_SECONDS: Final = 30.0
"""How long a cancelled runner waits for its attempts to end before it leaves them to the next
one."""

CANCEL_PAUSE_SECONDS: Final = 0.2
"""Longest pause between two looks of a cancelled runner at its attempts."""

CANCEL_RETRY_SECONDS: Final = 1.0
"""The same while the executor does not answer."""

PROGRESS_SECONDS: Final = 2.0
"""Longest silence between two calls of `Observer.progressed`."""

MAX_NUMBERS_SHOWN: Final = 10
"""Most trials that a sentence names."""


_DISAPPEARED: Final = "The attempt disappeared: its folder or Job was removed by someone else."

_CANCELLED: Final = Verdict(Cause.CANCELLED, TrialState.FAILED, "The study was cancelled.")


class TrialMirror(Protocol):
    """What the tuner needs of the study's picture in MLflow; none of it raises or blocks."""

    def open_trial(self, record: TrialRecord) -> TrackingRef | None:
        """Return the trial's run, or `None` while MLflow is away."""

    def points(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        """Pass on reported metrics."""

    def finish_trial(self, record: TrialRecord) -> None:
        """Pass on that a trial is finished."""

    def read_points(self, record: TrialRecord, metric: str) -> tuple[MetricPoint, ...]:
        """Return what a script logged by plain MLflow; empty when there is nothing."""

    def read_runs(
        self, record: TrialRecord, metrics: Sequence[str], began_at: float | None
    ) -> LoggedRuns:
        """Return what the newest attempt's script logged by itself, or why that is not known."""


@dataclass(frozen=True, slots=True)
class TunerSettings:
    """Numbers of the loop."""

    poll_seconds: float = 1.0
    """Longest pause between two looks at the executor. An executor that notices an end by itself
    wakes the loop earlier, so this bounds only how late a pruning decision may come."""
    tracker_poll_seconds: float = 10.0
    """Pause between two looks at MLflow for metrics that scripts logged without the SDK. Only a
    study with a pruner looks; one request per running trial."""
    tracker_patience_seconds: float = 300.0
    """How long a trial that ended well and gave nothing waits for an MLflow that is away: what it
    logged may be there."""
    lease_seconds: float = LEASE_SECONDS
    """How long another runner may be silent before this one takes over its trials."""


@dataclass(frozen=True, slots=True)
class TunerResult:
    """How a run of the loop ended."""

    reason: str
    """One sentence: why no further trial is started."""
    is_finished: bool
    """Whether the study needs no further runner: its budget is spent or a stop rule holds."""
    is_failure: bool = False
    """Whether it ended because its trials cannot work."""
    has_left: bool = False
    """Whether it was told to leave, and another runner will go on: nothing has come to its end."""


@dataclass(frozen=True, slots=True)
class _Rest:
    """What a runner that leaves could not end yet."""

    numbers: tuple[int, ...]
    """Trials whose attempts run, or whose end is not recorded or not cleaned up."""
    reason: str
    pause_seconds: float = CANCEL_PAUSE_SECONDS
    """How long to wait before it is tried again."""


class Tuner:
    """The loop over one study. See the module's text.

    Args:
        study: The study.
        executor: Where attempts run; belongs to the same study.
        mirror: The study's picture in MLflow.
        observer: Hears of everything.
        settings: Numbers of the loop.
        clock: Seconds, monotonic.
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
        settings: TunerSettings = TunerSettings(),
        clock: Callable[[], float] = time.monotonic,
        ends_trials: Callable[[], bool] = lambda: True,
        leaves: Callable[[], bool] = lambda: False,
        on_spec: Callable[[StudySpec], None] = lambda _: None,
    ) -> None:
        self._study = study
        self._spec = study.spec
        self._executor = executor
        self._mirror = mirror
        self._observer = Observers(observer)
        self._settings = settings
        self._clock = clock
        self._ends_trials = ends_trials
        self._leaves = leaves
        self._on_spec = on_spec
        self._runner = this_runner()
        self._has_beaten = False
        """Whether a beat of this runner was seen."""
        self._joined_at = -math.inf
        """When a later beat was seen at its own site that is another runner's."""
        self._has_kept_spec = False
        self._leases = Leases(executor.site, settings.lease_seconds)
        self._canary = Canary(executor.canary_seconds)
        self._started = clock()
        self._finished_before = frozenset(r.number for r in study.records() if is_counted(r))
        self._launched: set[AttemptId] = set()
        self._stopping: set[AttemptId] = set()
        self._unforgotten: set[AttemptId] = set()
        """Ended attempts that the executor could not let go of yet."""
        self._left_behind: set[AttemptId] = set()
        """Ended attempts that the executor refuses to let go of."""
        self._forgotten: set[AttemptId] = set()
        """Attempts that the executor has let go of in this turn."""
        self._stale_since: float | None = None
        """Since when nothing but attempts that no longer count keeps this runner."""
        self._retry_at: dict[int, float] = {}
        self._tracker_read_at: dict[int, float] = {}
        self._unread_since: dict[AttemptId, float] = {}
        """Ended attempts whose runs could not be read yet, and when that was first found."""
        self._is_cancelling = False
        self._last_metrics: dict[AttemptId, dict[str, float]] = {}
        self._curves: dict[AttemptId, Curve] = {}
        """What each running attempt has reported; a new runner is given all of it again."""
        self._progress_at = -math.inf
        self._is_refused = False
        """Whether the executor refused a launch in this turn, for now or for good."""
        self._blocked: str | None = None
        """Why no attempt of the study can start, whatever its parameters."""
        self._is_paused = False
        """Whether someone has paused the study, as this turn found it."""
        self._paused_seconds = 0.0
        """How long it was paused since this runner began: no part of its time limit."""
        self._turned_at = self._started
        self._waits_for_room = False
        """Whether an attempt found no room in this turn."""
        self._nodes: tuple[NodeRecord, ...] = ()
        """What the study has against nodes, as this turn found it."""
        self._pardons: Mapping[str, int] = {}
        """By node, how many of its failures no longer count."""
        self._notes: list[str] = []
        """What keeps the study from going on at full speed, as this turn found it."""
        self._said: frozenset[str] = frozenset()
        """The notes of the last turn: a person was told of them."""

    def drive(self) -> TunerResult:
        """Run the study to its end.

        Ctrl-C, SIGTERM turned into an exception and Prefect's cancellation stop the running
        attempts and record them as cancelled before they go on, if `ends_trials` says so. Any other
        exception leaves the attempts running for the next runner.
        """
        n_arrived = interrupt.n_arrived()
        try:
            while (result := self.turn()) is None:
                self._executor.wait(self._settings.poll_seconds)
                if interrupt.n_arrived() > n_arrived:
                    raise interrupt.Terminated  # what was raised then was lost
        except Exception:
            raise
        except BaseException:
            try:
                if self._ends_trials():
                    self.cancel()
            except StudyflowError as error:
                self._observer.noted(f"Left all running trials to the next runner: {error}")
            raise
        return result

    def turn(self) -> TunerResult | None:
        """Do all that can be done now; return the result once nothing is left to wait for."""
        self._said, self._notes, self._is_refused = frozenset(self._notes), [], False
        self._forgotten.clear()
        try:
            statuses = self._executor.poll()
        except ExecutorUnavailable as error:
            self._add_note(f"{error} Running trials go on; no new ones start until it is back.")
            self._show_progress(force=False)
            return None
        self._waits_for_room = any(status.waits_for_room for status in statuses.values())
        notices = self._study.notices()
        self._look_for_pause(notices.is_paused)
        self._look_for_others(notices.beats)
        self._pardons = notices.pardons
        is_leaving = self._leaves()
        if is_leaving:
            self._add_note("Paused: this runner leaves when its running trials have finished.")
        changed = self._watch(statuses)
        self._judge_nodes(statuses)
        self._look_at_canary(statuses)
        if self._blocked is None:
            if not self._is_paused and not is_leaving:
                changed |= self._relaunch(statuses)
        else:  # not in the turn that learns of it: what that turn launched is in no status yet
            changed |= self._withdraw_unlaunched(statuses)
        reason = self._reason_to_stop()
        if reason is None and is_leaving:
            reason = TunerResult("The runner was paused.", is_finished=False, has_left=True)
        if reason is None and not self._is_paused:
            changed |= self._fill_slots()
        self._unforgotten &= statuses.keys()
        is_idle = self._n_left(is_leaving) == 0 and not self._unforgotten
        if is_idle and reason is not None:
            is_idle = not self._waits_for_stale(statuses)
        if reason is not None and is_idle and reason.is_finished:
            self._keep_spec(is_new=True)
        self._show_progress(force=changed or (is_idle and reason is not None))
        return reason if is_idle else None

    @property
    def others(self) -> tuple[str, ...]:
        """Other sites that were seen at work, as the last turn found them."""
        return self._leases.active

    @property
    def is_joined(self) -> bool:
        """Whether another runner was seen at work at this one's own site, such as a namespace."""
        return self._clock() - self._joined_at < self._settings.lease_seconds

    def cancel(self, patience_seconds: float = CANCEL_SECONDS) -> None:
        """Stop all running attempts, record their trials as cancelled, and see them gone.

        What runners of other sites look after goes on. What cannot be ended is tried again until
        patience is over, or a second Ctrl-C comes; the observer is told what is left then.

        Raises:
            StorageUnavailable: The study's storage is away; what runs is left to the next runner.
        """
        self._is_cancelling = True
        deadline = self._clock() + patience_seconds
        rest: _Rest | None = None
        try:
            while (rest := self._cancel_once()) is not None and self._clock() < deadline:
                self._executor.wait(rest.pause_seconds)
        except Exception:
            raise
        except BaseException:  # told to end once more, and at once
            self._say_left(rest)
            raise
        self._say_left(rest)

    def _cancel_once(self) -> _Rest | None:
        """Do all that can be done now to end what runs here; return what is left of it."""
        self._look_for_others(self._study.notices().beats)
        try:
            statuses = self._executor.poll()
        except ExecutorUnavailable as error:
            here = [r for r in self._study.running() if not self._leases.is_elsewhere(r)]
            numbers = tuple(record.number for record in here)
            return _Rest(numbers, str(error), CANCEL_RETRY_SECONDS) if numbers else None
        live = {a for a, s in statuses.items() if s.state is not AttemptState.ENDED}
        for attempt in live:
            self._stop(attempt, Cause.CANCELLED, "The study was cancelled.")
        self._watch(statuses)
        for record in self._study.running():
            # A trial without a live attempt gets no other one.
            if self._is_here(record, statuses) and _newest(record) not in live:
                self._record(record, _CANCELLED, {})
        running = self._study.running()
        here = [record for record in running if self._is_here(record, statuses)]
        self._unforgotten &= statuses.keys()
        left = {attempt.number for attempt in live | self._unforgotten}
        left.update(record.number for record in here)
        if left:
            return _Rest(tuple(sorted(left)), self._reason_left(live))
        if running:
            holders = sorted({record.holder or "another runner" for record in running})
            self._observer.noted(
                f"Left alone: {len(running)} running trials of {_enumerated(holders)}."
            )
        return None

    def _is_here(self, record: TrialRecord, statuses: Mapping[AttemptId, AttemptStatus]) -> bool:
        """Return whether a running trial is this runner's to end."""
        return _newest(record) in statuses or not self._leases.is_elsewhere(record)

    def _reason_left(self, live: Collection[AttemptId]) -> str:
        """Return why a cancelled runner is not done, one sentence."""
        if not live:
            return "Ended, but not recorded or not cleaned up."
        if self._blocked is not None:
            return self._blocked
        if self._stopping.issuperset(live):
            return "Told to end, but not ended yet."
        return "Could not be told to end."

    def _say_left(self, rest: _Rest | None) -> None:
        if rest is None:
            return
        noun = "trial" if len(rest.numbers) == 1 else "trials"
        shown = ", ".join(map(str, rest.numbers[:MAX_NUMBERS_SHOWN]))
        more = len(rest.numbers) - MAX_NUMBERS_SHOWN
        and_more = f" and {more} more" if more > 0 else ""
        self._observer.noted(f"Left to the next runner: {noun} {shown}{and_more}. {rest.reason}")

    def _look_for_pause(self, is_paused: bool) -> None:
        now = self._clock()
        if self._is_paused:
            self._paused_seconds += now - self._turned_at
        self._turned_at = now
        self._is_paused = is_paused
        if self._is_paused:
            self._add_note(
                "Paused: running trials finish, none starts. "
                f"Hint: studyflow resume {self._spec.name}"
            )

    def _look_for_others(self, beats: Mapping[str, Mapping[str, Any]]) -> None:
        """See which other runners work on the study."""
        beat = beats.get(self._executor.site)
        if beat is not None and is_from(beat, self._runner):
            self._has_beaten = True
        elif beat is not None and self._has_beaten:
            self._joined_at = self._clock()
        self._leases.look(beats, self._study.running(), self._clock())
        if active := self._leases.active:
            self._add_note(
                f"{_enumerated(active)} work on this study too: budget and parallel trials are "
                "shared."
                if len(active) > 1
                else f"{active[0]} works on this study too: budget and parallel trials are shared."
            )

    def _n_left(self, is_leaving: bool) -> int:
        """Return how many trials this runner has to wait for before it ends."""
        if is_leaving:  # the next runner repeats those between two attempts
            return self._n_live()
        return sum(
            self._blocked is None or not self._leases.is_elsewhere(record)
            for record in self._study.running()
        )

    def _waits_for_stale(self, statuses: Mapping[AttemptId, AttemptStatus]) -> bool:
        """Return whether attempts of this site are still to be ended that no longer count.

        Others have taken over their trials while this runner stood still: whoever leaves now leaves
        them running. A while is enough for whatever can be ended.
        """
        counting = {_newest(record) for record in self._study.running() if record.has_attempt}
        stale = statuses.keys() - counting - self._forgotten - self._left_behind
        if not stale or self._blocked is not None:
            return False
        if self._stale_since is None:
            self._stale_since = self._clock()
        if self._clock() - self._stale_since < CANCEL_SECONDS:
            return True
        live = {a for a in stale if statuses[a].state is not AttemptState.ENDED}
        numbers = tuple(sorted({attempt.number for attempt in stale}))
        self._say_left(_Rest(numbers, self._reason_left(live)))
        return False

    def _judge_nodes(self, statuses: Mapping[AttemptId, AttemptStatus]) -> None:
        """Find out which nodes to keep away from, and tell which no trial goes to any more."""
        running = [s for s in statuses.values() if s.state is AttemptState.RUNNING]
        self._nodes = judge_nodes(
            self._spec,
            self._study.records(),
            self._pardons,
            nodes_in_use={status.node for status in running if status.node is not None},
        )
        for known in self._nodes:
            if known.is_barred:
                self._add_note(known.message)

    def _look_at_canary(self, statuses: Mapping[AttemptId, AttemptStatus]) -> None:
        """Find out whether the study's script is known to run here."""
        if self._canary.is_proven:
            return
        running = {
            (attempt.number, attempt.attempt)
            for attempt, status in statuses.items()
            if status.state is AttemptState.RUNNING
        }
        self._canary.look(self._study.records(), running, self._clock())

    def _pardon(self, nodes: Collection[str]) -> None:
        """Let nodes be used again that a trial cannot do without."""
        known = judge_nodes(self._spec, self._study.records(), self._pardons)
        failures = {k.node: k.n_failures for k in known if k.node in nodes}
        self._pardons = self._study.pardon(failures)
        self._observer.noted(f"There is no place without {', '.join(sorted(nodes))}: used again.")

    # ---- watching ---------------------------------------------------------------------------

    def _watch(self, statuses: Mapping[AttemptId, AttemptStatus]) -> bool:
        """Take in reports and ends; return whether a trial was recorded."""
        running = {record.number: record for record in self._study.running()}
        changed = False
        for attempt, status in sorted(statuses.items()):
            record = running.get(attempt.number)
            is_current = record is not None and attempt.attempt == record.attempt
            if record is None or not is_current or not record.has_attempt:
                self._drop_stale(attempt, status)
                continue
            if attempt not in self._launched:
                self._launched.add(attempt)
                self._observer.launched(record)
            if status.points:
                self._take_points(record, status.points)
            if status.state is AttemptState.ENDED:
                changed |= self._take_end(record, attempt, status)
            elif attempt not in self._stopping:
                self._end_early(record, attempt, status)
            if status.state is AttemptState.PENDING and status.reason:
                self._add_note(f"Trial {attempt.number} waits: {status.reason}")
        return changed

    def _drop_stale(self, attempt: AttemptId, status: AttemptStatus) -> None:
        """End what no longer counts: its trial is finished, or a newer attempt has replaced it."""
        if status.state is AttemptState.ENDED:
            self._forget(attempt)
        else:
            self._stop(attempt, Cause.CANCELLED, "A newer attempt of this trial counts.")

    def _take_points(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        latest = self._last_metrics.setdefault(_newest(record), {})
        latest.update((point.name, point.value) for point in points)
        self._curves[_newest(record)] = self._curve(record).extended(points, self._spec)
        self._study.report(record.number, points, record)
        self._mirror.points(record, points)
        self._observer.reported(record, points)

    def _take_end(self, record: TrialRecord, attempt: AttemptId, status: AttemptStatus) -> bool:
        """Judge an ended attempt; return whether that could be done now."""
        assert status.outcome is not None, "an ended attempt has an outcome"
        if status.started_at is not None and self._reads_tracker(record):
            self._read_points(
                record, status
            )  # what came after the last look, and all of it unpruned
        outcome = self._with_tracked_metrics(record, attempt, status)
        if outcome is None:
            return False
        curve = self._curve(record)
        if record.attempt > 1:
            curve = curve.begun_at(self._study.first_step(record.number))
        outcome = apply_curve(self._spec, outcome, curve)
        verdict = judge(self._spec, outcome, _n_waits(record, outcome))
        if status.missed_nodes:
            self._pardon(status.missed_nodes)
        if status.blocks_study:
            self._block(record, outcome.message)
        elif verdict.state is None and self._is_cancelling:
            self._record(record, _CANCELLED, {}, status)
        elif verdict.state is None:
            self._retry(record, verdict, status)
        else:
            self._record(record, verdict, outcome.metrics, status)
        self._forget(attempt)
        return True

    def _with_tracked_metrics(
        self, record: TrialRecord, attempt: AttemptId, status: AttemptStatus
    ) -> Outcome | None:
        """Let what a script logged by itself stand in for the outcome it did not give.

        What was said and refused is never replaced: the script may have meant any other value.

        Returns:
            The outcome; `None` when the tracker is away, and is to be asked again.
        """
        outcome = status.outcome
        assert outcome is not None, "an ended attempt has an outcome"
        if not outcome.is_silent:
            return outcome
        names, reported = self._spec.metrics, self._last_metrics.get(attempt, {})
        logged = LoggedRuns()
        if not all(name in reported for name in names):
            logged = self._mirror.read_runs(record, names, status.started_at)
            if logged.is_away:
                if self._is_cancelling:
                    return replace(outcome, cause=Cause.CANCELLED, message=_CANCELLED.message)
                since = self._unread_since.setdefault(attempt, self._clock())
                if self._clock() - since < self._settings.tracker_patience_seconds:
                    self._add_note(
                        f"Trial {record.number} has ended. What it logged is in MLflow, which does "
                        "not answer."
                    )
                    return None
        self._unread_since.pop(attempt, None)
        readings = read_metrics(names, logged, reported)
        found = {r.name: r.value for r in readings if r.value is not None}
        if len(found) < len(names):
            message = describe(outcome.message, record.number, readings, logged)
            return replace(outcome, message=message[:MESSAGE_LIMIT_CHARS])
        return replace(
            outcome,
            cause=Cause.OK,
            metrics=found,
            message="The script called no finish(); the last logged values were taken.",
            is_silent=False,
        )

    def _retry(
        self, record: TrialRecord, verdict: Verdict, status: AttemptStatus | None = None
    ) -> None:
        backoff = self._spec.retry.backoff_seconds * 2.0 ** min(record.attempt - 1, 64)
        is_noted = self._study.end_attempt(
            record.number,
            record.attempt,
            verdict,
            trained_seconds=_seconds(status),
            node=None if status is None else status.node,
            ended_at=None if status is None else status.ended_at,
            seen=record,
        )
        if not is_noted:
            _log.info("trial=%d attempt=%d was replaced", record.number, record.attempt)
            return
        pause = min(backoff, MAX_BACKOFF_SECONDS)
        self._retry_at[record.number] = self._clock() + pause
        self._last_metrics.pop(_newest(record), None)
        self._curves.pop(_newest(record), None)
        _log.info(
            "trial=%d attempt=%d lost cause=%s: %s",
            record.number,
            record.attempt,
            verdict.cause,
            verdict.message,
        )
        self._observer.attempt_lost(
            record,
            f"{verdict.cause}: {verdict.message} Attempt {record.attempt + 1} in {pause:.3g} s.",
        )

    def _record(
        self,
        record: TrialRecord,
        verdict: Verdict,
        metrics: Mapping[str, float],
        status: AttemptStatus | None = None,
    ) -> None:
        node = None if status is None else status.node
        told = self._study.tell(record.number, verdict, metrics, _seconds(status), node, record)
        self._last_metrics.pop(_newest(record), None)
        self._curves.pop(_newest(record), None)
        self._retry_at.pop(told.number, None)
        if not told.state.is_finished:
            _log.info("trial=%d attempt=%d was replaced", told.number, record.attempt)
            return
        _log.info(
            "trial=%d state=%s cause=%s values=%s", told.number, told.state, told.cause, told.values
        )
        self._mirror.finish_trial(told)
        self._observer.recorded(told)

    def _block(self, record: TrialRecord, message: str) -> None:
        """Withdraw a trial that could not start, and start no other: each would fail alike.

        Nothing of it ran, so it costs no budget.
        """
        self._blocked = message
        verdict = Verdict(Cause.CANCELLED, TrialState.FAILED, f"It could not start. {message}")
        self._record(record, verdict, {})

    def _withdraw_unlaunched(self, statuses: Mapping[AttemptId, AttemptStatus]) -> bool:
        """Withdraw the trials of a blocked study that wait for an attempt."""
        waiting = [
            record
            for record in self._study.running()
            if (_newest(record) not in statuses or not record.has_attempt)
            and not self._leases.is_elsewhere(record)
        ]
        for record in waiting:
            self._block(record, self._blocked or "")
        return bool(waiting)

    # ---- pruning ----------------------------------------------------------------------------

    def _end_early(self, record: TrialRecord, attempt: AttemptId, status: AttemptStatus) -> None:
        """Stop an attempt that has diverged, or that the pruner gives up."""
        if self._is_cancelling:
            return
        has_pruner = self._spec.pruner.type != "none"
        if has_pruner:
            self._look_at_tracker(record, status)
        if self._curve(record).has_diverged(self._spec):
            reason = describe_divergence(self._spec, self._curve(record))
            self._stop(attempt, Cause.NAN, reason)
        elif (
            has_pruner
            and self._study.should_prune(record.number)
            and not self._is_at_its_end(record.number)
        ):
            newest = self._study.record(record.number)
            step = max(newest.intermediate)
            metric = self._spec.objectives[0].metric
            self._stop(
                attempt,
                Cause.PRUNED,
                f"Pruned by {self._spec.pruner.type} at step {step} with "
                f"{metric}={newest.intermediate[step]:g}.",
            )

    def _curve(self, record: TrialRecord) -> Curve:
        return self._curves.get(_newest(record), Curve())

    def _is_at_its_end(self, number: int) -> bool:
        """Whether a running trial has reported its last step: its result comes next."""
        record = self._study.record(number)
        reported = (*record.intermediate, self._curve(record).last_step or 0)
        last = last_step_of(self._spec, self._study.records())
        return last is not None and max(reported) >= last

    def _reads_tracker(self, record: TrialRecord) -> bool:
        """Whether a trial's reports have to be looked for in MLflow."""
        if not self._executor.brings_points:
            return True
        has_pruner = self._spec.pruner.type != "none"
        return has_pruner and _newest(record) not in self._last_metrics

    def _look_at_tracker(self, record: TrialRecord, status: AttemptStatus) -> None:
        """Take in what a script logs straight to MLflow, once in a while."""
        now = self._clock()
        if now < self._tracker_read_at.get(record.number, now):
            return
        first_look = record.number not in self._tracker_read_at
        self._tracker_read_at[record.number] = now + self._settings.tracker_poll_seconds
        if first_look or _newest(record) in self._last_metrics:
            return  # the SDK's reports arrive by themselves
        self._read_points(record, status)

    def _read_points(self, record: TrialRecord, status: AttemptStatus) -> None:
        points = self._points_of_attempt(record, status, self._spec.objectives[0].metric)
        if points:  # all of them, so nothing is added up; none while MLflow is away
            self._curves[_newest(record)] = Curve().extended(points, self._spec)
        self._study.report(record.number, points, record)

    def _points_of_attempt(
        self, record: TrialRecord, status: AttemptStatus, metric: str
    ) -> Sequence[MetricPoint]:
        """Return what the newest attempt logged of a metric: all attempts share the trial's run.

        The points and the start are of one machine's clock: where the script ran.
        """
        points = self._mirror.read_points(record, metric)
        if record.attempt <= 1:
            return points
        began_ms = math.inf if status.started_at is None else math.floor(1000 * status.started_at)
        return [point for point in points if point.timestamp_ms >= began_ms]

    # ---- launching --------------------------------------------------------------------------

    def _relaunch(self, statuses: Mapping[AttemptId, AttemptStatus]) -> bool:
        """Launch running trials without a live attempt: retries, and what a dead runner left."""
        changed = False
        for record in self._study.running():
            is_seen = _newest(record) in statuses and record.has_attempt
            if is_seen or self._leases.is_elsewhere(record):
                continue
            if record.has_attempt and _newest(record) in self._launched:
                self._take_loss(record, _DISAPPEARED)
                continue
            if record.has_attempt and record.holder not in (None, self._executor.site):
                self._take_loss(record, f"Nothing more was heard of {record.holder}, where it ran.")
                continue
            has_slot = record.has_attempt or self._has_slot()
            if self._clock() < self._retry_at.get(record.number, 0.0) or not has_slot:
                continue
            if self._is_refused:
                break
            attempt = record.attempt if record.has_attempt else record.attempt + 1
            try:
                whole = self._study.complete_suggestion(
                    record.number, self._executor.site, seen=record
                )
            except TrialTaken as error:
                _log.info("%s", error)
                continue
            changed |= self._launch(whole, attempt)
        return changed

    def _take_loss(self, record: TrialRecord, message: str) -> None:
        """Treat an attempt that the executor does not know as lost."""
        lost = Outcome(self._spec.name, record.number, record.attempt, Cause.LOST, {}, message)
        verdict = judge(self._spec, lost, _n_waits(record, lost))
        if verdict.state is None:
            self._retry(record, verdict)
        else:
            self._record(record, verdict, {})

    def _fill_slots(self) -> bool:
        changed = False
        # Refused: a suggestion made now would know less than one made when there is a place to run.
        while (
            not self._is_refused
            and not self._waits_for_room
            and self._has_slot()
            and self._study.room() > 0
        ):
            record = self._study.ask(self._executor.site)
            if record is None:
                break
            changed = True
            self._launch(record, 1)
        is_parallel = self._spec.budget.max_parallel_trials > 1
        if is_parallel and not self._canary.is_proven and self._study.room() > 0:
            self._add_note(
                "One trial goes ahead alone; others follow once its script has run for "
                f"{self._executor.canary_seconds:g} s or has reported a value."
            )
        return changed

    def _has_slot(self) -> bool:
        slots = self._executor.slots
        begun = [record for record in self._study.running() if record.has_attempt]
        here = [record for record in begun if record.holder in (None, self._executor.site)]
        return (
            len(begun) < self._spec.budget.max_parallel_trials
            and (slots is None or len(here) < slots)
            and (self._canary.is_proven or not here)
        )

    def _n_live(self) -> int:
        """Return how many running trials have an attempt that this runner launched or adopted."""
        return sum(
            record.has_attempt and _newest(record) in self._launched
            for record in self._study.running()
        )

    def _begin(self, record: TrialRecord, attempt: int) -> TrialRecord | None:
        """Note that an attempt is about to be launched.

        Whoever finds one attempt too many after noting its own withdraws: of two runners that saw
        the last slot, one takes it in a later turn.

        Returns:
            The trial; `None` when the attempt may not be launched now.
        """
        site = self._executor.site
        begun = self._study.begin_attempt(record.number, attempt, site, seen=record)
        if begun.state.is_finished or (begun.attempt, begun.holder) != (attempt, site):
            return None  # another runner was first
        n_begun = sum(other.has_attempt for other in self._study.running())
        if n_begun > self._spec.budget.max_parallel_trials and not record.has_attempt:
            self._study.withdraw_attempt(record.number, attempt, begun)
            return None
        return begun

    def _launch(self, record: TrialRecord, attempt: int) -> bool:
        """Start an attempt; return whether anything came of it."""
        begun = self._begin(record, attempt)
        if begun is None:
            return False
        record = begun
        self._keep_spec(is_new=not self._has_kept_spec)
        tracking = self._mirror.open_trial(record)
        if tracking is not None:
            self._study.set_run_id(record.number, tracking.run_id, seen=record)
            record = replace(record, run_id=tracking.run_id)
        trial = Trial(
            study=self._spec.name,
            number=record.number,
            attempt=attempt,
            params=record.params,
            budget=self._spec.trial.budget,
            metrics=self._spec.metrics,
            tracking=tracking,
        )
        try:
            avoid = nodes_to_avoid(record, self._nodes)
            submitted = self._executor.submit(trial, avoid=avoid)
        except ExecutorUnavailable as error:
            self._is_refused = True
            self._add_note(str(error))
            return False
        except ExecutorBlocked as error:
            self._is_refused = True
            self._block(record, str(error))
            return True
        except ExecutorError as error:
            self._is_refused = True  # the stop rules see this failure before another trial follows
            self._record(record, Verdict(Cause.USER_ERROR, TrialState.FAILED, str(error)), {})
            return True
        self._retry_at.pop(record.number, None)
        self._launched.add(submitted)
        _log.info("trial=%d attempt=%d launched params=%s", record.number, attempt, record.params)
        self._observer.launched(record)
        return True

    def _keep_spec(self, *, is_new: bool) -> None:
        """Keep this run's study file with the study, now that the run has done something."""
        is_shared = bool(self._leases.others) or self.is_joined
        kept = self._study.keep_spec(is_shared=is_shared, is_new=is_new)
        self._has_kept_spec = True
        if kept is not None:
            self._on_spec(kept)

    def _stop(self, attempt: AttemptId, cause: Cause, reason: str) -> None:
        if attempt in self._stopping:
            return
        try:
            self._executor.stop(attempt, cause, reason)
        except ExecutorUnavailable as error:
            self._add_note(str(error))  # the next turn finds it running and tries again
        except ExecutorBlocked as error:
            self._stopping.add(attempt)  # refused once is refused again
            self._lose_right(error)
        else:
            self._stopping.add(attempt)

    def _forget(self, attempt: AttemptId) -> None:
        if attempt in self._left_behind:
            return
        try:
            self._executor.forget(attempt)
        except ExecutorUnavailable as error:
            self._unforgotten.add(attempt)
            self._add_note(str(error))  # the next turn finds it stale and tries again
        except ExecutorBlocked as error:
            self._left_behind.add(attempt)
            self._lose_right(error)
        else:
            self._forgotten.add(attempt)
            self._unforgotten.discard(attempt)

    def _lose_right(self, error: ExecutorBlocked) -> None:
        """Start no further trial once attempts cannot be ended; those that run go on."""
        if self._blocked is None:
            self._blocked = str(error)
            self._add_note(str(error))

    # ---- ending and showing -----------------------------------------------------------------

    def _reason_to_stop(self) -> TunerResult | None:
        if self._blocked is not None:
            return TunerResult(self._blocked, is_finished=False, is_failure=True)
        records = self._study.records()
        barred = {known.node for known in self._nodes if known.is_barred}
        early: StopReason | None = stop_reason(self._spec, records, self._finished_before, barred)
        if early is not None:
            return TunerResult(early.message, is_finished=True, is_failure=early.is_failure)
        if self._n_counted() >= self._study.n_trials:
            if not best_records(records, self._spec.directions):
                fruitless = describe_fruitless(self._spec, records)
                return TunerResult(fruitless, is_finished=True, is_failure=True)
            n_taken = sum(record.is_taken_over for record in records)
            new, taken = (" new", f" ({n_taken} were taken over)") if n_taken else ("", "")
            return TunerResult(
                f"All {self._n_counted()}{new} trials are finished{taken}.", is_finished=True
            )
        limit = self._spec.budget.timeout_seconds
        if limit is not None and self._clock() - self._started - self._paused_seconds >= limit:
            if not best_records(records, self._spec.directions):
                fruitless = describe_fruitless(self._spec, records, time_is_up=True)
                return TunerResult(fruitless, is_finished=False, is_failure=True)
            return TunerResult(f"{describe_time_limit(self._spec)}.", is_finished=False)
        return None

    def _n_counted(self) -> int:
        return sum(is_counted(record) for record in self._study.records())

    def _add_note(self, note: str) -> None:
        if note not in self._notes:
            self._notes.append(note)
            if note not in self._said:
                self._observer.noted(note)

    def _show_progress(self, *, force: bool) -> None:
        now = self._clock()
        if not force and now < self._progress_at + PROGRESS_SECONDS:
            return
        self._progress_at = now
        records = self._study.records()
        n_finished = sum(is_counted(record) for record in records)
        n_new, elapsed = n_finished - len(self._finished_before), now - self._started
        left = self._study.n_trials - n_finished
        self._observer.progressed(
            Progress(
                study=self._spec.name,
                n_finished=n_finished,
                n_trials=self._study.n_trials,
                running=tuple(r for r in records if r.state is TrialState.RUNNING),
                best=best_records(records, self._spec.directions),
                elapsed_seconds=elapsed,
                remaining_seconds=elapsed / n_new * left if n_new > 0 else None,
                note=" ".join(self._notes[:3]),
                is_paused=self._is_paused,
            )
        )


def _newest(record: TrialRecord) -> AttemptId:
    return AttemptId(record.number, record.attempt)


def _enumerated(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def _n_waits(record: TrialRecord, outcome: Outcome) -> int:
    """Return how many attempts of a trial found no place, with the one that has just ended."""
    causes = (*(lost.cause for lost in record.lost_attempts), outcome.cause)
    return sum(cause.consequence is Consequence.WAIT for cause in causes)


def _seconds(status: AttemptStatus | None) -> float | None:
    """Return how long an ended attempt's script ran."""
    if status is None or status.started_at is None or status.ended_at is None:
        return None
    return max(status.ended_at - status.started_at, 0.0)
