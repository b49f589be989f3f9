"""What a tracker shows of a study: its card from the first moment, its summary at the end."""

from __future__ import annotations

from pathlib import Path

from studyflow.reports.data import StudyData
from studyflow.reports.page import Report
from studyflow.reports.summary import summary_markdown
from studyflow.spec import StudySpec
from studyflow.study import n_trials_to_finish
from studyflow.tracking import StudyCard, StudySummary


def study_card(spec: StudySpec) -> StudyCard:
    """Return what a tracker shows of a study from its first moment."""
    return StudyCard(
        name=spec.name,
        directions=spec.directions,
        objectives=tuple(objective.metric for objective in spec.objectives),
        spec_yaml=spec.to_yaml(),
        description=spec.description,
        tags=spec.tags,
        n_trials=n_trials_to_finish(spec),
        parameters=tuple(spec.search_space),
    )


def study_summary(
    data: StudyData, report: Report | None, *, finished: bool, is_driven: bool = False
) -> StudySummary:
    """Return what a tracker shows of a study at its end, or at the end of one runner.

    Args:
        data: The study.
        report: Its report, if one was written.
        finished: Whether the study needs no further runner.
        is_driven: Whether another runner works on it.
    """
    files: dict[str, Path] = {}
    if report is not None:
        files = {"report.html": report.html}
        pictures = [*report.figures.values(), *([report.animation] if report.animation else [])]
        files |= {f"figures/{path.name}": path for path in pictures}
    return StudySummary(
        finished=finished,
        best=data.best,
        records=data.records,
        note_markdown=summary_markdown(data),
        files=files,
        is_driven=is_driven and not finished,
        tags=data.statement.tags(),
    )
