"""What a run is given besides the study file and the settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from studyflow.executors import ExecutorWithLogs
from studyflow.runner.result import StudyResult
from studyflow.tuner import TunerSettings


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run is given besides the study file and the settings."""

    folder: Path
    """Folder that relative paths in `trial.command` start from."""
    fork_from: str | None = None
    """Study whose trials a new one takes over; `None` for none."""
    retries_failed: bool = False
    """Whether trials that failed have their budget back, and their parameters are tried again."""
    tuner: TunerSettings = field(default_factory=TunerSettings)
    """Numbers of the loop."""
    on_executor: Callable[[ExecutorWithLogs], None] | None = None
    """Is given the executor before the first trial, for reading logs."""
    on_interrupted: Callable[[StudyResult], None] = lambda _result: None
    """Is given the study as far as it came when the runner is told to end; not called if it could
    not be closed."""
    ends_trials: Callable[[], bool] = lambda: True
    """Asked when the runner is told to end: whether its trials end with it."""
    leaves: Callable[[], bool] = lambda: False
    """Asked all the time: whether to start nothing more, and to leave when the running trials have
    ended."""
