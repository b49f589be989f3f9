"""The files of one attempt: an executor knows where they are, a tracker is sent them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class AttemptFiles:
    """What an attempt left behind, as far as it can be reached from here."""

    log: Path | None = None
    """Standard output and standard error in one file."""
    artifacts: tuple[Path, ...] = ()
    """Files for the trial's MLflow run; folders stand for all they hold."""
    metrics: Path | None = None
    """All reported metrics, one `MetricPoint` a line."""
    metrics_key: str | None = field(default=None, repr=False)
    """Key whose seal each of these lines must have; `None` to take any line."""
    extra: Mapping[str, Path] = field(default_factory=dict)
    """Documents of the executor's own, by name, for who looks into an attempt that went wrong."""
