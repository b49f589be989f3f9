"""A report in a process of its own is the same report, and its failure is a message."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.reports.studies import START, STUDIES

from studyflow.reports import StudyData, apart, build_report
from studyflow.reports.apart import build_report_apart, is_for_apart


def test_a_report_written_apart_has_the_same_bytes(tmp_path: Path) -> None:
    data = STUDIES["usual"]()
    links = {"MLflow": "http://mlflow:5000/x"}

    here = build_report(data, tmp_path / "here", links=links, generated_at=START)
    there = build_report_apart(data, tmp_path / "there", links=links, generated_at=START)

    assert there.html.read_bytes() == here.html.read_bytes()
    assert there.omitted == here.omitted
    assert list(there.figures) == list(here.figures)
    written = {path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*")}
    assert written == {p.relative_to(tmp_path / "there") for p in (tmp_path / "there").rglob("*")}


def test_a_report_that_cannot_be_written_apart_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(RuntimeError, match=r"(?s)ended with 1: .*(NotADirectory|FileExists)Error"):
        build_report_apart(STUDIES["no trial"](), tmp_path / "file", links={}, generated_at=START)


def test_only_a_long_study_without_a_model_is_reported_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = STUDIES["usual"]()
    n_trials = len(data.records)
    modelled = [replace(data.records[0], suggestion={"rung": "model"}), *data.records[1:]]

    monkeypatch.setattr(apart, "MANY_TRIALS", n_trials)
    assert not is_for_apart(data)
    monkeypatch.setattr(apart, "MANY_TRIALS", n_trials - 1)
    assert is_for_apart(data)
    assert not is_for_apart(StudyData(data.spec, tuple(modelled)))
