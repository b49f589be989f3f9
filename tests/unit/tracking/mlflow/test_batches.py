"""Requests that MLflow accepts."""

from __future__ import annotations

from studyflow.tracking.mlflow.batches import Batch, batches, pieces
from studyflow.tracking.mlflow.documents import Point


def test_batches_are_bounded_in_number_and_size() -> None:
    assert [len(piece) for piece in pieces({str(i): "" for i in range(250)})] == [100, 100, 50]
    assert [len(piece) for piece in pieces({str(i): "値" * 6000 for i in range(30)})] == [
        11,
        11,
        8,
    ]


def test_metrics_leave_room_for_parameters_and_tags_and_tags_go_last() -> None:
    metrics = [Point("loss", 0.5, 1, step) for step in range(1700)]
    params = {f"p{i}": "" for i in range(150)}
    tags = {f"t{i}": "" for i in range(101)}
    sent = batches(metrics, params, tags)
    assert [(len(b.metrics), len(b.params), len(b.tags)) for b in sent] == [
        (800, 100, 0),
        (800, 50, 0),
        (100, 0, 100),
        (0, 0, 1),
    ]


def test_metrics_alone_fill_a_request() -> None:
    metrics = [Point("loss", 0.5, 1, step) for step in range(1001)]
    assert [len(batch.metrics) for batch in batches(metrics, {}, {})] == [1000, 1]


def test_nothing_to_log_is_one_empty_request_that_shows_whether_the_run_is_there() -> None:
    assert batches([], {}, {}) == [Batch()]
