"""The end of a run: the report is written, and MLflow brought up to date as far as it answers."""

from __future__ import annotations

import logging
from typing import Final

from studyflow.context import StudyContext
from studyflow.errors import StorageUnavailable
from studyflow.observers.observer import Observer
from studyflow.reasons import Code, Reason
from studyflow.reports import StudyData
from studyflow.reports.tracked import study_card, study_summary
from studyflow.runner.log_tail import LogTail, last_failed, read_log_tail
from studyflow.runner.opening import CLOSE_SECONDS, Run
from studyflow.runner.result import StudyResult
from studyflow.runner.shown import Shown, digest_of, keep_shown, study_data
from studyflow.runner.trial_links import trial_links
from studyflow.tuner import TunerResult

_log = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 60.0
"""How long a finished study waits for MLflow before it leaves the rest to `studyflow sync`."""


def close(
    run: Run, outcome: TunerResult, observer: Observer, flush_seconds: float = FLUSH_SECONDS
) -> StudyResult:
    """Write the report and bring MLflow up to date, as far as it answers.

    Neither is done for a finished study that was shown like this before.
    """
    mirror = run.mirror
    data = study_data(run.study)
    is_whole = outcome.is_finished and not run.is_shared
    digest = digest_of(run.context, data)
    if is_whole and run.shown is not None and run.shown.digest == digest:
        return StudyResult(
            data=data,
            outcome=outcome,
            report=run.shown.report,
            tracking_uri=mirror.tracker.uri,
            run_url=run.shown.run_url,
            report_url=run.shown.report_url,
        )
    if run.shown is not None:  # and so its run was not opened
        mirror.renew_study(study_card(run.study.kept_spec()))
    mirror.resume(data.records)  # what other runners recorded
    run_url = mirror.tracker.run_url()
    observer.noted("Writing the report.")
    report, problem = run.context.write_report(
        data,
        {"MLflow": run_url} if run_url else {},
        trial_links(run.context, data.records, mirror.tracker),
    )
    if problem is not None:
        _log.warning("%s", problem)
    mirror.close_study(
        study_summary(data, report, finished=outcome.is_finished, is_driven=run.is_shared)
    )
    n_unsent = mirror.flush(flush_seconds)
    report_url = None if report is None else mirror.tracker.run_url(artifact=report.html.name)
    if is_whole and report is not None and not n_unsent and run.context.is_in_mlflow:
        keep_shown(run.context, Shown(digest, report, run_url, report_url))
    return StudyResult(
        data=data,
        outcome=outcome,
        report=report,
        tracking_uri=mirror.tracker.uri,
        run_url=run_url,
        report_url=report_url,
        n_unsent=n_unsent,
        failed_log=_failed_log(run.context, data, outcome),
        refusal=mirror.refusal,
    )


def _failed_log(context: StudyContext, data: StudyData, outcome: TunerResult) -> LogTail | None:
    """Return the end of the log of the trial that failed last, if the study ended badly."""
    if not outcome.is_failure and outcome.reason.code is not Code.MOSTLY_FAILED:
        return None
    failed = last_failed(data.records)
    return None if failed is None else read_log_tail(context, failed)


def close_interrupted(run: Run, observer: Observer) -> StudyResult | None:
    """Show what there is, and return it; whatever fails here must not hide why the runner ends."""
    why = Reason(Code.RUNNER_INTERRUPTED, "The runner was interrupted.")
    interrupted = TunerResult(why, is_finished=False)
    try:
        return close(run, interrupted, observer, CLOSE_SECONDS)
    except StorageUnavailable as error:
        _log.info("The interrupted study is not shown in MLflow: %s", error)
    except Exception:  # noqa: BLE001 - whatever it is, the runner ends for another reason
        _log.warning("The interrupted study could not be closed", exc_info=True)
    return None
