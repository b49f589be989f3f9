"""What always holds of a study, checked from what it left in storage, tracker and executor.

The numbers are those of `docs/reliability.md`. Each check is a pure function of `Evidence`; what
cannot be seen from there (an exit code, a log that is gone) is left to the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from studyflow.errors import ExecutorError, TrackingError
from studyflow.executors import AttemptId, AttemptState, AttemptStatus, Executor
from studyflow.ledger import all_rows
from studyflow.ledger.limits import Recorded, limits_of
from studyflow.reasons import Code, Finding, Level
from studyflow.redaction import Redactor
from studyflow.spec import StudySpec
from studyflow.study import is_counted, n_trials_to_finish
from studyflow.tracking import Tracker
from studyflow.trial import Consequence
from studyflow.trial.record import TrialRecord, TrialState


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a study at one moment."""

    spec: StudySpec
    records: tuple[TrialRecord, ...]
    attempts: Mapping[AttemptId, AttemptStatus] | None = None
    """What the executor knows; `None` when it was not asked, or does not answer."""
    shown: Mapping[int, Mapping[str, float]] | None = None
    """The last metrics of each trial that the tracker calls complete; `None` as above."""
    is_driven: bool = False
    """Whether a runner is at work, so that what is in flight says nothing."""
    redact: Redactor = field(default_factory=Redactor)
    """Finds what must not stand in anything that is kept."""
    unseen: Mapping[str, str] = field(default_factory=dict)
    """Why there are no `attempts` or nothing `shown`, by these names."""


def gather(
    spec: StudySpec,
    records: Sequence[TrialRecord],
    *,
    executor: Executor | None = None,
    tracker: Tracker | None = None,
    is_driven: bool = False,
    redact: Redactor | None = None,
) -> Evidence:
    """Ask executor and tracker about a study; one that does not answer is left out.

    Args:
        spec: The study.
        records: Its trials, as the storage has them.
        executor: Where its attempts run.
        tracker: Where it is shown.
        is_driven: Whether a runner is at work on it.
        redact: Finds the passwords and tokens that this process knows.
    """
    unseen = {}
    attempts: Mapping[AttemptId, AttemptStatus] | None = None
    shown: Mapping[int, Mapping[str, float]] | None = None
    if executor is not None:
        try:
            attempts = executor.poll()
        except ExecutorError as error:
            unseen["attempts"] = str(error)
    if tracker is not None:
        try:
            complete = tracker.finished_trials()
            by_number = {record.number: record for record in records}
            shown = {
                number: tracker.read_latest(by_number[number]) if number in by_number else {}
                for number in complete
            }
        except TrackingError as error:
            unseen["shown"] = str(error)
    return Evidence(
        spec,
        tuple(records),
        attempts,
        shown,
        is_driven=is_driven,
        redact=redact or Redactor(),
        unseen=unseen,
    )


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Return every invariant and what breaks it."""
    return tuple(
        _find(evidence, invariant, promise, needs, problems)
        for invariant, promise, needs, problems in _INVARIANTS
    )


def _find(
    evidence: Evidence,
    invariant: str,
    promise: str,
    needs: str,
    problems: Callable[[Evidence], Iterator[str]],
) -> Finding:
    if needs and getattr(evidence, needs) is None:
        why = evidence.unseen.get(needs, "nobody was asked.")
        return Finding(Code.PROMISE_UNCHECKED, Level.NOTE, invariant, promise, evidence=(why,))
    found = tuple(problems(evidence))
    if not found:
        return Finding.ok(invariant, promise)
    return Finding(Code.PROMISE_BROKEN, Level.PROBLEM, invariant, promise, evidence=found)


def discarded_gpu_seconds(evidence: Evidence) -> float:
    """Return how long GPUs worked for attempts that were lost, as far as that is known (I10)."""
    gpus = evidence.spec.trial.resources.gpu
    return gpus * sum(record.lost_seconds for record in evidence.records)


# ---- the invariants -----------------------------------------------------------------------------


def _unfinished(evidence: Evidence) -> Iterator[str]:
    numbers = [record.number for record in evidence.records]
    if numbers != list(range(len(numbers))):
        yield f"The trials are numbered {numbers}, not from 0 without a gap."
    for record in evidence.records:
        if record.state.is_finished and record.finished_at is None:
            yield f"Trial {record.number} is {record.state} and has no end."
        if record.state is not TrialState.RUNNING or evidence.is_driven or record.is_paused:
            continue
        current = AttemptId(record.number, record.attempt)
        if evidence.attempts is not None and current not in evidence.attempts:
            yield (
                f"Trial {record.number} is running, but no attempt of it exists and no runner is "
                "at work: run the study again, which goes on with it."
            )


def _over_budget(evidence: Evidence) -> Iterator[str]:
    limit = n_trials_to_finish(evidence.spec)
    if limit is None:
        return
    counted = sum(is_counted(record) for record in evidence.records)
    running = sum(record.state is TrialState.RUNNING for record in evidence.records)
    # A runner may be about to withdraw a trial that another one was first to.
    if counted > limit or (counted + running > limit and not evidence.is_driven):
        yield (
            f"{counted} trials count and {running} run, but budget.n_trials is {limit} (or was it "
            "larger in an earlier run?)."
        )


def _other_results(evidence: Evidence) -> Iterator[str]:
    metrics = [objective.metric for objective in evidence.spec.objectives]
    for record in evidence.records:
        if record.is_taken_over or record.state is not TrialState.COMPLETE:
            continue
        if record.is_lost:
            yield f"Trial {record.number} has a value of attempt {record.attempt}, which was lost."
        for metric, value in zip(metrics, record.values or (), strict=False):
            if metric in record.metrics and record.metrics[metric] != value:
                yield (
                    f"Trial {record.number} was told {metric}={value:g}, but finished with "
                    f"{record.metrics[metric]:g}."
                )
        status = (evidence.attempts or {}).get(AttemptId(record.number, record.attempt))
        if status is not None and status.outcome is not None and not evidence.is_driven:
            ended = status.outcome.metrics
            told = dict(zip(metrics, record.values or (), strict=False))
            if any(name in ended and ended[name] != value for name, value in told.items()):
                yield f"Trial {record.number} was told {told}, but its attempt ended with {ended}."


def _taught_wrongly(evidence: Evidence) -> Iterator[str]:
    n_objectives = len(evidence.spec.objectives)
    for record in evidence.records:
        cause = record.cause
        if cause is not None and cause.consequence is not Consequence.TELL and record.values:
            yield f"Trial {record.number} ended by {cause} and has a value."
        if cause is not None and cause.is_infrastructure and record.state is TrialState.COMPLETE:
            yield f"Trial {record.number} is complete, but ended by {cause}."
        if record.state is not TrialState.COMPLETE:
            continue
        values = record.values or ()
        if len(values) != n_objectives or not all(map(math.isfinite, values)):
            yield (
                f"Trial {record.number} is complete with {list(values)} for {n_objectives} "
                "objectives."
            )


def _left_behind(evidence: Evidence) -> Iterator[str]:
    if evidence.is_driven:
        return
    running = {r.number: r for r in evidence.records if r.state is TrialState.RUNNING}
    for attempt, status in sorted((evidence.attempts or {}).items()):
        record = running.get(attempt.number)
        if record is None:
            yield f"Attempt {attempt} of a finished trial is still there ({status.state})."
        elif attempt.attempt != record.attempt and status.state is not AttemptState.ENDED:
            yield f"Attempt {attempt} goes on, though attempt {record.attempt} replaced it."


def _too_many(evidence: Evidence) -> Iterator[str]:
    limit = evidence.spec.budget.max_parallel_trials
    running = {
        AttemptId(r.number, r.attempt) for r in evidence.records if r.state is TrialState.RUNNING
    }
    live = [
        attempt
        for attempt, status in (evidence.attempts or {}).items()
        if attempt in running and status.state is not AttemptState.ENDED
    ]
    if len(live) > limit:
        yield f"{len(live)} attempts run at once, but budget.max_parallel_trials is {limit}."


def _shown_wrongly(evidence: Evidence) -> Iterator[str]:
    shown = evidence.shown or {}
    metrics = [objective.metric for objective in evidence.spec.objectives]
    finished = {record.number: record for record in evidence.records if record.state.is_finished}
    unknown = sorted(shown.keys() - finished.keys())
    if unknown:
        yield f"The tracker shows trials {_listed(unknown)} as finished; the storage does not."
    missing = sorted(finished.keys() - shown.keys())
    if missing and not evidence.is_driven:
        yield f"The tracker lacks trials {_listed(missing)}: studyflow sync sends them."
    for number in sorted(finished.keys() & shown.keys()):
        for metric, value in zip(metrics, finished[number].values or (), strict=False):
            last = shown[number].get(metric)
            if last != value:
                yield (
                    f"The tracker shows trial {number} with {metric}="
                    f"{'nothing' if last is None else format(last, 'g')}, not {value:g}."
                )


def _leaked(evidence: Evidence) -> Iterator[str]:
    spans = evidence.redact.spans
    if spans(evidence.spec.to_yaml()):
        yield "The stored study file holds a password or token."
    for record in evidence.records:
        if spans(str(record.reason)) or spans(str(dict(record.params))):
            yield f"Trial {record.number} holds a password or token."


def _overspent(evidence: Evidence) -> Iterator[str]:
    limits = limits_of(evidence.spec)
    rows = all_rows(evidence.records, evidence.spec.trial.resources.gpu)
    for record in evidence.records if limits else ():
        begin = record.begin
        if begin is None or record.is_taken_over:
            continue
        # By the clock of the site that began it alone; of others' it had what it read.
        before = [
            row
            for row in rows
            if None not in (row.recorded_at, begin.at)
            and row.holder == record.holder
            and (row.recorded_at or 0.0) < (begin.at or 0.0)
        ]
        for kind, limit in limits.items():
            spent = Recorded().add(before).amount(kind, None)
            if begin.left.get(kind.value, limit) <= 0 or spent >= limit * (1 - 1e-9):
                yield (
                    f"Attempt {record.number}-{begin.attempt} began when budget.{kind} was spent "
                    f"({limit:g}; or was it larger in an earlier run?)."
                )


def _uncounted(evidence: Evidence) -> Iterator[str]:
    for record in evidence.records:
        yield from _unpaid(record)
        times = [ended.trained_seconds for ended in record.followed_attempts]
        if any((seconds or 0.0) < 0 for seconds in (record.trained_seconds, *times)):
            yield f"Trial {record.number} has an attempt that ran for less than no time."
        for row in record.costs:
            if not 0.0 <= row.lost_seconds <= row.seconds:
                yield (
                    f"Attempt {record.number}-{row.attempt} ran for {row.seconds:g} s, of which "
                    f"{row.lost_seconds:g} s are lost."
                )


def _unpaid(record: TrialRecord) -> Iterator[str]:
    """Yield paused attempts without a row in the ledger: each is paid for, and once."""
    rows = {row.attempt for row in record.costs}
    for paused in record.pauses:
        if paused.attempt not in rows:
            yield f"Attempt {record.number}-{paused.attempt} was paused and has no cost."


def _mixed(evidence: Evidence) -> Iterator[str]:
    for record in evidence.records:
        if record.leftovers:
            yield (
                f"Trial {record.number} is of attempt {record.attempt}, but another attempt left "
                f"{', '.join(record.leftovers)} with it."
            )
        if record.is_taken_over or record.state is not TrialState.COMPLETE:
            continue
        # Format 1 does not say which attempt wrote what, but a bound's violation follows from its
        # metric. A bound of other words is of an earlier study file.
        for constraint in evidence.spec.constraints:
            if constraint.metric not in record.metrics:
                continue
            value = record.metrics[constraint.metric]
            for name, violation in constraint.violations(value).items():
                stored = record.constraints.get(name, violation)
                rounding = 1e-9 * (abs(value) + abs(violation))  # a bound's name has 12 digits
                if abs(stored - violation) > rounding:
                    yield (
                        f"Trial {record.number} finished with {constraint.metric}={value:g}, but "
                        f"its violation of {name} is {stored:g}, not {violation:g}: that is of "
                        "another attempt."
                    )


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:10]))
    return f"{shown} and {len(numbers) - 10} more" if len(numbers) > 10 else shown


_INVARIANTS: Final[tuple[tuple[str, str, str, Callable[[Evidence], Iterator[str]]], ...]] = (
    ("I1", "Every trial has one final state, or an attempt, or is paused.", "", _unfinished),
    ("I2", "No more trials count than the budget allows.", "", _over_budget),
    ("I3", "Every result came from its trial's newest attempt.", "", _other_results),
    ("I4", "What the infrastructure did is no result.", "", _taught_wrongly),
    ("I5", "Nothing of a finished trial is left running.", "attempts", _left_behind),
    ("I6", "No more attempts run than are allowed at once.", "attempts", _too_many),
    ("I7", "The tracker shows what the storage holds.", "shown", _shown_wrongly),
    ("I8", "No password is kept with the study.", "", _leaked),
    ("I10", "Time spent on lost attempts is recorded.", "", _uncounted),
    ("I11", "Every record was made by one attempt.", "", _mixed),
    ("I12", "Only what was in flight exceeds the budget.", "", _overspent),
)
"""Number, promise, the evidence that is needed, and what breaks it. I9 (exit codes, and no stack
trace as the only message) leaves no trace in a study; the tests check it."""
