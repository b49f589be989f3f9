"""The folder that artifacts are copied to."""

from __future__ import annotations

from pathlib import Path

import pytest

from studyflow.sdk.artifact_folder import ARTIFACT_WARNINGS, ArtifactFolder


def test_a_copy_replaces_an_earlier_one_of_its_name(tmp_path: Path) -> None:
    folder, model = ArtifactFolder(tmp_path / "artifacts"), tmp_path / "model.bin"
    for content in ("first", "second"):
        model.write_text(content)
        copy = folder.keep(model, Path("best/model.bin"))
    assert copy == tmp_path / "artifacts" / "best" / "model.bin"
    assert copy.read_text() == "second"
    assert [path.name for path in copy.parent.iterdir()] == ["model.bin"]


def test_what_is_in_the_folder_already_is_its_own_copy(tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    (artifacts / "model.bin").write_text("x")
    kept = ArtifactFolder(artifacts).keep(artifacts / "model.bin", Path("model.bin"))
    assert kept == artifacts / "model.bin"


def test_what_is_left_out_is_told_once_and_never_in_too_many_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ArtifactFolder(tmp_path / "artifacts")
    for number in range(ARTIFACT_WARNINGS + 5):
        run = tmp_path / f"run{number}"
        run.mkdir()
        (run / f"nowhere{number}").symlink_to(tmp_path / "missing")
        folder.keep(run, Path("run"))
        folder.keep(run, Path("run"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == ARTIFACT_WARNINGS
    assert "nowhere0" in lines[0]


def test_a_folder_that_was_replaced_by_a_link_gets_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "artifacts").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "model.bin").write_text("x")
    kept = ArtifactFolder(tmp_path / "artifacts").keep(tmp_path / "model.bin", Path("model.bin"))
    assert kept == tmp_path / "model.bin"
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert "replaced by a link" in capsys.readouterr().err
