"""A trial's files, as a tracker is sent them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from studyflow.errors import DocumentError
from studyflow.tracking.protocol import Tracker
from studyflow.trial import MetricPoint
from studyflow.trial.record import TrialRecord
from studyflow.trial.user_files import METRICS_LIMIT_BYTES, NotAFileError, open_file

POINTS_PER_CALL: Final = 1000
"""Most points that a tracker is given at once."""
LONGEST_LINE_BYTES: Final = 4096
"""A line of a metrics file is far shorter: names have at most 250 characters."""


def read_metrics_file(path: Path, key: str | None = None) -> Iterator[list[MetricPoint]]:
    """Yield the points of a trial's metrics file, at most `POINTS_PER_CALL` at a time.

    Lines that are no points, such as one torn by a kill, are left out; so are those that lack the
    seal of a key. A missing file has no points, nor has a folder or a pipe in its place. Of a file
    longer than `METRICS_LIMIT_BYTES`, only the beginning is read.
    """
    chunk: list[MetricPoint] = []
    try:
        with open_file(path) as file:
            while file.tell() < METRICS_LIMIT_BYTES and (line := file.readline(LONGEST_LINE_BYTES)):
                try:
                    point = MetricPoint.from_sealed(line.decode(), key)
                except (DocumentError, UnicodeDecodeError):
                    continue
                if point is not None:
                    chunk.append(point)
                if len(chunk) == POINTS_PER_CALL:
                    yield chunk
                    chunk = []
    except (FileNotFoundError, NotAFileError):
        return
    if chunk:
        yield chunk


def missing_points(
    tracker: Tracker, record: TrialRecord, path: Path, key: str | None = None
) -> Iterator[list[MetricPoint]]:
    """Yield the points of a trial's metrics file that its run lacks.

    Trackers store no point twice anyway; but finding that out for 1000 points takes MLflow a
    second, and reading them back some milliseconds.

    Raises:
        TrackingUnavailable: The tracker does not answer.
        TrackingError: The tracker refuses.
    """
    there: dict[str, frozenset[MetricPoint]] = {}
    for chunk in read_metrics_file(path, key):
        for name in {point.name for point in chunk} - there.keys():
            there[name] = frozenset(tracker.read_points(record, name))
        missing = [point for point in chunk if point not in there[point.name]]
        if missing:
            yield missing
