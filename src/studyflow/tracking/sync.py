"""Bringing a tracker up to date with a study in one go, while the caller waits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from studyflow.errors import StudyflowError, TrackingError, TrackingUnavailable
from studyflow.tracking.protocol import StudyCard, StudySummary, Tracker
from studyflow.tracking.trial_files import TrialFiles, missing_points
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
    files: Callable[[TrialRecord], TrialFiles],
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
    todo = [r for r in records if r.number not in there and r.state is not TrialState.WAITING]
    todo = [record for record in todo if record.state.is_finished or record.attempt > 0]
    sent: list[int] = []
    failed: dict[int, str] = {}
    left: dict[int, str] = {}
    for index, record in enumerate(todo):
        try:
            _sync_trial(tracker, record, files(record))
            sent.append(record.number)
        except TrackingUnavailable as error:
            left[record.number] = str(error)
            if not _answers(tracker):
                left |= {other.number: str(error) for other in todo[index + 1 :]}
                return SyncReport(tuple(sent), failed, tuple(left), str(error), is_retryable=True)
        except (StudyflowError, OSError) as error:
            failed[record.number] = str(error)
        if progress is not None:
            progress(index + 1, len(todo))
    error_text = next(iter(left.values()), None)
    is_retryable = error_text is not None
    if summary is not None:
        try:
            tracker.close_study(summary())
        except TrackingError as error:
            error_text = error_text or str(error)
            is_retryable = is_retryable or error.retryable
    return SyncReport(tuple(sent), failed, tuple(left), error_text, is_retryable)


def _answers(tracker: Tracker) -> bool:
    """Return whether a tracker that did not answer about one trial answers at all."""
    try:
        tracker.finished_trials()
    except TrackingUnavailable:
        return False
    except TrackingError:
        pass
    return True


def _sync_trial(tracker: Tracker, record: TrialRecord, files: TrialFiles) -> None:
    log, artifacts, metrics_file = files
    if not record.state.is_finished:
        tracker.open_trial(record)
    if metrics_file is not None:
        for chunk in missing_points(tracker, record, metrics_file):
            tracker.log_points(record, chunk)
    if record.state.is_finished:
        tracker.close_trial(record, log=log, artifacts=artifacts)
