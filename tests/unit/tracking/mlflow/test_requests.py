"""How many requests MLflow gets for a trial. Counted, for a server may take a second for each."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.prepared import put_mlflow_database

from studyflow.testing.tracker_contract import card, complete, points, running
from studyflow.tracking.mlflow import MLflowTracker, client, embedded_uri
from studyflow.trial.record import TrialRecord

pytestmark = pytest.mark.slow


class Counting:
    """MLflow's client, which counts its calls."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def call(*given: Any, **named: Any) -> Any:
            self.calls[name] += 1
            return method(*given, **named)

        return call


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counting:
    put_mlflow_database(tmp_path)
    counting = Counting(client.connect(embedded_uri(tmp_path)))
    monkeypatch.setattr(client, "connect", lambda uri: counting)
    return counting


@pytest.fixture
def tracker(tmp_path: Path, mlflow: Counting) -> MLflowTracker:
    opened = MLflowTracker(embedded_uri(tmp_path), "demo")
    opened.open_study(card())
    mlflow.calls.clear()
    return opened


def begun(number: int) -> TrialRecord:
    """Return a trial that was asked for just now."""
    return dataclasses.replace(running(number), started_at=time.time())


def test_a_short_trial_is_shown_by_four_requests_and_its_files_by_none(
    tracker: MLflowTracker, mlflow: Counting, tmp_path: Path
) -> None:
    log = tmp_path / "trial.txt"
    log.write_text("epoch 1\n")
    ref = tracker.reserve_trial(begun(0))
    tracker.close_trial(complete(0), log=log)

    assert mlflow.calls == {"create_run": 1, "get_run": 1, "set_terminated": 1, "log_batch": 1}
    assert ref is not None
    run = mlflow.get_run(ref.run_id)
    assert run.data.params["lr"] == "0.001"
    assert run.data.tags["studyflow.synced"] == "final"
    assert [file.path for file in mlflow.list_artifacts(ref.run_id)] == ["trial.log"]


def test_a_trial_that_goes_on_shows_its_parameters_by_one_request_more(
    tracker: MLflowTracker, mlflow: Counting
) -> None:
    record = begun(0)
    tracker.reserve_trial(record)
    tracker.open_trial(record)
    tracker.open_trial(dataclasses.replace(record, attempt=2))

    assert mlflow.calls == {"create_run": 1, "log_batch": 2, "update_run": 1}, "a retry takes two"


def test_the_run_of_a_trial_that_may_have_one_is_looked_for(
    tracker: MLflowTracker, mlflow: Counting
) -> None:
    later = dataclasses.replace(begun(0), attempt=2)
    older = dataclasses.replace(begun(1), started_at=1.0)
    for record in (later, older):
        tracker.reserve_trial(record)

    assert mlflow.calls == {"search_runs": 2, "create_run": 2}


def test_running_trials_without_news_are_read_by_one_request(
    tracker: MLflowTracker, mlflow: Counting
) -> None:
    records = []
    for number in range(20):
        ref = tracker.reserve_trial(begun(number))
        assert ref is not None
        records.append(dataclasses.replace(begun(number), run_id=ref.run_id))
        tracker.log_points(records[-1], points(number))
    mlflow.calls.clear()

    assert sorted(tracker.read_running(records, "loss")) == list(range(20))
    assert mlflow.calls["get_metric_history"] == 20, "each for the first time"
    mlflow.calls.clear()
    assert tracker.read_running(records, "loss") == {}
    next_point = dataclasses.replace(points(3)[-1], step=points(3)[-1].step + 1, value=0.125)
    tracker.log_points(records[3], [next_point])
    mlflow.calls.clear()
    found = tracker.read_running(records, "loss")

    assert mlflow.calls == {"search_runs": 1}
    assert {n: p[-1] for n, p in found.items()} == {3: next_point}
    assert found[3] == tracker.read_points(records[3], "loss")


def test_steps_that_were_missed_are_read(tracker: MLflowTracker, mlflow: Counting) -> None:
    ref = tracker.reserve_trial(begun(0))
    assert ref is not None
    record = dataclasses.replace(begun(0), run_id=ref.run_id)
    tracker.log_points(record, points(0, 2))
    tracker.read_running([record], "loss")
    tracker.log_points(record, points(0, 9)[2:])
    mlflow.calls.clear()

    assert len(tracker.read_running([record], "loss")[0]) == 9
    assert mlflow.calls == {"search_runs": 1, "get_metric_history": 1}


def test_a_later_attempt_is_read_while_its_steps_are_below_those_of_the_first(
    tracker: MLflowTracker,
) -> None:
    ref = tracker.reserve_trial(begun(0))
    assert ref is not None
    first = dataclasses.replace(begun(0), run_id=ref.run_id)
    tracker.log_points(first, points(0, 9))
    tracker.read_running([first], "loss")
    second = dataclasses.replace(first, attempt=2)
    again = dataclasses.replace(points(0)[0], timestamp_ms=points(0)[0].timestamp_ms + 60_000)
    tracker.log_points(second, [again])

    assert again in tracker.read_running([second], "loss")[0]


def test_a_metric_in_a_run_that_the_script_started_itself_is_found(
    tracker: MLflowTracker, mlflow: Counting
) -> None:
    ref = tracker.reserve_trial(begun(0))
    assert ref is not None
    record = dataclasses.replace(begun(0), run_id=ref.run_id)
    tags = {"studyflow.trial_run": ref.run_id, "studyflow.attempt": "1"}
    own = mlflow.create_run("0", tags=tags, start_time=int(1000 * time.time()))
    mlflow.log_metric(own.info.run_id, "loss", 0.25, step=4)

    assert [p.value for p in tracker.read_running([record], "loss")[0]] == [0.25]
