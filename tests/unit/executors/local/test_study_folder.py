"""A study's folder: its attempts by name, its site, and what becomes of it when it is removed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from studyflow.errors import ExecutorUnavailable
from studyflow.executors import AttemptId
from studyflow.executors.local import site_of
from studyflow.executors.local.study_folder import StudyFolder


def test_open_attempts_are_those_with_an_entry_whatever_else_lies_beside_it(
    tmp_path: Path,
) -> None:
    folder = StudyFolder(tmp_path / "root")
    for attempt in (AttemptId(0, 1), AttemptId(12, 3)):
        folder.open_entry(attempt)
    (tmp_path / "root" / "open" / "junk").touch()
    (tmp_path / "root" / "open" / "1-x").touch()

    assert folder.open_attempts() == {AttemptId(0, 1), AttemptId(12, 3)}
    folder.close_entry(AttemptId(0, 1))
    folder.close_entry(AttemptId(0, 1))
    assert not folder.has_entry(AttemptId(0, 1))
    assert folder.open_attempts() == {AttemptId(12, 3)}
    folder.close()


def test_a_site_is_the_folder_s_own_and_is_read_without_making_one(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    assert site_of(first) is None
    sites = {StudyFolder(first).site, StudyFolder(second).site, StudyFolder(first).site}

    assert len(sites) == 2
    assert site_of(first) == StudyFolder(first).site
    assert (first / "place").read_text() in sites.pop() + sites.pop()


def test_a_folder_that_was_removed_is_made_again_with_its_site(tmp_path: Path) -> None:
    kept: list[bool] = []
    root = tmp_path / "root"
    folder = StudyFolder(root, lambda: kept.append(root.is_dir()))
    site = folder.site
    shutil.rmtree(root)
    assert not folder.is_there()

    folder.restore()

    assert folder.is_there()
    assert kept == [True]
    assert site_of(root) == site
    assert folder.open_attempts() == set()


def test_a_folder_that_was_moved_is_not_made_again(tmp_path: Path) -> None:
    root = tmp_path / "root"
    folder = StudyFolder(root)
    root.rename(tmp_path / "elsewhere")

    with pytest.raises(ExecutorUnavailable, match="was moved"):
        folder.restore()
    assert not root.exists()


def test_a_folder_that_was_closed_is_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "root"
    folder = StudyFolder(root)
    folder.close()
    shutil.rmtree(root)

    folder.restore()

    assert not root.exists()
