"""What a finished flow run leaves on its page: tables, summaries, figures and links."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from contextvars import copy_context
from pathlib import Path
from typing import Any, Final

from prefect import get_run_logger
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from studyflow.background import Background
from studyflow.comparison import ComparisonFiles
from studyflow.orchestration.outages import tolerated, wait_for_server
from studyflow.reports import StudyData, summary_markdown, trial_rows
from studyflow.reports.comparison import Comparison, as_rows, comparison_markdown
from studyflow.reports.tables import TrialRow
from studyflow.reports.wording import markdown
from studyflow.retrain import RetrainResult, results_markdown
from studyflow.runner import StudyResult

FIGURES_BYTES: Final = 800_000
"""Most characters of the artifact with a report's figures: a page with more is slow to open."""

PUBLISH_SECONDS: Final = 120.0
"""Longest time for all artifacts of a finished study; a figure takes a tenth of a second."""


def artifact_key(study: str, what: str) -> str:
    """Return an artifact key: lower-case letters, digits and dashes are all Prefect takes."""
    slug = re.sub(r"[^a-z0-9]+", "-", study.lower()).strip("-") or "study"
    return f"{slug[:100]}-{what}"


def publish(make_artifacts: Callable[[], object]) -> None:
    """Make a finished run's artifacts, as soon as Prefect's server is there.

    What cannot be made is told, and fails no study.
    """
    logger = get_run_logger()
    if not wait_for_server(logger.warning):
        return
    context = copy_context()
    with tolerated(logger, "Could not publish every artifact"):
        making = Background("prefect-artifacts", lambda: context.run(make_artifacts))
        making.result(PUBLISH_SECONDS)


def publish_study(result: StudyResult) -> None:
    """Leave a study's trials, best configuration and figures on the run's page."""
    publish(lambda: _make_study_artifacts(result))


def publish_comparison(comparison: Comparison, files: ComparisonFiles, url: str | None) -> None:
    """Leave a comparison's picture, table and summary on the run's page."""
    publish(lambda: _make_comparison_artifacts(comparison, files, url))


def publish_retrain(result: RetrainResult) -> None:
    """Leave the means of trainings that were repeated on the run's page."""
    name = result.plan.source.spec.name
    publish(
        lambda: create_markdown_artifact(
            markdown=results_markdown(result),
            key=artifact_key(name, "retrain"),
            description=f"Best configurations of {name}, trained again",
        )
    )


def table_row(row: TrialRow, data: StudyData) -> dict[str, Any]:
    """Return a trial as a row of Prefect's table artifact."""
    values = row.values or (None,) * len(data.metrics)
    return {
        "trial": row.number,
        "best": "★" if row.is_best else "",
        **dict(zip(data.metrics, values, strict=True)),
        "state": row.state.value,
        "cause": None if row.cause is None else row.cause.value,
        "seconds": None if row.duration_seconds is None else round(row.duration_seconds, 1),
        **row.params,
        "message": row.message,
    }


def _make_study_artifacts(result: StudyResult) -> None:
    """Make few artifacts: Prefect lists a run's in no order that a person could see."""
    name = result.spec.name
    addresses = {"Report": result.report_url, "MLflow": result.run_url}
    links = {title: address for title, address in addresses.items() if address is not None}
    if result.report_url is not None:
        get_run_logger().info("the report in MLflow: %s", result.report_url)
        create_link_artifact(
            link=result.report_url,
            link_text=f"Report of {name}",
            key=artifact_key(name, "report"),
            description="The whole study on one page.",
        )
    create_markdown_artifact(
        markdown=summary_markdown(result.data, links),
        key=artifact_key(name, "best"),
        description=f"Best configuration of {name}",
    )
    figures = {} if result.report is None else result.report.figures
    if figures:
        create_markdown_artifact(
            markdown=figures_markdown(figures, result.report_url),
            key=artifact_key(name, "figures"),
            description=f"Figures of {name}",
        )
    create_table_artifact(
        table=[table_row(row, result.data) for row in trial_rows(result.data)],
        key=artifact_key(name, "trials"),
        description=f"Trials of {name}",
    )


def figures_markdown(figures: Mapping[str, Path], report_url: str | None) -> str:
    """Return a page with all of a report's figures, as many as `FIGURES_BYTES` hold.

    They are part of the text: below an image artifact Prefect would print its address, which is
    the picture itself.
    """
    where = f"[the report]({report_url})" if report_url else "the report"
    text = f"All of them, to be explored, are in {where}.\n"
    for figure, path in figures.items():
        title = figure.replace("_", " ").capitalize()
        part = f"\n### {title}\n\n![{title}]({_data_url(path)})\n"
        if len(text) + len(part) > FIGURES_BYTES:
            part = f"\n### {title}\n\nToo large for this page.\n"
        text += part
    return text


def _make_comparison_artifacts(
    comparison: Comparison, files: ComparisonFiles, url: str | None
) -> None:
    name = f"{comparison.name}-samplers"
    create_markdown_artifact(
        markdown=f"![{markdown(comparison.headline)}]({_data_url(files.picture)})",
        key=artifact_key(name, "picture"),
        description=comparison.headline,
    )
    create_table_artifact(
        table=[dict(row) for row in as_rows(comparison)],
        key=artifact_key(name, "table"),
        description=f"Samplers on {comparison.name}",
    )
    create_markdown_artifact(
        markdown=comparison_markdown(comparison), key=artifact_key(name, "summary")
    )
    if url is not None:
        create_link_artifact(link=url, link_text="MLflow", key=artifact_key(name, "mlflow"))


def _data_url(path: Path) -> str:
    kind = "svg+xml" if path.suffix == ".svg" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
