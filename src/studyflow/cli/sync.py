"""`studyflow sync`: MLflow gets what it lacks of a study."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from studyflow.cli.options import settings_options
from studyflow.cli.studies import load_study
from studyflow.context import StudyContext
from studyflow.diagnostics.probes import is_driven
from studyflow.errors import MissingExtra, StudyflowError, TrackingError, TrackingUnavailable
from studyflow.reports import Report, StudyData
from studyflow.reports.tracked import study_card, study_summary
from studyflow.reports.wording import plural
from studyflow.runner.shown import read_shown
from studyflow.runner.trial_links import trial_links
from studyflow.settings import Settings
from studyflow.storage import open_storage, redacted
from studyflow.study import needs_no_runner, study_names
from studyflow.study.first_failures import decisive, first_failures
from studyflow.tracking import StudySummary
from studyflow.tracking.sync import SyncReport, sync_study
from studyflow.trial.record import TrialRecord


@click.command()
@click.argument("study", required=False)
@settings_options()
def sync(study: str | None, settings: Settings) -> None:
    """Send MLflow what it lacks of a study (file or name), or of all studies.

    Of running trials it gets what they have reported so far. Exit code 3 when MLflow does not
    answer, in whole or in part: run the same command again later. Exit code 1 when it refused
    something.
    """
    names = [study] if study else study_names(open_storage(settings.storage_url, create=False))
    problem: StudyflowError | None = None
    for name in names:
        if problem is not None:
            click.echo(str(problem), err=True)
        try:
            click.echo(_sync_one(load_study(name, settings), settings))
        except MissingExtra:
            raise  # nothing can be sent of any study
        except StudyflowError as error:
            problem = error
    if problem is not None:
        raise problem


def _is_over(data: StudyData) -> bool:
    """Return whether a study has come to its end: its budget is spent, or a stop rule holds."""
    is_broken = bool(decisive(first_failures(data.records), data.spec))
    is_spent = data.why_spent(time.time()) is not None
    return is_spent or is_broken or needs_no_runner(data.spec, data.records)


def _sync_one(data: StudyData, settings: Settings) -> str:
    """Send what MLflow lacks of a study; return what was sent.

    Raises:
        MissingExtra: There is no MLflow to send to.
        TrackingUnavailable: MLflow does not answer, in whole or in part.
        TrackingError: It refused something.
    """
    context = StudyContext(data.spec, settings)
    if not context.has_mlflow:
        raise MissingExtra(f"{data.spec.name}: sending trials to MLflow", "mlflow")
    where = f"MLflow at {redacted(context.tracker.uri)}"

    def summary() -> StudySummary:
        report = _report(context, data)
        return study_summary(
            data,
            report,
            finished=_is_over(data),
            is_driven=is_driven(data, settings),
        )

    with context:
        try:
            report = sync_study(
                context.tracker,
                study_card(data.spec),
                data.records,
                context.attempt_files,
                summary=summary,
            )
        except TrackingUnavailable as error:
            raise TrackingUnavailable(
                f"{data.spec.name}: sent nothing: {where} does not answer.",
                hint="run it again when MLflow is back; nothing is lost.",
            ) from error
    return _tell(data, report, where)


def _report(context: StudyContext, data: StudyData) -> Report | None:
    """Return the study's report: the one that its last run wrote, as long as that still holds."""
    if (shown := read_shown(context, data)) is not None:
        return shown.report
    links = trial_links(context, data.records, context.tracker)
    report, problem = context.write_report(data, {}, links)
    if problem is not None:
        click.echo(f"{data.spec.name}: {problem}", err=True)
    return report


def _tell(data: StudyData, report: SyncReport, where: str) -> str:
    """Return what was sent.

    Raises:
        TrackingUnavailable: Something is left.
        TrackingError: Something was refused.
    """
    sent = [record for record in data.records if record.number in report.sent]
    if not sent and report.is_complete:
        return f"{data.spec.name}: {where} had every trial already"
    told = f"{data.spec.name}: sent {describe_sent(sent)} to {where}"
    refused = "".join(f"\n  trial {n}: {reason}" for n, reason in report.failed.items())
    if report.failed:
        told += f"; {len(report.failed)} {'was' if len(report.failed) == 1 else 'were'} refused"
    if report.is_retryable:
        raise TrackingUnavailable(
            f"{told}; {len(report.left)} {'is' if len(report.left) == 1 else 'are'} left: "
            f"{report.error}{refused}",
            hint="run it again when MLflow is back; nothing is lost.",
        )
    if report.error is not None:
        raise TrackingError(f"{told}; the study's own run was refused: {report.error}{refused}")
    if refused:
        raise TrackingError(f"{told}:{refused}")
    return told


def describe_sent(sent: Sequence[TrialRecord]) -> str:
    """Return what was sent of some trials: all of a finished one, the reports of a running one."""
    n_finished = sum(record.state.is_finished for record in sent)
    n_running = len(sent) - n_finished
    running = f"the reports so far of {plural(n_running, 'running trial')}"
    if not n_running:
        return plural(n_finished, "trial")
    return f"{plural(n_finished, 'trial')} and {running}" if n_finished else running
