"""A report in a process of its own is the same report, and its failure is a message."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.reports.studies import START, STUDIES

from studyflow.reports import StudyData, build_report, subprocess_report
from studyflow.reports.subprocess_report import build_report_in_subprocess, needs_subprocess


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_report_written_in_a_subprocess_has_the_same_bytes(tmp_path: Path) -> None:
    data = STUDIES["usual"]()
    links = {"MLflow": "http://mlflow:5000/x"}

    here = build_report(data, tmp_path / "here", links=links, generated_at=START)
    there = build_report_in_subprocess(data, tmp_path / "there", links=links, generated_at=START)

    assert there.html.read_bytes() == here.html.read_bytes()
    assert there.omitted == here.omitted
    assert list(there.figures) == list(here.figures)
    written = {path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*")}
    assert written == {p.relative_to(tmp_path / "there") for p in (tmp_path / "there").rglob("*")}


def test_a_report_that_cannot_be_written_in_a_subprocess_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(RuntimeError, match=r"(?s)ended with 1: .*(NotADirectory|FileExists)Error"):
        build_report_in_subprocess(
            STUDIES["no trial"](), tmp_path / "file", links={}, generated_at=START
        )


def test_only_a_long_study_without_a_model_is_reported_in_a_subprocess(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = STUDIES["usual"]()
    n_trials = len(data.records)
    modelled = [replace(data.records[0], suggestion={"rung": "model"}), *data.records[1:]]

    monkeypatch.setattr(subprocess_report, "MANY_TRIALS", n_trials)
    assert not needs_subprocess(data)
    monkeypatch.setattr(subprocess_report, "MANY_TRIALS", n_trials - 1)
    assert needs_subprocess(data)
    assert not needs_subprocess(StudyData(data.spec, tuple(modelled)))
