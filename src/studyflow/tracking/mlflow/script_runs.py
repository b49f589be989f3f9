"""What training scripts logged by themselves: to their trial's run, and to others beside it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from studyflow.tracking import keys
from studyflow.tracking.logged import LoggedRun
from studyflow.tracking.mlflow.client import Connection
from studyflow.tracking.mlflow.documents import (
    PARENT_TAG,
    latest_points,
    milliseconds,
    read_value,
)
from studyflow.tracking.mlflow.search import RunSearch
from studyflow.trial import MetricPoint
from studyflow.trial.record import TrialRecord


class ScriptRuns:
    """Reads metrics of a trial's run and of the runs that its script started.

    Every method raises `TrackingUnavailable` when MLflow does not answer in time and
    `TrackingError` when it refuses.

    Args:
        mlflow: Where the runs are.
        search: Finds them.
        is_gated: Whether scripts write with tokens. Then only runs count that a token could have
            written: the trial's own, and those of its experiment that the server's gate stamped.
    """

    def __init__(self, mlflow: Connection, search: RunSearch, *, is_gated: bool = False) -> None:
        self._mlflow = mlflow
        self._search = search
        self._is_gated = is_gated

    def points(self, record: TrialRecord, run_id: str, metric: str) -> tuple[MetricPoint, ...]:
        """Return one metric of a trial's run by step, oldest first.

        When that run has none and exactly one other run of the script has it, it is read from
        there.
        """
        key = keys.key_for(metric)
        with self._mlflow.client() as client:
            history = client.get_metric_history(run_id, key)
            if not history and record.run_id is not None:
                home = client.get_run(run_id).info.experiment_id if self._is_gated else None
                others = self._search.of_attempt(record, run_id, experiment_id=home)
                having = [run.info.run_id for run in others if key in run.data.metrics]
                if len(having) == 1:
                    history = client.get_metric_history(having[0], key)
        points = (MetricPoint(metric, m.step, read_value(m.value), m.timestamp) for m in history)
        return tuple(sorted(points, key=lambda point: (point.step, point.timestamp_ms)))

    def latest(self, run_id: str) -> Mapping[str, float]:
        """Return the last value of every metric of a run, by its name in the study."""
        with self._mlflow.client() as client:
            data = client.get_run(run_id).data
        names = keys.names_in(data.tags)
        return {names.get(key, key): read_value(value) for key, value in data.metrics.items()}

    def of_attempt(
        self,
        record: TrialRecord,
        run_id: str,
        metrics: Sequence[str],
        began_at: float | None,
    ) -> tuple[tuple[LoggedRun, ...], tuple[LoggedRun, ...]]:
        """Return the runs of a trial's newest attempt, and others that may be its.

        The first are the trial's own run and those that its script started. Only when none of them
        has any metric, the second are runs of no study that began since and have every metric that
        is wanted.

        Args:
            record: The trial.
            run_id: The trial's run.
            metrics: Metrics that the study needs.
            began_at: When the attempt's script began, in seconds since the epoch; `None` when it is
                not known.
        """
        since_ms = 0 if began_at is None else math.floor(began_at) * 1000
        wanted = {keys.key_for(name) for name in metrics}
        with self._mlflow.client() as client:
            own = client.get_run(run_id)
            home = own.info.experiment_id
            is_new = record.attempt == 1 and own.info.start_time == milliseconds(record.started_at)
            runs = [self._logged(own, wanted, 0 if is_new else since_ms, home)]
            only = home if self._is_gated else None
            runs += [
                self._logged(run, wanted, since_ms, home)
                for run in self._search.of_attempt(record, run_id, since_ms, only)
                if run.info.run_id != run_id
            ]
            unrelated: list[LoggedRun] = []
            is_empty = not any(run.metrics or run.outdated for run in runs)
            if began_at is not None and is_empty and not self._is_gated:
                unrelated = [
                    self._logged(run, wanted, since_ms, home)
                    for run in self._search.everywhere(since_ms)
                    if wanted <= run.data.metrics.keys()
                    and not any(tag.startswith("studyflow.") for tag in run.data.tags)
                ]
        return tuple(runs), tuple(unrelated)

    def _logged(self, run: Any, wanted: Collection[str], since_ms: int, home: str) -> LoggedRun:
        """Return what a run holds of metrics, without what is older than `since_ms`.

        Args:
            run: MLflow's run.
            wanted: Keys of metrics whose earlier points are searched for newer ones too.
            since_ms: In milliseconds since the epoch.
            home: Id of the study's experiment, whose name is left out.
        """
        metrics: dict[str, float] = {}
        outdated: set[str] = set()
        for key, latest in latest_points(run).items():
            value: float | None = latest.value
            if latest.timestamp_ms < since_ms:
                value = self._newest(run, key, since_ms) if key in wanted else None
            if value is None:
                outdated.add(key)
            else:
                metrics[key] = read_value(value)
        experiment = ""
        if run.info.experiment_id != home:
            with self._mlflow.client() as client:
                experiment = str(client.get_experiment(run.info.experiment_id).name)
        return LoggedRun(
            run_id=str(run.info.run_id),
            name=str(run.info.run_name or ""),
            metrics=metrics,
            outdated=frozenset(outdated),
            parent_id=run.data.tags.get(PARENT_TAG),
            experiment=experiment,
        )

    def _newest(self, run: Any, key: str, since_ms: int) -> float | None:
        """Return the last of a metric's values that are not older; `None` when all are."""
        with self._mlflow.client() as client:
            history = client.get_metric_history(run.info.run_id, key)
        newer = [point for point in history if point.timestamp >= since_ms]
        if not newer:
            return None
        last = max(newer, key=lambda point: (point.step, point.timestamp, point.value))
        return float(last.value)
