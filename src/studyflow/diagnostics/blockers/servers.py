"""Servers that do not answer, or answer slowly."""

from __future__ import annotations

from collections.abc import Iterator

from studyflow.diagnostics.blockers.thresholds import MIN_TRIALS, SLOW_READ_SECONDS
from studyflow.diagnostics.snapshot import Snapshot
from studyflow.reasons import Code, Finding, Level
from studyflow.reports.wording import plural, seconds


def storage(snapshot: Snapshot) -> Iterator[Finding]:
    """Yield that the storage does not answer, or that each read takes long."""
    state = snapshot.storage
    if state.absence is not None:
        yield Finding.because(Level.PROBLEM, "storage", state.absence)
    elif state.read_seconds >= SLOW_READ_SECONDS:
        yield Finding(
            Code.STORAGE_SLOW,
            Level.WARNING,
            "storage",
            f"One small read of the study storage {state.url} takes "
            f"{seconds(state.read_seconds)}, and a runner makes several in every turn.",
            "is its disk shared or busy? A PostgreSQL near the runner serves many at once "
            "(STUDYFLOW_STORAGE)."
            if state.is_file
            else "is the database overloaded, or far from the runner?",
        )


def cluster(snapshot: Snapshot) -> Iterator[Finding]:
    """Yield that the Kubernetes API does not answer, or refuses."""
    if snapshot.cluster_absence is not None:
        yield Finding.because(Level.PROBLEM, "cluster", snapshot.cluster_absence)


def mlflow(snapshot: Snapshot) -> Iterator[Finding]:
    """Yield that MLflow does not answer, or lacks finished trials."""
    state = snapshot.tracking
    if state is None:
        return
    sync = f"studyflow sync {snapshot.name} sends what it lacks"
    if state.absence is not None:
        hint = state.absence.hint
        yield Finding(
            state.absence.code,
            Level.WARNING,
            "MLflow",
            f"{state.absence.message.rstrip('.')}; trials go on, and their metrics by step, "
            "their pages and pruning wait for it.",
            f"{hint} Afterwards {sync}." if hint else f"{sync} when it is back.",
        )
    elif state.n_unsent and (
        not snapshot.is_driven or state.n_unsent > max(snapshot.allowed, MIN_TRIALS)
    ):
        yield Finding(
            Code.TRACKER_BEHIND,
            Level.NOTE,
            "MLflow",
            f"MLflow lacks {plural(state.n_unsent, 'finished trial')} of it, in whole or in part.",
            f"{sync}.",
        )


def prefect(snapshot: Snapshot) -> Iterator[Finding]:
    """Yield that Prefect's server does not answer."""
    if snapshot.prefect_absence is not None:
        yield Finding.because(Level.NOTE, "Prefect", snapshot.prefect_absence)
