"""A study as a runner left it."""

from __future__ import annotations

from dataclasses import dataclass

from studyflow.reports import Report, StudyData
from studyflow.runner.log_tail import LogTail
from studyflow.spec import StudySpec
from studyflow.tracking.memory import URI as MEMORY_URI
from studyflow.tuner import TunerResult


@dataclass(frozen=True)
class StudyResult:
    """A study as a runner left it."""

    data: StudyData
    outcome: TunerResult
    report: Report | None
    """Figures, tables and the page; `None` when there was nothing to show."""
    tracking_uri: str
    run_url: str | None
    """The parent run in a browser; `None` for an embedded MLflow, unless `studyflow ui` runs."""
    report_url: str | None = None
    """The report in a browser, among the parent run's artifacts; `None` without one."""
    n_unsent: int = 0
    """Trials, and pictures of the whole study, that MLflow does not have completely yet; `studyflow
    sync` sends them."""
    refusal: str | None = None
    """Why MLflow refuses the whole study; `None` when it does not, or is only away."""

    failed_log: LogTail | None = None
    """The end of the log of the trial that failed last, where script or environment is to blame and
    the study did not end well; `None` otherwise."""

    @property
    def is_shown(self) -> bool:
        """Whether there is an MLflow; without one runs are kept nowhere."""
        return self.tracking_uri != MEMORY_URI

    @property
    def spec(self) -> StudySpec:
        """The study file, with the flags' changes."""
        return self.data.spec
