"""A published checkpoint is given out only as it was published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studyflow.sdk.manifest import (
    MANIFEST,
    DamagedCheckpointError,
    read_checkpoint,
    write_manifest,
)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    (tmp_path / "files/layers").mkdir(parents=True)
    (tmp_path / "files/model.pt").write_bytes(b"weights")
    (tmp_path / "files/layers/1.pt").write_bytes(b"")
    write_manifest(tmp_path, step=7, attempt=2, now=1000.5)
    return tmp_path


def change(folder: Path, **changes: Any) -> None:
    document = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**document, **changes}))


def test_a_whole_checkpoint_says_its_step_attempt_and_time(published: Path) -> None:
    found = read_checkpoint(published)

    assert found.path == published / "files"
    assert (found.step, found.attempt, found.published_at) == (7, 2, 1000.5)


def test_files_that_came_later_do_no_harm(published: Path) -> None:
    (published / "files/cache").write_text("made by a library")
    change(published, later="a field of a later version")

    assert read_checkpoint(published).step == 7


def test_nothing_saved_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "files/empty").mkdir(parents=True)
    (tmp_path / "files/link").symlink_to("nowhere")

    with pytest.raises(ValueError, match="nothing was saved"):
        write_manifest(tmp_path, step=0, attempt=1, now=0.0)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"weight", "model.pt has 6 bytes, and was published with 7"),
        (b"weighty", "model.pt has another content than was published"),
        (None, "model.pt cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_is_not_as_it_was_published_is_named(
    published: Path, content: bytes | None, told: str
) -> None:
    path = published / "files/model.pt"
    path.unlink() if content is None else path.write_bytes(content)

    with pytest.raises(DamagedCheckpointError, match=told):
        read_checkpoint(published)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "layers/../../secret"])
def test_a_manifest_that_leads_out_of_its_folder_is_refused(published: Path, name: str) -> None:
    (published / "secret").write_bytes(b"")
    change(published, files={name: {"bytes": 0, "crc32": 0}})

    with pytest.raises(DamagedCheckpointError, match="its manifest names"):
        read_checkpoint(published)


def test_a_manifest_of_a_later_version_says_which_are_read(published: Path) -> None:
    change(published, version=2)

    with pytest.raises(DamagedCheckpointError, match=r"version '2', and this studyflow reads .* 1"):
        read_checkpoint(published)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"version": 1, "files": [], "step": 0}',
        b'{"version": 1, "files": {"a": 3}, "step": 0, "attempt": 1, "published_at": 0}',
        b'{"version": 1, "files": {}, "step": 1e999, "attempt": 1, "published_at": 0}',
        b'{"version": 1, "files": {}, "step": 0, "attempt": 1, "published_at": 1%s}' % (b"0" * 400),
    ],
)
def test_a_damaged_manifest_is_told_and_never_an_error_of_its_own(
    published: Path, text: bytes
) -> None:
    (published / MANIFEST).write_bytes(text)

    with pytest.raises(DamagedCheckpointError, match="its manifest is damaged"):
        read_checkpoint(published)


def test_a_manifest_that_is_gone_or_no_file_is_told(published: Path) -> None:
    (published / MANIFEST).unlink()
    with pytest.raises(DamagedCheckpointError, match="cannot be read"):
        read_checkpoint(published)
    (published / MANIFEST).mkdir()
    with pytest.raises(DamagedCheckpointError, match="its manifest"):
        read_checkpoint(published)
