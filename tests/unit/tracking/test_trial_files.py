"""Metrics files: whatever a script leaves in their place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.unit.tracking.fake_runner import FakeRunner

from studyflow.testing.tracker_contract import points, running
from studyflow.tracking import trial_files
from studyflow.tracking.trial_files import missing_points, read_metrics_file


def test_a_metrics_file_may_be_torn_garbled_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    assert list(read_metrics_file(path)) == []
    good = points(0)
    path.write_bytes(
        good[0].to_json().encode()
        + b"\n\xff\xfe\nnot json\n"
        + b"x" * 10_000
        + b"\n"
        + good[1].to_json().encode()
        + b'\n["loss",2'
    )
    assert list(read_metrics_file(path)) == [good[:2]]


@pytest.mark.fault("F64")
@pytest.mark.timeout(20)
def test_what_a_script_put_in_place_of_its_metrics_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.jsonl"
    os.mkfifo(path)
    assert list(read_metrics_file(path)) == []
    path.unlink()
    path.mkdir()
    assert list(read_metrics_file(path)) == []
    monkeypatch.setattr(trial_files, "METRICS_LIMIT_BYTES", 1 << 20)
    (tmp_path / "endless").touch()
    os.truncate(tmp_path / "endless", 1 << 40)
    assert list(read_metrics_file(tmp_path / "endless")) == []


def test_points_that_are_there_are_not_sent_again(runner: FakeRunner) -> None:
    runner.memory.log_points(running(0), points(0, 1500)[:1400])
    runner.write(0, points(0, 1500))
    chunks = list(missing_points(runner.memory, running(0), runner.metrics_file(0)))
    assert [point for chunk in chunks for point in chunk] == points(0, 1500)[1400:]
