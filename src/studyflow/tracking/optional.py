"""What only some trackers can do, and what is done with the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from studyflow.tracking.protocol import Tracker
from studyflow.trial import MetricPoint, TrackingRef
from studyflow.trial.record import TrialRecord


def read_running(
    tracker: Tracker, records: Sequence[TrialRecord], metric: str
) -> Mapping[int, tuple[MetricPoint, ...]]:
    """Return one metric of running trials by trial.

    A tracker that has a `read_running` reads all of them at once, and returns those with news.

    Raises:
        TrackingUnavailable: It does not answer in time.
        TrackingError: It refuses.
    """
    read = getattr(tracker, "read_running", None)
    if read is not None:
        found: Mapping[int, tuple[MetricPoint, ...]] = read(records, metric)
        return found
    return {record.number: tracker.read_points(record, metric) for record in records}


def reserve_trial(tracker: Tracker, record: TrialRecord) -> TrackingRef | None:
    """Return a run that was just created for a trial that had none, and shows little yet.

    `None` for one that has a run, and where only `open_trial` creates any.

    Raises:
        TrackingUnavailable: The tracker does not answer in time.
        TrackingError: It refuses.
    """
    reserve = getattr(tracker, "reserve_trial", None)
    if reserve is None:
        return None
    ref: TrackingRef | None = reserve(record)
    return ref
