"""Parameters, metrics and tags of a run, in requests that MLflow accepts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final

from studyflow.errors import TrackingError, TrackingUnavailable
from studyflow.tracking import keys
from studyflow.tracking.mlflow.client import Connection
from studyflow.tracking.mlflow.documents import TAG_LIMIT_CHARS, Point, bounded
from studyflow.trial.record import TrialRecord

PARAM_LIMIT_CHARS: Final = 6000
METRICS_PER_BATCH: Final = 1000
ENTITIES_PER_BATCH: Final = 100
"""Most parameters of a request, and most tags."""
BATCH_LIMIT_BYTES: Final = 400_000
"""Of parameters, and of tags: MLflow's server refuses a request of more than 1 MB of JSON."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one request logs to a run."""

    metrics: Sequence[Point] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def batches(
    metrics: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]
) -> list[Batch]:
    """Return one or more batches that hold everything, each as small as MLflow wants it.

    Tags go last: `studyflow.synced` must not be there before what it is about.
    """
    room = METRICS_PER_BATCH
    if params or tags:
        room -= 2 * ENTITIES_PER_BATCH
    metric_pieces = [metrics[first : first + room] for first in range(0, len(metrics), room)]
    pairs = zip_longest(metric_pieces, pieces(params))
    before = [Batch(some or (), few or {}) for some, few in pairs] or [Batch()]
    first_tags, *more_tags = list(pieces(tags)) or [{}]
    last = Batch(before[-1].metrics, before[-1].params, first_tags)
    return [*before[:-1], last, *(Batch(tags=piece) for piece in more_tags)]


def pieces(entities: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yield parameters or tags in pieces of bounded number and size."""
    piece: dict[str, str] = {}
    size = 0
    for key, value in entities.items():
        cost = len(json.dumps(value)) + len(json.dumps(key)) + 30
        if piece and (len(piece) == ENTITIES_PER_BATCH or size + cost > BATCH_LIMIT_BYTES):
            yield piece
            piece, size = {}, 0
        piece[key] = value
        size += cost
    if piece:
        yield piece


class RunLog:
    """Writes batches to runs, and each trial's parameters once.

    Args:
        mlflow: Where the runs are.
    """

    def __init__(self, mlflow: Connection) -> None:
        self._mlflow = mlflow
        self._with_params: set[str] = set()
        """Runs whose parameters are logged."""

    def log(
        self,
        run_id: str,
        *,
        metrics: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log metrics, parameters and tags to a run; a tag that is too long is cut.

        Raises:
            TrackingUnavailable: MLflow does not answer in time; some may be stored.
            TrackingError: MLflow refuses.
        """
        short = {key: bounded(value, TAG_LIMIT_CHARS) for key, value in (tags or {}).items()}
        with self._mlflow.client() as client:
            from mlflow.entities import Metric, Param, RunTag

            for batch in batches(metrics, params or {}, short):
                client.log_batch(
                    run_id,
                    metrics=[Metric(*point) for point in batch.metrics],
                    params=[Param(key, value) for key, value in batch.params.items()],
                    tags=[RunTag(key, value) for key, value in batch.tags.items()],
                )

    def log_trial(
        self,
        run_id: str,
        record: TrialRecord,
        *,
        metrics: Sequence[Point] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log metrics and tags to a trial's run, and its parameters if they are not there yet.

        MLflow never lets a parameter change. One that is there with another value was logged by
        the training script itself, and is kept.

        Raises:
            TrackingUnavailable: MLflow does not answer in time; some may be stored.
            TrackingError: MLflow refuses.
        """
        if run_id in self._with_params:
            self.log(run_id, metrics=metrics, tags=tags)
            return
        params = {
            keys.key_for(name): bounded(str(value), PARAM_LIMIT_CHARS)
            for name, value in record.params.items()
        }
        try:
            self.log(run_id, metrics=metrics, params=params, tags=tags)
        except TrackingUnavailable:
            raise
        except TrackingError:
            with self._mlflow.client() as client:
                there = client.get_run(run_id).data.params
            if all(there.get(key, value) == value for key, value in params.items()):
                raise
            params = {key: value for key, value in params.items() if key not in there}
            self.log(run_id, metrics=metrics, params=params, tags=tags)
        self._with_params.add(run_id)

    def forget(self) -> None:
        """Forget which runs have their parameters."""
        self._with_params.clear()
