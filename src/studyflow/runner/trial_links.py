"""Where the pages of a study's trials are, for its report."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from urllib.parse import quote

from studyflow.context import StudyContext
from studyflow.errors import StudyflowError
from studyflow.tracking import Tracker
from studyflow.tracking.mlflow import LOG_NAME
from studyflow.trial.record import TrialRecord

_log = logging.getLogger(__name__)


def trial_links(
    context: StudyContext, records: Iterable[TrialRecord], tracker: Tracker | None = None
) -> dict[int, dict[str, str]]:
    """Return titles and addresses of each trial's log and run, by its number.

    A log is that in MLflow where it has a page, else the file on this machine, relative to the
    report. Nothing is contacted.
    """
    found: dict[int, dict[str, str]] = {}
    for record in records:
        run = None if tracker is None else tracker.run_url(record)
        log = _log_file(context, record)
        if run is not None and tracker is not None and record.state.is_finished and log is not None:
            log = tracker.run_url(record, artifact=LOG_NAME)
        links = {"log": log, "MLflow": run}
        kept = {title: address for title, address in links.items() if address is not None}
        if kept:
            found[record.number] = kept
    return found


def _log_file(context: StudyContext, record: TrialRecord) -> str | None:
    """Return the address of a trial's log, relative to the report; `None` where there is none."""
    if not record.attempt:
        return None
    try:
        log = context.attempt_files(record).log
    except (StudyflowError, OSError) as error:
        _log.info("trial %d: its log is not linked: %s", record.number, error)
        return None
    if log is None:
        return None
    return quote(os.path.relpath(log, context.settings.report_folder(context.spec.name)))
