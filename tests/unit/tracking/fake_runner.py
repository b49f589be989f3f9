"""A runner beside a mirror, for tests of what it is sent."""

from __future__ import annotations

from pathlib import Path

from studyflow.testing.failing_tracker import FailingTracker
from studyflow.testing.tracker_contract import complete, running
from studyflow.tracking import MemoryTracker, Mirror
from studyflow.trial import MetricPoint
from studyflow.trial.attempt_files import AttemptFiles
from studyflow.trial.record import TrialRecord


class FakeRunner:
    """A runner's storage and files, a tracker that can fail, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 100.0
        self.records: dict[int, TrialRecord] = {}
        self.file_errors: list[Exception] = []
        self.memory = MemoryTracker()
        self.tracker = FailingTracker(self.memory)

    def mirror(self, *, is_threaded: bool = False, max_buffered_points: int = 50) -> Mirror:
        return Mirror(
            self.tracker,
            files=self.files,
            clock=lambda: self.now,
            retry_seconds=(1.0, 60.0),
            max_buffered_points=max_buffered_points,
            is_threaded=is_threaded,
        )

    def metrics_file(self, number: int) -> Path:
        return self.folder / f"{number}.metrics"

    def files(self, record: TrialRecord) -> AttemptFiles:
        if self.file_errors:
            raise self.file_errors.pop()
        path = self.metrics_file(record.number)
        return AttemptFiles(metrics=path if path.exists() else None)

    def start(self, number: int) -> TrialRecord:
        self.records[number] = running(number)
        return self.records[number]

    def end(self, number: int) -> TrialRecord:
        self.records[number] = complete(number)
        return self.records[number]

    def write(self, number: int, written: list[MetricPoint]) -> None:
        text = "".join(point.to_json() + "\n" for point in written)
        self.metrics_file(number).write_text(text)
