"""How the study is set up: its sampler, its pruner, and how many trials run at once."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from studyflow.diagnostics.blockers.thresholds import (
    MIN_TRIALS,
    MUCH_WAITING_SECONDS,
    SLOW_READ_SECONDS,
)
from studyflow.diagnostics.snapshot import Snapshot
from studyflow.diagnostics.throughput import RECENT_TRIALS, suggestion_seconds, typical_seconds
from studyflow.executors.registry import executor_kind
from studyflow.reasons import Code, Finding, Level
from studyflow.reports.wording import number, plural, seconds
from studyflow.spec import StudySpec
from studyflow.trial.record import TrialState


def slow_suggestions(snapshot: Snapshot, spec: StudySpec) -> Iterator[Finding]:
    """Yield that suggestions take longer than the trials leave time for."""
    recent = snapshot.counted[-RECENT_TRIALS:]
    times = [t for r in recent if (t := suggestion_seconds(r)) is not None]
    trial = typical_seconds(recent)
    if len(times) < MIN_TRIALS or trial is None:
        return
    suggestion = statistics.median(times)
    if suggestion < SLOW_READ_SECONDS or suggestion * snapshot.allowed <= trial:
        return
    busy = max(1.0, trial / suggestion)
    yield Finding(
        Code.SUGGESTIONS_SLOW,
        Level.WARNING,
        "suggestions",
        f"A suggestion takes {seconds(suggestion)} and a trial {seconds(trial)}: suggested one "
        f"after another, {number(busy, 2)} of {plural(snapshot.allowed, 'trial')} at once can be "
        "kept running.",
        f"another sampler than {spec.sampler.type} suggests faster (--sampler tpe); or let each "
        "trial do more.",
    )


def slow_starts(snapshot: Snapshot, _: StudySpec) -> Iterator[Finding]:
    """Yield that trials spend most of their time before their script begins."""
    recent = [
        r
        for r in snapshot.counted[-RECENT_TRIALS:]
        if r.trained_seconds is not None and r.started_at is not None and r.finished_at is not None
    ]
    if len(recent) < MIN_TRIALS:
        return
    waits, wholes = [], []
    for record in recent:
        whole = (record.finished_at or 0.0) - (record.started_at or 0.0)
        worked = (record.trained_seconds or 0.0) + record.lost_seconds
        waits.append(max(whole - worked - (suggestion_seconds(record) or 0.0), 0.0))
        wholes.append(whole)
    wait, whole = statistics.median(waits), statistics.median(wholes)
    if wait < MUCH_WAITING_SECONDS or 2 * wait < whole:
        return
    yield Finding(
        Code.STARTS_SLOW,
        Level.WARNING,
        "waiting",
        f"Of the {seconds(whole)} from asking for a trial to its result, {seconds(wait)} pass "
        "without its script running.",
        executor_kind(snapshot.executor).long_wait_hint,
    )


def never_pruned(snapshot: Snapshot, spec: StudySpec) -> Iterator[Finding]:
    """Yield that the pruner has nothing to judge by."""
    if spec.pruner.type == "none":
        return
    ended = [r for r in snapshot.counted if r.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    if len(ended) < MIN_TRIALS or any(r.intermediate for r in snapshot.records):
        return
    metric = spec.objectives[0].metric
    yield Finding(
        Code.NEVER_PRUNED,
        Level.WARNING,
        "pruning",
        f"The pruner {spec.pruner.type} never prunes: no trial reported {metric} while it ran.",
        f"call sdk.report(step, {metric}=...) in the training loop, by that very name.",
    )


def parallelism(snapshot: Snapshot, spec: StudySpec) -> Iterator[Finding]:
    """Yield what bounds the number of trials at once."""
    wanted = spec.budget.max_parallel_trials
    if snapshot.slots is not None and snapshot.slots < wanted:
        yield Finding(
            Code.PARALLELISM_LIMITED,
            Level.NOTE,
            "parallelism",
            f"{snapshot.slots} of {wanted} trials at once find GPUs on this machine, with "
            f"{plural(spec.trial.resources.gpu, 'GPU')} for each.",
            "trial.resources.gpu says what each one gets; CUDA_VISIBLE_DEVICES may hide some.",
        )
        return
    left = snapshot.n_left
    has_more = left is None or left > wanted
    if snapshot.is_driven and has_more and len(snapshot.running) >= wanted:
        allowed = "" if left is None else f", and {left} are left"
        yield Finding(
            Code.PARALLELISM_LIMITED,
            Level.NOTE,
            "parallelism",
            f"It runs {plural(wanted, 'trial')} at once, as many as budget.max_parallel_trials "
            f"allows{allowed}.",
            f"{snapshot.run_command} --max-parallel-trials {2 * wanted}, where there is room for "
            "them.",
        )
