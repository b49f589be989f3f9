"""What a finished study's last run has shown: nothing of it is written again while it holds."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import studyflow
from studyflow.context import StudyContext
from studyflow.reports import Report, StudyData
from studyflow.study import Study
from studyflow.trial.private_files import private_opener

_log = logging.getLogger(__name__)

NAME: Final = "shown.json"
"""Name of the file beside the report's folder."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A finished study as it is in its report and, completely, in MLflow."""

    digest: str
    """Of all that they were made of."""
    report: Report
    run_url: str | None
    report_url: str | None


def study_data(study: Study) -> StudyData:
    """Return a study as reports see it."""
    return StudyData(study.spec, study.records(), study.optuna_study)


def digest_of(context: StudyContext, data: StudyData) -> str:
    """Return the digest of all that a study's report and its run in MLflow are made of."""
    settings = context.settings
    parts = (
        studyflow.__version__,
        data.spec.model_dump_json(),
        settings.tracking_uri,
        settings.mlflow_public_url,
        data.records,
    )
    return hashlib.sha256(repr(parts).encode(errors="replace")).hexdigest()


def read_shown(context: StudyContext, data: StudyData) -> Shown | None:
    """Return what the last run has shown, if that still holds; `None` to show it anew.

    A file of the report that is gone, or an embedded database that is, is a reason to. What was
    deleted in MLflow otherwise is for `studyflow sync` to find.
    """
    settings = context.settings
    is_gone = settings.tracking_uri is None and not (settings.home / "mlflow.db").exists()
    if is_gone or not context.is_in_mlflow:
        return None
    try:
        document = json.loads(_path(context).read_text(encoding="utf-8"))
        shown = Shown(
            digest=str(document["digest"]),
            report=_report_of(document["report"]),
            run_url=document["run_url"],
            report_url=document["report_url"],
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        _log.info("%s is unreadable: %s", _path(context), error)
        return None
    report = shown.report
    files = (report.html, *report.figures.values(), *report.files.values())
    if shown.digest != digest_of(context, data) or not all(file.is_file() for file in files):
        return None
    return shown


def keep_shown(context: StudyContext, shown: Shown) -> None:
    """Keep what was shown for the next run; one that finds nothing shows it again."""
    report = shown.report
    document = {
        "digest": shown.digest,
        "report": {
            "html": str(report.html),
            "figures": {name: str(path) for name, path in report.figures.items()},
            "files": {name: str(path) for name, path in report.files.items()},
            "omitted": dict(report.omitted),
            "animation": None if report.animation is None else str(report.animation),
        },
        "run_url": shown.run_url,
        "report_url": shown.report_url,
    }
    try:
        with open(_path(context), "w", encoding="utf-8", opener=private_opener) as file:
            json.dump(document, file)
    except OSError as error:
        _log.info("%s was not written: %s", _path(context), error)


def _path(context: StudyContext) -> Path:
    return context.settings.report_folder(context.spec.name).parent / NAME


def _report_of(document: Mapping[str, Any]) -> Report:
    animation = document["animation"]
    return Report(
        html=Path(document["html"]),
        figures={name: Path(path) for name, path in document["figures"].items()},
        files={name: Path(path) for name, path in document["files"].items()},
        omitted=dict(document["omitted"]),
        animation=None if animation is None else Path(animation),
    )
