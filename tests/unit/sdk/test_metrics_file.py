"""The file that reports are appended to."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from studyflow.sdk import metrics_file as module
from studyflow.sdk.metrics_file import MetricsFile
from studyflow.trial import MetricPoint

POINT = MetricPoint("loss", 3, 0.5, 1_000)


def steps(path: Path) -> list[int]:
    return [MetricPoint.from_json(line).step for line in path.read_text().splitlines()]


def test_each_report_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(str(path))
    file.append([POINT])
    file.append([MetricPoint("loss", 4, 0.25, 2_000)])
    assert steps(path) == [3, 4]
    assert file.lost == ""


@pytest.mark.fault("F59")
def test_a_torn_line_is_an_error_and_the_next_report_begins_a_line_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(str(path))

    def tear(descriptor: int, content: bytes) -> None:
        os.write(descriptor, content[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_all", tear)
        with pytest.raises(OSError, match="report: the step cannot be written"):
            file.append([POINT])
    assert file.lost == "No space left on device"

    file.append([POINT])

    assert MetricPoint.from_json(path.read_text().splitlines()[1]) == POINT
    assert file.lost == ""


def test_a_file_that_cannot_be_opened_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = MetricsFile(str(tmp_path / "missing" / "metrics.jsonl"))
    file.append([POINT])
    file.append([POINT])
    assert capsys.readouterr().err.count("metrics cannot be written") == 1
    assert file.lost == "No such file or directory"
