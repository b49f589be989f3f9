"""One metric of all running trials, as it comes in: one request for those that have no news."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from studyflow.tracking import keys
from studyflow.tracking.mlflow.client import Connection
from studyflow.tracking.mlflow.documents import Latest, latest_points, read_value
from studyflow.tracking.mlflow.search import RunSearch
from studyflow.trial import ATTEMPT_TAG, TRIAL_RUN_TAG, MetricPoint
from studyflow.trial.record import TrialRecord

RUNS_PER_SEARCH: Final = 100
"""A search names each run, and a database bounds how long a statement may be."""


class RunningMetrics:
    """Reads one metric of running trials again and again; keeps what it has read.

    One search for each hundred trials tells which of them have a new value. The points before it
    are read only where some may have been missed: of a trial that is new here, or whose last step
    is not the one after the last that is known, or that is in a later attempt.

    A trial whose own run has no such metric may have logged it to exactly one other run that its
    script started: those are found by one search for all such trials.

    Args:
        mlflow: Where the runs are.
        search: Finds them.
        is_gated: Whether scripts write with tokens, and so in the study's experiment alone.
    """

    def __init__(self, mlflow: Connection, search: RunSearch, *, is_gated: bool = False) -> None:
        self._mlflow = mlflow
        self._search = search
        self._is_gated = is_gated
        self._points: dict[tuple[str, str], list[MetricPoint]] = {}
        """By run and key, what was read so far, by step."""
        self._latest: dict[tuple[str, str], Latest] = {}

    def read(
        self, run_ids: Mapping[int, str], records: Sequence[TrialRecord], metric: str, home: str
    ) -> dict[int, tuple[MetricPoint, ...]]:
        """Return all points of the trials that have new ones, by trial and step.

        Args:
            run_ids: The trials' runs.
            records: The trials that run now; of others nothing is kept.
            metric: Its name in the study.
            home: The experiment of the trials' runs.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        key = keys.key_for(metric)
        found = self._own_runs(list(run_ids.values()), home)
        sources = {
            number: found[run_id]
            for number, run_id in run_ids.items()
            if run_id in found and key in found[run_id].data.metrics
        }
        others = [record for record in records if record.number not in sources]
        sources |= self._other_runs(others, run_ids, key, home)
        kept = {(str(run.info.run_id), key) for run in sources.values()}
        for known in (self._points, self._latest):
            for gone in known.keys() - kept:
                del known[gone]
        news: dict[int, tuple[MetricPoint, ...]] = {}
        repeated = {record.number for record in records if record.attempt > 1}
        for number, run in sources.items():
            points = self._read_run(run, metric, key, is_repeated=number in repeated)
            if points is not None:
                news[number] = points
        return news

    def _own_runs(self, run_ids: Sequence[str], home: str) -> dict[str, Any]:
        runs: dict[str, Any] = {}
        for first in range(0, len(run_ids), RUNS_PER_SEARCH):
            some = run_ids[first : first + RUNS_PER_SEARCH]
            runs |= {str(run.info.run_id): run for run in self._search.of_ids(some, home)}
        return runs

    def _other_runs(
        self, records: Sequence[TrialRecord], run_ids: Mapping[int, str], key: str, home: str
    ) -> dict[int, Any]:
        """Return the one run beside each trial's own that has a metric, where there is just one."""
        wanted = {run_ids[r.number]: r for r in records if r.run_id and r.number in run_ids}
        if not wanted:
            return {}
        began = min(record.started_at or 0.0 for record in wanted.values())
        having: dict[int, list[Any]] = {}
        for run in self._search.by_scripts(int(1000 * began), home if self._is_gated else None):
            record = wanted.get(run.data.tags.get(TRIAL_RUN_TAG, ""))
            if record is not None and key in run.data.metrics and _is_of(record, run):
                having.setdefault(record.number, []).append(run)
        return {number: runs[0] for number, runs in having.items() if len(runs) == 1}

    def _read_run(
        self, run: Any, metric: str, key: str, *, is_repeated: bool
    ) -> tuple[MetricPoint, ...] | None:
        """Return all points of a run; `None` when nothing is new.

        Args:
            run: MLflow's run.
            metric: The metric's name in the study.
            key: Its key in MLflow.
            is_repeated: Whether an earlier attempt may have logged higher steps, which are the
                run's latest while this one catches up.
        """
        source = (str(run.info.run_id), key)
        latest, known = latest_points(run)[key], self._latest.get(source)
        if latest == known and not is_repeated:
            return None
        if not is_repeated and known is not None and latest.step == known.step + 1:
            value = read_value(latest.value)
            point = MetricPoint(metric, latest.step, value, latest.timestamp_ms)
            self._points[source].append(point)
        else:
            with self._mlflow.client() as client:
                history = client.get_metric_history(*source)
            points = [
                MetricPoint(metric, m.step, read_value(m.value), m.timestamp) for m in history
            ]
            self._points[source] = sorted(points, key=lambda p: (p.step, p.timestamp_ms))
        self._latest[source] = latest
        return tuple(self._points[source])


def _is_of(record: TrialRecord, run: Any) -> bool:
    return bool(run.data.tags.get(ATTEMPT_TAG) == str(record.attempt))
