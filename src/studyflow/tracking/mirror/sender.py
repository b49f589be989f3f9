"""How a mirror's tasks are done: calls of the tracker, and what is no longer unsent then."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from studyflow.errors import TrackingError, TrackingUnavailable
from studyflow.tracking.mirror.availability import Availability
from studyflow.tracking.mirror.backlog import (
    Backlog,
    CloseStudy,
    FindUnsent,
    OpenStudy,
    Probe,
    SendTrial,
    Task,
    TrialBacklog,
)
from studyflow.tracking.optional import reserve_trial
from studyflow.tracking.protocol import StudyCard, StudySummary, Tracker
from studyflow.tracking.trial_files import POINTS_PER_CALL, missing_points
from studyflow.trial import MetricPoint, TrackingRef
from studyflow.trial.attempt_files import AttemptFiles
from studyflow.trial.record import TrialRecord

SHOW_SECONDS: Final = 3.0
"""How long the run of a trial that has just begun may show no parameters."""


class Sender:
    """Sends to a tracker. Its methods block, and are called without the mirror's lock.

    Args:
        tracker: Where the study is shown.
        files: Returns a trial's log, artifacts and metrics file.
        backlog: What is unsent.
        availability: Notes what the tracker refuses.
        changed: The mirror's lock.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        tracker: Tracker,
        files: Callable[[TrialRecord], AttemptFiles],
        backlog: Backlog,
        availability: Availability,
        changed: threading.Condition,
        clock: Callable[[], float],
    ) -> None:
        self._tracker = tracker
        self._files = files
        self._backlog = backlog
        self._availability = availability
        self._changed = changed
        self._clock = clock

    def send(self, task: Task) -> None:
        """Do a task.

        Raises:
            TrackingUnavailable: The tracker does not answer.
            TrackingError: The tracker refuses.
            StudyflowError: The trial's files cannot be read.
        """
        match task:
            case OpenStudy(card):
                self.open_study(card)
            case FindUnsent(records):
                self._find_unsent(records)
            case SendTrial(trial):
                self._send_trial(trial)
            case CloseStudy(summary):
                self._close_study(summary)
            case Probe(call):
                self._probe(call)

    def open_study(self, card: StudyCard) -> TrackingRef:
        """Return the study's run, after showing it by this card.

        Raises:
            TrackingUnavailable: The tracker does not answer.
            TrackingError: The tracker refuses.
        """
        ref = self._tracker.open_study(card)
        with self._changed:
            if self._backlog.card is card:
                self._backlog.card = None
        return ref

    def open_trial(self, record: TrialRecord) -> TrackingRef:
        """Return a trial's run, which is created or set to running.

        Raises:
            TrackingUnavailable: The tracker does not answer.
            TrackingError: The tracker refuses.
        """
        ref = self._tracker.open_trial(record)
        with self._changed:
            trial = self._backlog.get(record.number)
            opening = None if trial is None else trial.opening
            if trial is not None and opening is not None and opening.attempt <= record.attempt:
                trial.opening = None  # not one of a later attempt
            if trial is not None and trial.lost and trial.lost.attempt < record.attempt:
                trial.lost = None  # the run names the later attempt, and takes from that one alone
        return ref

    def reserve_trial(self, record: TrialRecord) -> TrackingRef:
        """Return a run where an attempt may log; what it shows follows within `SHOW_SECONDS`.

        A trial that ends sooner costs one request less.

        Raises:
            TrackingUnavailable: The tracker does not answer.
            TrackingError: The tracker refuses.
        """
        ref = reserve_trial(self._tracker, record)
        if ref is None:
            return self.open_trial(record)
        with self._changed:
            trial = self._backlog.of(record)
            if trial.ending is None:
                trial.opening = record
                trial.not_before = max(trial.not_before, self._clock() + SHOW_SECONDS)
        return ref

    def _find_unsent(self, records: Mapping[int, TrialRecord]) -> None:
        there = self._tracker.finished_trials()
        unchecked = self._backlog.unchecked
        with self._changed:
            for number, record in sorted(records.items()):
                if unchecked.get(number) is record:
                    del unchecked[number]
                if number not in there:
                    trial = self._backlog.of(record)
                    trial.ending = trial.ending or record

    def _close_study(self, summary: StudySummary) -> None:
        refusal: TrackingError | None = None
        try:
            self._tracker.close_study(summary)
        except TrackingUnavailable:
            raise
        except TrackingError as error:
            refusal = error
        with self._changed:
            if refusal is not None:
                # For good: shown, and left to `studyflow sync`.
                text = f"The study's summary was refused: {refusal.message}"
                self._availability.note(replace(refusal.reason, message=text))
                self._backlog.is_summary_refused = True
            if self._backlog.summary is summary:
                self._backlog.summary = None

    def _probe(self, call: Callable[[], object]) -> None:
        with self._changed:
            if self._backlog.probe is call:
                self._backlog.probe = None
        try:
            call()
        except TrackingUnavailable:
            with self._changed:
                self._backlog.probe = self._backlog.probe or call
            raise

    def _send_trial(self, trial: TrialBacklog) -> None:
        """Bring one trial up to date: its run, a lost attempt, then its points, then its end."""
        with self._changed:
            opening, ending = trial.opening, trial.ending
            record = ending or trial.record
        if opening is not None and ending is None:
            self.open_trial(opening)
        self._lose_attempt(trial, is_ending=ending is not None)
        files = self._files(record)
        self._send_all_points(trial, record, files, is_ending=ending is not None)
        if ending is None:
            return
        self._tracker.close_trial(ending, log=files.log, artifacts=files.artifacts)
        with self._changed:
            if trial.ending is ending:
                trial.ending = trial.opening = None

    def _lose_attempt(self, trial: TrialBacklog, *, is_ending: bool) -> None:
        """Note the loss of a trial's attempt, unless its run is closed to all of them anyway."""
        with self._changed:
            lost = trial.lost
        if lost is not None and not is_ending:
            self._tracker.lose_attempt(lost)
        with self._changed:
            if trial.lost is lost:
                trial.lost = None

    def _send_all_points(
        self, trial: TrialBacklog, record: TrialRecord, files: AttemptFiles, *, is_ending: bool
    ) -> None:
        """Send a trial's points; those that cannot be sent are kept."""
        with self._changed:
            points = self._backlog.take_points(trial)
            must_resend, trial.must_resend = trial.must_resend, False

        def keep() -> None:
            with self._changed:
                trial.must_resend = trial.must_resend or must_resend
                self._backlog.add_points(trial, points, in_front=True)

        with ExitStack() as unsent:
            unsent.callback(keep)
            while points:
                self._send_points(record, points[:POINTS_PER_CALL])
                del points[:POINTS_PER_CALL]
            # At a trial's end its file has the last word: it also holds what an earlier runner
            # could not send, and what a run that somebody deleted has lost.
            if (must_resend or is_ending) and files.metrics is not None:
                for chunk in missing_points(
                    self._tracker, record, files.metrics, files.metrics_key
                ):
                    self._send_points(record, chunk)
            unsent.pop_all()

    def _send_points(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        try:
            self._tracker.log_points(record, points)
        except TrackingUnavailable:
            raise
        except TrackingError as error:
            # These points will never be taken; the trial's end may be.
            refused = f"Trial {record.number}: {len(points)} metric values were refused"
            with self._changed:
                self._availability.note(
                    replace(error.reason, message=f"{refused}: {error.message}")
                )
