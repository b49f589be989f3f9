"""Bringing a tracker up to date with a study in one go, while the caller waits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from studyflow.errors import StudyflowError, TrackingError, TrackingUnavailable
from studyflow.tracking.protocol import StudyCard, StudySummary, Tracker
from studyflow.tracking.trial_files import missing_points
from studyflow.trial.attempt_files import AttemptFiles
from studyflow.trial.record import TrialRecord, TrialState


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What `sync_study` did."""

    sent: tuple[int, ...]
    """Trials brought up to date."""
    failed: Mapping[int, str]
    """Trials that the tracker or their files refused, with the reason."""
    left: tuple[int, ...] = ()
    """Trials that the tracker did not answer about, or that were not tried any more."""
    error: str | None = None
    """What the tracker said when it did not answer, or when it refused the study's own summary."""
    is_retryable: bool = False
    """Whether it did not answer, so that the same may succeed later."""

    @property
    def is_complete(self) -> bool:
        """Whether the tracker now has everything."""
        return not self.failed and not self.left and self.error is None


def sync_study(
    tracker: Tracker,
    card: StudyCard,
    records: Sequence[TrialRecord],
    files: Callable[[TrialRecord], AttemptFiles],
    progress: Callable[[int, int], None] | None = None,
    *,
    summary: Callable[[], StudySummary] | None = None,
) -> SyncReport:
    """Bring a tracker up to date with a study: everything it lacks, and nothing twice.

    A trial that the tracker does not answer about is left; the others follow while it answers at
    all.

    Args:
        tracker: Where the study is shown.
        card: What is shown from the first moment.
        records: All trials of the study.
        files: Returns a trial's log, artifacts and metrics file.
        progress: Told how many of how many trials are done.
        summary: Makes what is shown at the end, once the trials are sent; `None` leaves the study's
            own run open.

    Raises:
        TrackingUnavailable: The tracker does not answer at all.
        TrackingError: The tracker refuses the study.
    """
    tracker.open_study(card)
    there = tracker.finished_trials()
    unsent = [record for record in records if record.number not in there and _has_run(record)]
    report, answers = _send_trials(tracker, unsent, files, progress)
    if summary is not None and answers:
        try:
            tracker.close_study(summary())
        except TrackingError as error:
            is_retryable = report.is_retryable or error.retryable
            return replace(report, error=report.error or str(error), is_retryable=is_retryable)
    return report


def _has_run(record: TrialRecord) -> bool:
    """Return whether a tracker shows a trial: it has begun, or has ended without an attempt."""
    has_begun = record.state is not TrialState.WAITING and record.attempt > 0
    return has_begun or record.state.is_finished


def _send_trials(
    tracker: Tracker,
    records: Sequence[TrialRecord],
    files: Callable[[TrialRecord], AttemptFiles],
    progress: Callable[[int, int], None] | None,
) -> tuple[SyncReport, bool]:
    """Bring trials up to date; return what was done, and whether the tracker answers still."""
    sent: list[int] = []
    failed: dict[int, str] = {}
    left: dict[int, str] = {}
    for index, record in enumerate(records):
        try:
            _send_trial(tracker, record, files(record))
            sent.append(record.number)
        except TrackingUnavailable as error:
            left[record.number] = str(error)
            if not _answers(tracker):
                numbers = (*left, *(other.number for other in records[index + 1 :]))
                return SyncReport(tuple(sent), failed, numbers, str(error), True), False
        except (StudyflowError, OSError) as error:
            failed[record.number] = str(error)
        if progress is not None:
            progress(index + 1, len(records))
    error_text = next(iter(left.values()), None)
    return SyncReport(tuple(sent), failed, tuple(left), error_text, bool(left)), True


def _answers(tracker: Tracker) -> bool:
    """Return whether a tracker that did not answer about one trial answers at all."""
    try:
        tracker.finished_trials()
    except TrackingUnavailable:
        return False
    except TrackingError:
        pass
    return True


def _send_trial(tracker: Tracker, record: TrialRecord, files: AttemptFiles) -> None:
    if not record.state.is_finished:
        tracker.open_trial(record)
    if files.metrics is not None:
        for chunk in missing_points(tracker, record, files.metrics, files.metrics_key):
            tracker.log_points(record, chunk)
    if record.state.is_finished:
        tracker.close_trial(record, log=files.log, artifacts=files.artifacts)
