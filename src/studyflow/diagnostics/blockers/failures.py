"""What the trials went through: lost attempts, failures, parameters that make them infeasible."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from studyflow.diagnostics.blockers.thresholds import MIN_TRIALS, MUCH_WAITING_SECONDS, shown
from studyflow.diagnostics.failure_regions import common_region
from studyflow.diagnostics.snapshot import Snapshot
from studyflow.diagnostics.throughput import RECENT_TRIALS
from studyflow.executors.registry import executor_kind
from studyflow.reasons import Code, Finding, Level, ReasonCode
from studyflow.reports.wording import plural, seconds
from studyflow.spec import StudySpec
from studyflow.study import failure_signature
from studyflow.study.attempt_count import count_attempts
from studyflow.trial import Cause, Consequence
from studyflow.trial.record import TrialState

_AGAINST_LOSS: Final = {
    Cause.PREEMPTED: "give trials a trial.kubernetes.priority_class",
    Cause.EVICTED: "ask for the memory that a trial takes (trial.resources.memory)",
    Cause.NODE_LOST: "look at the nodes: kubectl get nodes",
    Cause.IMAGE_PULL: "pull the image onto the nodes before, or from a nearer registry",
}


def lost_attempts(snapshot: Snapshot, spec: StudySpec) -> Iterator[Finding]:
    """Yield that the infrastructure took many attempts away."""
    lost = [(record, attempt) for record in snapshot.records for attempt in record.lost_attempts]
    n, n_trials = len(lost), len(snapshot.counted)
    most = max((count_attempts(r.followed_attempts).n + 1 for r in snapshot.running), default=0)
    is_much = n >= MIN_TRIALS and (2 * n >= n_trials or 2 * most > spec.retry.max_attempts)
    if not is_much:
        return
    cause, n_of_cause = Counter(attempt.cause for _, attempt in lost).most_common(1)[0]
    record, last = next(found for found in reversed(lost) if found[1].cause is cause)
    remedy = _AGAINST_LOSS.get(cause, "look at the place where trials run")
    keeps = (
        ""
        if spec.trial.kubernetes.checkpoints or executor_kind(snapshot.executor).shares_files
        else "; with trial.kubernetes.checkpoints a repeated attempt goes on where the last one was"
    )
    yield Finding(
        Code.ATTEMPTS_LOST,
        Level.WARNING,
        "lost attempts",
        f"{plural(n, 'attempt')} were lost to the infrastructure, beside "
        f"{plural(n_trials, 'finished trial')}; {n_of_cause} of them as {cause}.",
        f"{remedy}{keeps}.",
        (
            f"Trial {record.number}, attempt {last.attempt}: {shown(last.message)}",
            *_brought_further(snapshot),
        ),
    )


def _brought_further(snapshot: Snapshot) -> Iterator[str]:
    """Yield which trials are given up later because lost attempts brought them further."""
    for record in snapshot.records:
        count = count_attempts(record.followed_attempts)
        if count.step is not None:
            yield (
                f"Trial {record.number}, attempt {count.since}: it brought the trial to step "
                f"{count.step}, so retry.max_attempts counts from it."
            )


def failed_alike(snapshot: Snapshot, _: StudySpec) -> Iterator[Finding]:
    """Yield that most trials fail in one way."""
    recent = snapshot.counted[-RECENT_TRIALS:]
    failed = [r for r in recent if r.cause and r.cause.consequence is Consequence.FAIL]
    if not failed:
        return
    signatures = Counter(map(failure_signature, failed))
    signature, n = signatures.most_common(1)[0]
    if n < MIN_TRIALS or 2 * n < len(recent):
        return
    last = next(r for r in reversed(failed) if failure_signature(r) == signature)
    text = f"{n} of the last {len(recent)} trials failed alike ({last.cause}): {last.message}"
    yield Finding.because(
        Level.WARNING,
        "failures",
        replace(last.reason, message=shown(text)),
        hint=f"studyflow logs {snapshot.name} {last.number} shows how it ended; fix the script.",
    )


@dataclass(frozen=True, slots=True)
class FailureKind:
    """How trials end whose parameters are to blame."""

    code: ReasonCode
    subject: str
    causes: frozenset[Cause]
    ended: str
    """What became of them, in the past tense."""
    hint: str
    share: float
    """From which share of the recent trials on it is told."""


FAILURE_KINDS: Final = (
    FailureKind(
        Code.MEMORY_SHORT,
        "memory",
        frozenset({Cause.HOST_OOM, Cause.CUDA_OOM}),
        "ran out of memory",
        "the sampler learns to avoid such trials; narrow the search space to spare them, or raise "
        "trial.resources.memory (host-oom) or take a larger GPU (cuda-oom).",
        0.2,
    ),
    FailureKind(
        Cause.TIMEOUT,
        "time limit",
        frozenset({Cause.TIMEOUT}),
        "ran into trial.timeout_seconds",
        "raise trial.timeout_seconds, or train for fewer steps (trial.budget).",
        0.3,
    ),
    FailureKind(
        Cause.NAN,
        "diverged",
        frozenset({Cause.NAN}),
        "diverged (nan)",
        "the sampler learns to avoid such trials; narrow the search space to spare them.",
        0.3,
    ),
)


def infeasible_parameters(snapshot: Snapshot, _: StudySpec) -> Iterator[Finding]:
    """Yield how parameters make trials infeasible, and which parameters these are."""
    recent = snapshot.counted[-RECENT_TRIALS:]
    for kind in FAILURE_KINDS:
        affected = [record for record in recent if record.cause in kind.causes]
        if len(affected) < MIN_TRIALS or len(affected) < kind.share * len(recent):
            continue
        of_all = [record for record in snapshot.counted if record.cause in kind.causes]
        others = [record for record in snapshot.counted if record.cause not in kind.causes]
        region = common_region([r.params for r in of_all], [r.params for r in others])
        where = "."
        if region is not None:
            where = (
                f"; {region.n_inside} of the {len(of_all)} in all had {region.condition}, as "
                f"{'none' if not region.n_others else region.n_others} of the others."
            )
        who = (
            f"Every one of the last {len(recent)} trials"
            if len(affected) == len(recent)
            else f"{len(affected)} of the last {len(recent)} trials"
        )
        causes = ", ".join(sorted({str(record.cause) for record in affected}))
        yield Finding(
            kind.code,
            Level.WARNING,
            kind.subject,
            f"{who} {kind.ended}{where}",
            kind.hint,
            (f"Ended as {causes}; the last one is trial {affected[-1].number}.",),
        )


def stragglers(snapshot: Snapshot, spec: StudySpec) -> Iterator[Finding]:
    """Yield the running trials that take much longer than the others did."""
    durations = [
        r.duration_seconds
        for r in snapshot.counted
        if r.state is TrialState.COMPLETE and r.duration_seconds is not None
    ]
    if len(durations) < MIN_TRIALS:
        return
    usual = statistics.median(durations)
    limit = max(3 * usual, 1.5 * max(durations), MUCH_WAITING_SECONDS)
    pending = {p.attempt.number for p in snapshot.cluster.pending} if snapshot.cluster else set()
    for record in snapshot.running:
        age = snapshot.now - (record.started_at or snapshot.now) - record.lost_seconds
        if age <= limit or record.number in pending or not snapshot.is_driven:
            continue
        timeout = spec.trial.timeout_seconds
        ends = (
            "no trial.timeout_seconds would end it"
            if timeout is None
            else f"trial.timeout_seconds ({seconds(timeout)}) ends each attempt"
        )
        yield Finding(
            Code.STRAGGLER,
            Level.WARNING,
            "straggler",
            f"Trial {record.number} is under way for {seconds(age)}; the others took "
            f"{seconds(usual)}.",
            f"studyflow logs {snapshot.name} {record.number} -f shows what it does; {ends}.",
        )
